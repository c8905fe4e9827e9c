"""Statistics and reports of a study: numbers by hand, equal bytes for equal records, sentences that follow them."""

import dataclasses
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from landscape.storage.records import clear_record, made_once, plain, read_record, record_fault, write_record
from landscape.studies.kit.statistics import Spread, compare, rank_correlation, sign_test
from landscape.studies.matrix.reports import write_reports
from landscape.studies.matrix.runs import GROUP, PROBES, StudyRun, find_runs

ROOT = Path(__file__).parents[1]


def test_mean_and_standard_deviation_are_those_of_finite_values():
    spread = Spread.of([1.0, 2.0, 4.0, None, math.inf])
    assert spread.mean == pytest.approx(7 / 3) and spread.missing == 2
    assert spread.deviation == pytest.approx(math.sqrt(((4 / 3) ** 2 + (1 / 3) ** 2 + (5 / 3) ** 2) / 2))
    assert str(spread) == "2.333 ± 1.5 (2 missing)"
    assert str(Spread.of([0.5])) == "0.5" and str(Spread.of([])) == "-" and str(Spread.of([None])) == "- (1 missing)"


def test_the_rank_correlation_is_that_of_squared_rank_differences():
    a, b = [1.0, 5.0, 3.0, 9.0, 7.0, 11.0, None, math.nan], [10.0, 30.0, 20.0, 40.0, 60.0, 50.0, 1.0, 2.0]
    found = rank_correlation(a, b)
    ranks = [(1, 1), (3, 3), (2, 2), (5, 4), (4, 6), (6, 5)]
    expected = 1 - 6 * sum((x - y) ** 2 for x, y in ranks) / (6 * 35)
    assert found.value == pytest.approx(expected) and found.count == 6
    reach = 1.959963984540054 * math.sqrt((1 + expected**2 / 2) / 3)
    low, high = (math.tanh(math.atanh(expected) + sign * reach) for sign in (-1, 1))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert "no relation can be told" in found.reading  # the interval of six pairs holds zero
    many = [float(k) for k in range(40)]
    assert rank_correlation(many, [-x + 3 * (x % 2) for x in many]).reading.startswith("larger goes with smaller")
    assert rank_correlation(many, many).reading.startswith("larger goes with larger")
    assert rank_correlation(many, [1.0] * 40).reading == "one of both is the same everywhere"
    assert rank_correlation(a[:3], b[:3]).reading == "too few settings to tell"


def test_the_sign_test_is_the_binomial_sum():
    pairs = [(0, 1)] * 7 + [(1, 0)] + [(1, 1), (math.nan, 0)]
    assert sign_test(pairs) == (7, 8, pytest.approx(2 * (1 + 8) / 2**8))
    assert compare("A", "B", pairs) == "no clear difference (larger for B in 7 of 8)"
    assert compare("A", "B", pairs[:6]) == "larger for B (in 6 of 6, p = 0.03125)"
    assert compare("A", "B", [(1, 0)] * 6) == "larger for A (in 6 of 6, p = 0.03125)"
    assert compare("A", "B", [(1, 1)]) == "nothing to compare"


def test_records_serve_only_as_a_whole_and_for_their_recipe(tmp_path, capsys):
    path, file = tmp_path / "a" / "record.json", tmp_path / "a" / "deep" / "x.bin"

    def make(folder):
        assert sorted(p.name for p in folder.rglob("*") if p.is_file()) in ([], ["other.txt"])
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"content")
        return {"value": 3}, [file]

    def made(recipe):
        new = made_once(path, recipe, make, {"learning_rate": "lr"})
        return new, capsys.readouterr().out

    recipe = {"k": (1, 2), "lr": 0.1}
    assert read_record(path) is None and record_fault(path) == "there is no record, or a damaged one"
    assert made(recipe) == (True, "") and made(recipe) == (False, "") and record_fault(path) is None
    assert record_fault(path, {"k": [1, 3], "lr": 0.1}) == "its k is [1, 2], not [1, 3]"
    (tmp_path / "a" / "other.txt").touch()
    assert made({**recipe, "lr": 0.2}) == (True, f"{path} is computed again: its lr is 0.1, not 0.2\n")
    file.write_bytes(b"other")
    assert made({**recipe, "lr": 0.2}) == (True, f"{path} is computed again: its file deep/x.bin was changed\n")
    file.unlink()
    assert made({**recipe, "lr": 0.2}) == (True, f"{path} is computed again: its file deep/x.bin is missing\n")
    for text in ("", "[]", '{"recipe": {}}', '{"recipe": 1, "files": {}}', '{"recipe": {}, "files": {"deep/x.bin": ""'):
        path.write_text(text)
        assert record_fault(path) == "there is no record, or a damaged one"
    write_record(path, {"k": [1, 2], "learning_rate": 0.1}, {}, [file])  # of an earlier version
    assert made(recipe) == (False, "")
    clear_record(path)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["other.txt"]


def fixed_runs(root) -> list[StudyRun]:
    """Twelve runs with made-up numbers: 2 x 100 and 4 x 100, two activations, three seeds; one without probes."""
    runs = []
    for a, (name, depth) in enumerate([("medium", 2), ("deep-small", 4)]):
        for b, activation in enumerate(["relu", "tanh"]):
            group = f"dataset=moons/arch={name}/act={activation}/opt=sgd"
            for seed in range(3):
                place = f"{group}/seed={seed}"
                test_loss = 0.2 + 0.1 * a + 0.02 * b + 0.01 * seed
                summary = {
                    "place": place, "dataset": "moons", "architecture": name, "depth": depth, "width": 100,
                    "activation": activation, "optimizer": "sgd", "seed": seed, "parameters": 1000 * depth,
                    "checkpoints": {"0": "checkpoints/init.pth"}, "recipe": {"training": {"seed": seed}},
                    "final": {"train_loss": 0.1, "test_loss": test_loss, "train_accuracy": 0.9, "test_accuracy": 0.8},
                }  # fmt: skip
                probes = {
                    "interpolation": {"value": 0.0, "monotone": seed > 0},
                    "random_rise": {"random_line": 0.1, "random_plane": 0.2},
                    "curvature": {
                        "largest_eigenvalue": None if (a, b, seed) == (0, 0, 2) else 2.0 - a - 0.5 * b,
                        "trace": 5.0, "eigenvalues_converged": True, "trace_converged": False,
                    },
                    "sharpness": {"sam": {"value": 0.01 * seed}},
                }  # fmt: skip
                if (a, b, seed) != (1, 1, 2):
                    (root / place / "probes").mkdir(parents=True)
                    write_record(root / place / PROBES, {}, probes)
                runs.append(StudyRun(root, summary))
            pairs = [{way: {"value": value} for way, value in (("line", 0.3), ("aligned", 0.1), ("curve", 0.0))}] * 3
            (root / group / "group").mkdir(parents=True)
            paths = {"together": {"explained_variance": [0.75, 0.125], "share_off_plane": 0.25, "paths": ["seed 0"]}}
            rest = {"pairs": pairs} if a == 0 else {"pairs": [], "failed": "no way"}
            write_record(root / group / GROUP, {}, {**rest, "paths": paths})
    return runs


def test_reports_of_fixed_records_have_the_numbers_and_the_same_bytes(tmp_path):
    runs = fixed_runs(tmp_path / "experiments")
    figures = tmp_path / "figures"
    picture = figures / runs[0].place / "interpolation.png"
    picture.parent.mkdir(parents=True)
    picture.touch()
    written = write_reports(runs, {"dataset=moons/x": "not whole"}, figures, tmp_path / "one")
    assert [path.name for path in written] == [
        "summary.md", "depth_study.md", "width_study.md", "activation_study.md", "optimizer_study.md",
        "connectivity_study.md", "index.html",
    ]  # fmt: skip
    again = write_reports(list(reversed(runs)), {"dataset=moons/x": "not whole"}, figures, tmp_path / "two")
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]

    texts = {path.name: path.read_text() for path in written}
    summary = texts["summary.md"]
    assert "12 networks in 4 groups of seeds." in summary and "- dataset=moons/x: not whole" in summary
    assert "- dataset=moons/arch=deep-small/act=tanh/opt=sgd/seed=2: there are no probes" in summary
    assert "| moons | medium | 2 x 100 | relu | sgd | 3 | 0.8 ± 0 | 0.21 ± 0.01 | 0.1 ± 0 | 0.11 ± 0.01 |" in summary
    assert "| 2 ± 0 (1 missing) | 5 ± 0 | 0.2 ± 0 | 0 ± 0 | 0.01 ± 0.01 |" in summary
    assert "for 7 of 11 networks" in summary and "for 11 of 11 networks" in summary and "asked for at 0;" in summary
    # Ranks of the means: eigenvalue 4 3 2 1 against test loss 1 2 3 4.
    assert "| largest eigenvalue | test loss | -1.00 | 4 | too few settings to tell |" in summary
    assert f"(../figures/{runs[0].place}/interpolation.png)" in summary and "slices.png" not in summary
    shown = re.sub(r"<script>.*?</script>", "", "".join(texts.values()), flags=re.DOTALL)
    assert "nan" not in shown.lower().replace("finance", "")

    depth = texts["depth_study.md"]
    assert "| 2 | 4 | test loss | no clear difference (larger for depth 4 in 2 of 2) |" in depth
    assert "| 2 | 4 | test accuracy | nothing to compare |" in depth
    assert (
        "| relu | tanh | largest eigenvalue | no clear difference (larger for activation tanh in 0 of 2) |"
        in (texts["activation_study.md"])
    )
    for name in ("width", "optimizer"):
        assert "nothing is compared" in texts[f"{name}_study.md"]
    connectivity = texts["connectivity_study.md"]
    assert "| moons, medium, relu, sgd | 3 | 0.3 ± 0 | 0.1 ± 0 | 0 ± 0 |" in connectivity
    assert "- moons, deep-small, relu, sgd: no way\n- moons, deep-small, tanh, sgd: no way" in connectivity
    assert "fewer than two seeds" not in connectivity
    assert "75.0% and 12.5% of their variance; off the plane by up to 25.0%" in connectivity
    for name in list(texts)[:-1]:
        assert f'<a href="{name}">' in texts["index.html"]
    assert f'<a href="../figures/{runs[0].place}/interpolation.png">' in texts["index.html"]


HOSTILE = "<script>alert(1)</script> | [x](javascript:alert(1)) ![y](http://z)\n\n# head `code` *b* $m$ \ud800"


def test_edited_records_reach_no_report_as_markup(tmp_path):
    """Names, seeds, titles and reasons come from JSON that anyone may have edited."""
    runs = []
    for run in fixed_runs(tmp_path / "experiments"):
        words = {key: f"{run.summary[key]}{HOSTILE}" for key in ("dataset", "architecture", "activation", "optimizer")}
        recipe = {"training": {"lr": HOSTILE, "seed": 0}, "dataset": HOSTILE}
        runs.append(dataclasses.replace(run, summary={**run.summary, **words, "recipe": recipe}))
    record = tmp_path / "experiments" / runs[0].group / GROUP
    found = json.loads(record.read_text())
    paths = {HOSTILE: {"explained_variance": [0.7, 0.1], "share_off_plane": 0.2, "paths": []}}
    record.write_text(json.dumps({**found, "failed": HOSTILE, "paths": paths}))
    place = tmp_path / "figures" / runs[0].place
    place.mkdir(parents=True)
    (place / "interpolation.png").touch()
    for path in write_reports(runs, {HOSTILE: HOSTILE}, tmp_path / "figures", tmp_path / "reports"):
        text = path.read_text("utf-8")
        assert "<script>alert" not in text and text.count("<script") == (path.suffix == ".html")  # the page's own
        if path.suffix == ".md":
            assert "](javascript" not in text and "](http" not in text and "# head" not in text
            rows = [line for line in text.splitlines() if line.startswith("|")]
            assert all("alert" not in line or line.endswith(" |") for line in rows)
            assert {line.count("|") for line in rows} <= {line.count("|") for line in rows if set(line) <= set("|- ")}
            links = [link for link in text.split("](")[1:] if not link.startswith("../figures/")]
            assert links == []


def test_a_clear_difference_is_said_where_the_numbers_show_it(tmp_path):
    groups = [(optimizer, width) for optimizer in ("adam", "sgd") for width in range(10, 80, 10)]
    template, runs = fixed_runs(tmp_path / "experiments")[0], []
    for optimizer, width in groups:
        summary = {**template.summary, "optimizer": optimizer, "width": width, "architecture": f"w{width}"}
        summary["recipe"] = {"training": {"seed": 0, "optimizer": optimizer, "momentum": 0.9 * (optimizer == "sgd")}}
        summary["final"] = {**summary["final"], "test_loss": width + (optimizer == "sgd")}
        runs.append(dataclasses.replace(template, summary={**summary, "place": f"{optimizer}/{width}/seed=0"}))
    write_reports(runs, {}, tmp_path / "figures", tmp_path)
    text = (tmp_path / "optimizer_study.md").read_text()
    said = "larger for optimizer sgd (in 7 of 7, p = 0.01562)"
    assert f"| adam | sgd | test loss | {said} |" in text


def test_runs_are_found_by_what_they_say(tmp_path):
    for place in ("seed=0", "seed=1", "seed=2", "seed=3"):
        runs = fixed_runs(tmp_path / place)
        run = next(run for run in runs if run.place.endswith(place) or place == "seed=3")
        folder = tmp_path / "all" / run.group / place
        folder.mkdir(parents=True)
        training = {"seed": 0, "lr": 0.5 if place == "seed=2" else 0.1}
        summary = {**run.summary, "place": f"{run.group}/{place}"}
        write_record(
            folder / "summary.json", {"training": training}, {k: v for k, v in summary.items() if k != "recipe"}
        )
    (tmp_path / "all" / runs[0].group / "seed=3" / "summary.json").write_text('{"recipe": ')
    (tmp_path / "all" / "notes.txt").touch()
    found, left_out = find_runs(tmp_path / "all")
    assert [run.place.rpartition("/")[2] for run in found] == ["seed=0", "seed=1"]
    assert [(place.rpartition("/")[2], reason.split(";")[0]) for place, reason in left_out.items()] == [
        ("seed=2", "its settings differ from those of the first seed of its group: its training lr is 0.5, not 0.1"),
        ("seed=3", "incomplete"),
    ]  # fmt: skip


def test_reports_and_figures_load_no_torch():
    for module in ("reports", "figures"):
        code = f"import sys, landscape.studies.matrix.{module}; print('torch' in sys.modules)"
        found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "False"


def test_records_hold_plain_numbers():
    assert plain([1 / 3, math.inf], 17) == [1 / 3, None]
    value = {
        1: [np.float32(1 / 3), np.int64(4), np.bool_(True)],
        "x": np.array([math.nan, 2.0]),
        "y": (None, "t", True),
    }
    assert json.loads(json.dumps(plain(value))) == {
        "1": [0.333333, 4, True], "x": [None, 2.0], "y": [None, "t", True],
    }  # fmt: skip
