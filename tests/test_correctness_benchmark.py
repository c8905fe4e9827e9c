"""The same questions to every tool: right answers and defects are told apart, a dead process ends one answer only."""

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

import landscape_lib as ll
from benchmarks import correctness
from benchmarks.correctness_suite import asking, questions
from benchmarks.correctness_suite.asking import answer, answers_of
from benchmarks.correctness_suite.page import BEGIN, END, section, with_section
from benchmarks.correctness_suite.protocol import Density, Estimate, Picture, Tool
from benchmarks.correctness_suite.protocol import Path as Between
from benchmarks.correctness_suite.questions import GROUPS, QUESTIONS
from benchmarks.correctness_suite.tools import TOOLS, Entry, functions_of_2018, toolkit

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "correctness.json"
PAGE = ROOT / "docs" / "correctness.md"
BY_NAME = {question.name: question for question in QUESTIONS}


@pytest.fixture(autouse=True)
def few_seeds(monkeypatch):
    monkeypatch.setattr(questions, "SEEDS", range(8))


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_toolkit_is_right(question):
    assert answer(toolkit.Adapter(), question)["status"] == "right"


def test_functions_of_2018_are_right_but_for_their_known_defects():
    tool = functions_of_2018.Adapter()
    statuses = {question.name: answer(tool, question)["status"] for question in QUESTIONS}
    assert {name for name, status in statuses.items() if status == "wrong"} == {"grid not square", "float64"}
    assert {name for name, status in statuses.items() if status == "differs"} == {"network unchanged"}
    assert "stopped" not in statuses.values()
    curvature = [*GROUPS["Eigenvalues"], *GROUPS["Traces, densities and products"]]
    assert {statuses[question.name] for question in curvature} == {"cannot"}


class Swapped(toolkit.Adapter):
    def surface(self, subject, directions, axes):
        picture = super().surface(subject, directions, axes)
        return dataclasses.replace(picture, loss=picture.loss.T)


class FromZero(toolkit.Adapter):
    def surface(self, subject, directions, axes):
        moved = [axis - axis[0] for axis in axes]
        return Picture(*axes, super().surface(subject, directions, moved).loss)


class Scrambled(toolkit.Adapter):
    def surface(self, subject, directions, axes):
        picture = super().surface(subject, directions, axes)
        return dataclasses.replace(picture, loss=picture.loss.T.reshape(picture.loss.shape))


class OtherAxis(toolkit.Adapter):
    def surface(self, subject, directions, axes):
        return super().surface(subject, directions, [np.linspace(-1, 1, len(axis)) for axis in axes])


class Filled(toolkit.Adapter):
    def surface(self, subject, directions, axes):
        picture = super().surface(subject, directions, axes)
        return dataclasses.replace(picture, loss=np.nan_to_num(picture.loss, nan=np.nanmean(picture.loss)))


class Rounded(toolkit.Adapter):
    def surface(self, subject, directions, axes):
        picture = super().surface(subject, directions, axes)
        return dataclasses.replace(picture, loss=picture.loss.astype(np.float32))


class OverBatches(toolkit.Adapter):
    def loss(self, subject):
        return float(np.mean([subject.loss(subject.model(x), y).item() for x, y in subject.batches]))


class Summed(toolkit.Adapter):
    def loss(self, subject):
        return super().loss(subject) * len(subject.whole[1])


class OneStepOn(toolkit.Adapter):
    def line(self, subject, other, points):
        path = super().line(subject, other, points)
        return Between(path.places, np.roll(path.loss, -1))


class ByLayer(toolkit.Adapter):
    def directions(self, subject):
        return ll.random_plane(subject.model, seed=0, normalize="layer").directions


class Everything(toolkit.Adapter):
    def directions(self, subject):
        return ll.random_plane(subject.model, seed=0, ignore=()).directions


class NotOrthogonal(toolkit.Adapter):
    def directions(self, subject):
        return ll.random_plane(subject.model, seed=0).directions


class MovedStatistics(functions_of_2018.Adapter):
    def random_picture(self, subject, seed):
        subject.model[1].running_var.mul_(1.1)
        return super().random_picture(subject, seed)


class TrainingMode(functions_of_2018.Adapter):
    differs: ClassVar[dict[str, str]] = {}

    def random_picture(self, subject, seed):
        subject.model.train()(subject.whole[0])
        return np.zeros((3, 3))


class OneSeed(toolkit.Adapter):
    def random_picture(self, subject, seed):
        return super().random_picture(subject, 0)


class NoWeights(toolkit.Adapter):
    def weighted_loss(self, subject, weights):
        return self.loss(subject)


class OneOfEach(toolkit.Adapter):
    def eigenvalues(self, subject, count):
        return super().eigenvalues(subject, 2 * count)[::2]


class PositiveOnly(toolkit.Adapter):
    def eigenvalues(self, subject, count):
        return np.sort(super().eigenvalues(subject, 8))[::-1][:count]


class FirstBatch(toolkit.Adapter):
    def eigenvalues(self, subject, count):
        return super().eigenvalues(dataclasses.replace(subject, batches=subject.batches[:1]), count)


class SingleEigenvalue(toolkit.Adapter):
    def eigenvalues(self, subject, count):
        return super().eigenvalues(subject, count) * (1 + 1e-7)


class Hasty(toolkit.Adapter):
    def trace(self, subject, seed):
        vector = torch.randint(2, (60,), generator=torch.Generator().manual_seed(seed)).mul(2).sub(1).float()
        value = float(vector @ self.hessian_product(subject, vector).float())
        return Estimate(value, error=0.05 * abs(value))


class Unweighted(toolkit.Adapter):
    def density(self, subject, seed):
        density = super().density(subject, seed)
        return Density(density.nodes, np.full_like(density.weights, 1 / density.nodes.shape[1]), density.probes)


class Swollen(toolkit.Adapter):
    def density(self, subject, seed):
        density = super().density(subject, seed)
        return dataclasses.replace(density, weights=1.1 * density.weights)


class OneMatrix(toolkit.Adapter):
    def hessian_product(self, subject, vector):
        return super().ggn_product(subject, vector)

    def ggn_product(self, subject, vector):
        return super().hessian_product(subject, vector)


class LeftMoved(toolkit.Adapter):
    def eigenvalues(self, subject, count):
        values = super().eigenvalues(subject, count)
        with torch.no_grad():
            next(subject.model.parameters()).add_(1e-6)
        return values


DEFECTS = {
    "given directions": Swapped,
    "ranges": FromZero,
    "grid not square": Scrambled,
    "mean over samples": OverBatches,
    "ln K": Summed,
    "line between networks": OneStepOn,
    "filter norms": ByLayer,
    "biases and BatchNorm": Everything,
    "BatchNorm statistics": MovedStatistics,
    "orthogonal directions": NotOrthogonal,
    "network unchanged": TrainingMode,
    "float64": Rounded,
    "NaN": Filled,
    "seeds": OneSeed,
    "weighted loss": NoWeights,
    "softmax regression": OneOfEach,
    "negative eigenvalues": PositiveOnly,
    "unequal batches": FirstBatch,
    "trace": Hasty,
    "negative trace": Hasty,
    "mean of the density": Swollen,
    "mean square of the density": Unweighted,
    "Hessian product": OneMatrix,
    "Gauss-Newton product": OneMatrix,
    "float64 eigenvalue": SingleEigenvalue,
    "network after eigenvalues": LeftMoved,
}


@pytest.mark.parametrize("name", BY_NAME)
def test_defect_is_told(name):
    reply = answer(DEFECTS[name](), BY_NAME[name])
    assert reply["status"] == "wrong" and reply["comparisons"]


def test_other_axes_than_asked_for_are_told():
    assert answer(OtherAxis(), BY_NAME["ranges"])["status"] == "wrong"


def test_own_definition_does_not_count_and_an_error_is_the_answer():
    defined = type("Defined", (ByLayer,), {"differs": {"filter norms": "by layer"}})()
    reply = answer(defined, BY_NAME["filter norms"])
    assert (reply["status"], reply["remark"]) == ("differs", "by layer")
    broken = type("Broken", (Tool,), {"loss": lambda self, subject: 1 / 0})()
    reply = answer(broken, BY_NAME["ln K"])
    assert reply["status"] == "stopped" and "ZeroDivisionError" in reply["found"]
    lost = type("Lost", (Tool,), {"loss": lambda self, subject: Path(ROOT / "x" / ("y" * 200)).read_text()})()
    text = answer(lost, BY_NAME["ln K"])["found"]
    assert str(ROOT) not in text and len(text) <= 160
    assert answer(Tool(), BY_NAME["ln K"])["status"] == "cannot"


FRAGILE = """
import os
from benchmarks.correctness_suite.tools import functions_of_2018

class Adapter(functions_of_2018.Adapter):
    def loss(self, subject):
        print("last words", file=__import__("sys").__stderr__, flush=True)
        os._exit(3)
"""


def test_crash_ends_one_answer_only(tmp_path, monkeypatch):
    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    asked = [BY_NAME[name] for name in ("given directions", "ln K")]
    reply = answers_of(Entry("fragile", "fragile", "breaks"), tmp_path, 300, asked)["answers"]
    assert [(one["question"], one["status"]) for one in reply] == [("given directions", "right"), ("ln K", "crashed")]
    assert reply[1]["found"] == "last words"


def test_question_in_progress_is_the_time_out(tmp_path, monkeypatch):
    calls = []

    def run(command, *, timeout, **options):
        calls.append(command[5:])
        if len(calls) == 1:
            Path(command[4]).write_text(json.dumps({"question": command[5], "status": "right", "found": ""}) + "\n")
            raise subprocess.TimeoutExpired(command, timeout)
        asking.main(*command[3:])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(asking.subprocess, "run", run)
    asked = [BY_NAME[name] for name in ("given directions", "ln K", "filter norms")]
    reply = answers_of(TOOLS[1], tmp_path, 7, asked)["answers"]
    assert [one["status"] for one in reply] == ["right", "time-out", "right"]
    assert reply[1]["found"] == "no answer in 7 s"
    assert calls == [[q.name for q in asked], ["filter norms"]]


@pytest.mark.parametrize(
    ("package", "reason"),
    [("no-such-package", "no-such-package is not installed"), (None, "its adapter does not load: ModuleNotFoundError")],
)
def test_missing_package_or_adapter_is_skipped(package, reason, tmp_path, monkeypatch):
    def run(command, **options):
        asking.main(*command[3:])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(asking.subprocess, "run", run)
    reply = answers_of(Entry("ghost", "ghost", "not there", package, "no_such_module"), tmp_path, 7)
    assert reply["answers"] == [] and reply["version"] is None and reason in reply["skipped"]


def test_page_and_results_agree_and_cover_all_tools_and_questions():
    results, page = json.loads(RESULTS.read_text()), PAGE.read_text(encoding="utf-8")
    assert with_section(page, results) == page
    assert list(results["tools"]) == [entry.name for entry in TOOLS]
    for entry in TOOLS:
        record = results["tools"][entry.name]
        assert record["use"] == entry.use
        assert [one["question"] for one in record["answers"]] == [question.name for question in QUESTIONS]
    assert {one["status"] for one in results["tools"]["this toolkit"]["answers"]} == {"right"}


def test_page_names_what_deviates():
    def tool(status, **rest):
        return {
            "version": "1",
            "use": "",
            "answers": [{"question": q.name, "status": status} | rest for q in QUESTIONS],
        }

    absent = {"version": None, "use": "", "skipped": "not installed", "answers": []}
    lost, wrong = tool("time-out", found="a | b"), tool("wrong", found="deviation 3", remark="why")
    environment = {"date": "2026-01-02T03", "commit": "abc", "versions": {"torch": "2.9", "python": "3.11"}}
    text = section(
        {
            "environment": environment,
            "tools": {"good": tool("right", found=""), "lost": lost, "bad": wrong, "ghost": absent},
        }
    )
    assert "| good | yes | yes | yes |" in text and "| lost | stops | stops | stops |" in text
    assert "| ln K | lost | a \\| b | stops |" in text and "| ln K | bad | why; deviation 3 | **no** |" in text
    assert "Asked on 2026-01-02, commit abc, with torch 2.9 and Python 3.11." in text
    assert "| ghost |  | not asked: not installed |" in text
    assert text.startswith(BEGIN) and text.endswith(END)


def test_answers_of_tools_that_are_not_asked_again_are_kept(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")

    def reply(entry, folder, seconds):
        answers = [{"question": question.name, "status": "right", "found": ""} for question in QUESTIONS]
        return {"version": entry.version, "use": f"{entry.use}, {seconds} s", "answers": answers}

    monkeypatch.setattr(correctness, "answers_of", reply)
    correctness.main(("this toolkit", "2018 tool"), out=tmp_path, page=page, seconds=5)
    correctness.main(("2018 tool",), out=tmp_path, page=page, seconds=6)
    tools = json.loads((tmp_path / "correctness.json").read_text())["tools"]
    assert [tool["use"][-3:] for tool in tools.values()] == ["5 s", "6 s"]
    text = page.read_text()
    assert text.startswith("before\n\n") and text.endswith("\n\nafter\n") and "old" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tools": ("no-tool",)}, "unknown tools: no-tool; known are this toolkit, 2018 tool"),
        ({"seconds": 0.0}, "must be positive, but is 0 s"),
        ({"page": Path("no-page.md")}, "no-page.md has no part to write anew"),
    ],
)
def test_bad_options_are_refused_before_the_work(options, message, tmp_path, monkeypatch):
    monkeypatch.setattr(correctness, "answers_of", None)
    with pytest.raises(ll.InputError, match=message):
        correctness.main(**({"out": tmp_path, "page": PAGE} | options))
    assert not list(tmp_path.iterdir())
