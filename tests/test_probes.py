"""Probes and reports of a toy matrix end to end: numbers against dense references, restarts, refusals."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.func import functional_call, hessian
from torch.nn import functional as F

import landscape_lib as ll
import run_full_matrix
import run_probes_and_reports

ROOT = Path(__file__).parents[1]
MATRIX = ["--architectures", "shallow-small", "--activations", "tanh", "--optimizers", "sgd", "--n-train", "60"]
MATRIX += ["--n-test", "30", "--epochs", "4", "--mid-checkpoints", "1", "--jobs", "1", "--device", "cpu"]
PROBES = ["--line-resolution", "5", "--plane-resolution", "5", "--trace-products", "40", "--density-steps", "5"]
PROBES += ["--density-probes", "1", "--curve-epochs", "2", "--eigenvalues", "2", "--jobs", "1", "--device", "cpu"]
GROUP = "dataset=moons/arch=shallow-small/act=tanh/opt=sgd"
REPORTS = ["summary", "depth_study", "width_study", "activation_study", "optimizer_study", "connectivity_study"]


def train(*options):
    ll.cli.run_script(run_full_matrix.main, [*MATRIX, "--output-root", "reports/experiments", *options])


def probe(*options):
    ll.cli.run_script(run_probes_and_reports.main, [*PROBES, *options])


def times(folder) -> dict[str, int]:
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A toy matrix of two seeds, probed and reported."""
    folder = tmp_path_factory.mktemp("study")
    before = Path.cwd()
    os.chdir(folder)
    try:
        train("--seeds", "0", "1")
        probe()
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(study, tmp_path, monkeypatch):
    """A copy of the study, with the times of its files."""
    shutil.copytree(study / "reports", tmp_path / "reports")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_that_was_promised_is_there(study):
    reports = study / "reports"
    assert sorted(p.name for p in reports.iterdir() if p.is_file()) == sorted(
        [*(f"{name}.md" for name in REPORTS), "index.html"]
    )
    for seed in (0, 1):
        for name in ("interpolation", "slices", "curvature"):
            assert (reports / "figures" / GROUP / f"seed={seed}" / f"{name}.png").stat().st_size > 5000
    for name in ("connectivity", "pca"):
        assert (reports / "figures" / GROUP / name / f"{name}.png").stat().st_size > 5000
    for path in reports.glob("*.md"):
        for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
            assert (reports / link).is_file(), link
    for link in re.findall(r'href="([^"]+)"', (reports / "index.html").read_text()):
        assert (reports / link).is_file(), link


def test_figures_come_in_several_formats_and_styles(here):
    probe("--format", "png", "pdf", "--figure-style", "paper", "--cmap", "gray")
    for name in ("seed=0/slices", "connectivity/connectivity", "pca/pca"):
        path = here / "reports" / "figures" / GROUP / f"{name}.png"
        with Image.open(path) as image:
            assert image.width == 363  # 3.3 inches
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    assert "seed=0/slices.png" in (here / "reports" / "index.html").read_text()


def test_numbers_are_those_of_dense_references(study):
    folder = study / "reports" / "experiments" / GROUP / "seed=1"
    found = json.loads((folder / "probes" / "probes.json").read_text())
    summary = json.loads((folder / "summary.json").read_text())
    model = ll.load_checkpoint(folder / "checkpoints" / "final.pth").model.double()
    data = ll.load_dataset(summary["recipe"]["dataset"])
    inputs, parameters = data.inputs.double(), dict(model.named_parameters())
    sizes = [value.numel() for value in parameters.values()]

    def loss(flat):
        parts = [part.view(p.shape) for part, p in zip(flat.split(sizes), parameters.values(), strict=True)]
        return F.cross_entropy(functional_call(model, dict(zip(parameters, parts, strict=True)), inputs), data.targets)

    at = torch.cat([value.detach().flatten() for value in parameters.values()])
    values = torch.linalg.eigvalsh(hessian(loss)(at))
    by_size = values[values.abs().argsort(descending=True)][:2]
    assert found["curvature"]["eigenvalues"] == pytest.approx(by_size.tolist(), rel=2e-2)
    trace = found["curvature"]
    assert abs(trace["trace"] - values.sum().item()) < 5 * trace["trace_error"] + 0.02 * abs(trace["trace"])

    ends = found["interpolation"]
    assert ends["second_loss"] == pytest.approx(summary["final"]["train_loss"], rel=1e-5)
    first = json.loads((folder / "metrics.json").read_text())["epochs"][0]
    assert ends["first_loss"] == pytest.approx(first["train_loss"], rel=1e-5)
    slope = torch.func.grad(loss)(at)
    sam = loss(at + 0.05 * slope / slope.norm()) - loss(at)
    assert found["sharpness"]["sam"]["value"] == pytest.approx(sam.item(), rel=1e-3)

    other = ll.load_checkpoint(folder.parent / "seed=0" / "checkpoints" / "final.pth").model.double()
    away = torch.cat([value.detach().flatten() for value in other.parameters()])
    line = [loss(torch.lerp(away, at, t)).item() for t in (0, 0.25, 0.5, 0.75, 1)]
    rise = max(value - (line[0] + k / 4 * (line[4] - line[0])) for k, value in enumerate(line))
    (pair,) = json.loads((folder.parent / "group" / "group.json").read_text())["pairs"]
    assert pair["seeds"] == [0, 1] and pair["line"]["value"] == pytest.approx(rise, abs=1e-6)
    assert pair["aligned"]["second_loss"] == pytest.approx(line[4], rel=1e-5)


def test_slices_of_an_even_number_of_points_need_not_meet_the_trained_network(here):
    probe("--line-resolution", "4", "--plane-resolution", "4")
    folder = here / "reports" / "experiments" / GROUP / "seed=0"
    rise = json.loads((folder / "probes" / "probes.json").read_text())["random_rise"]["random_plane"]
    checkpoint = ll.load_checkpoint(folder / "checkpoints" / "final.pth")
    data = ll.cli.load_checkpoint_data(checkpoint, "train", here)
    trained = F.cross_entropy(checkpoint.model(data.inputs), data.targets).item()
    loss = ll.Surface.load(folder / "probes" / "random_plane.npz").loss
    assert loss.shape == (4, 4) and rise == pytest.approx(float(np.median(loss)) - trained, rel=1e-5)


def test_a_second_call_makes_nothing_again_and_the_same_reports(here, capsys):
    before = times(here / "reports")
    texts = {path.name: path.read_bytes() for path in (here / "reports").glob("*.*")}
    probe()
    changed = {name for name, at in times(here / "reports").items() if at != before.get(name)}
    assert changed == set(texts)
    assert {path.name: path.read_bytes() for path in (here / "reports").glob("*.*")} == texts
    printed = capsys.readouterr().out
    assert "2 networks in reports/experiments" in printed and "seed=" not in printed.partition("\n")[2]


def test_only_what_changed_is_made_again(here):
    before = times(here / "reports")
    (here / "reports" / "figures" / GROUP / "seed=0" / "slices.png").unlink()
    (here / "reports" / "experiments" / GROUP / "seed=1" / "probes" / "notes.txt").touch()
    probe()
    after = times(here / "reports")
    assert {name.rpartition("/")[0] for name in before if after[name] != before[name]} == {
        f"figures/{GROUP}/seed=0", ""
    }  # fmt: skip
    train("--seeds", "1", "--momentum", "0.5")  # seed 1 is another network now, and no longer of the group
    probe()
    text = (here / "reports" / "summary.md").read_text()
    assert f"- {GROUP}/seed=1: its settings differ from those of the first seed of its group" in text
    skipped = (here / "reports" / "connectivity_study.md").read_text()
    assert "Skipped, as they have fewer than two seeds\n\n- moons, shallow-small, tanh, sgd" in skipped
    latest = times(here / "reports")
    untouched = {name for name in after if name.startswith((f"experiments/{GROUP}/seed=0", f"figures/{GROUP}/seed=0"))}
    assert {name: latest[name] for name in untouched} == {name: after[name] for name in untouched}
    assert not (here / "reports" / "figures" / GROUP / "connectivity" / "connectivity.png").exists()


@pytest.mark.slow
def test_a_killed_call_goes_on_to_the_same_reports(here):
    texts = {path.name: path.read_bytes() for path in (here / "reports").glob("*.*")}
    numbers = {path: path.read_text() for path in (here / "reports" / "experiments").rglob("probes.json")}
    for folder in [*here.rglob("probes"), *here.rglob("group"), here / "reports" / "figures"]:
        shutil.rmtree(folder)
    command = [sys.executable, str(ROOT / "run_probes_and_reports.py"), *PROBES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(here.rglob("layer_line.npz")) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(list(here.rglob("probes.json"))) < 2
    probe()
    assert {path.name: path.read_bytes() for path in (here / "reports").glob("*.*")} == texts
    for path, text in numbers.items():
        found, expected = json.loads(path.read_text()), json.loads(text)
        assert found.pop("digest") and expected.pop("digest")  # of the files too, which tell seconds
        assert found.pop("files").keys() == expected.pop("files").keys() and found == expected


def test_a_network_that_diverged_is_told_and_stops_nothing_but_the_exit_code(here, capsys):
    for _ in range(2):  # also where everything is there
        with pytest.raises(SystemExit, match="2"):
            train("--seeds", "5", "--learning-rate", "1e38", "--output-root", "wild")
        error = capsys.readouterr().err
        assert f"the loss of 1 of 1 networks is not finite, first {GROUP}/seed=5; lower --lr" in error
        with pytest.raises(SystemExit, match="2"):
            probe("--experiments-root", "wild", "--figures-root", "wild/figures", "--reports-root", "wild")
        printed = capsys.readouterr()
        assert f"Not whole: {GROUP}/seed=5, " in printed.out
        assert "2 folders of networks and of groups are not whole, as the reports say; first " in printed.err
    summary = (here / "wild" / "summary.md").read_text()
    assert f"## Not measured, or not all of it\n\n- {GROUP}/seed=5: " in summary
    assert "| - (1 missing) | - (1 missing) |" in summary and "nan" not in summary
    metrics = json.loads((here / "wild" / GROUP / "seed=5" / "metrics.json").read_text())
    assert metrics["epochs"][-1]["test_loss"] is None and metrics["epochs"][0]["test_loss"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--experiments-root", "nowhere"], "nowhere holds no trained run; train some with run_full_matrix.py"),
        (["--sharpness", "blunt"], "invalid choice 'blunt' for argument '--sharpness'"),
        (["--line-resolution", "1"], "line resolution is 1"),
        (["--span", "0"], "span 0.0"),
        (["--format", "pdf"], "the reports show figures in png, which is not among pdf; add png"),
        (["--figures-root", "file"], "cannot write into file"),
        (["--reports-root", "file"], "cannot write into file"),
        (["--jobs", "-1"], "jobs is -1"),
        (["--device", "abacus", "--span", "0.5"], "unknown device 'abacus'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(here, capsys, options, message):
    (here / "file").touch()
    with pytest.raises(SystemExit) as caught:
        probe(*options)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and message in error and "Traceback" not in error


def test_the_help_has_every_option_that_the_manual_names(capsys):
    with pytest.raises(SystemExit):
        ll.cli.run_script(run_probes_and_reports.main, ["-h"])
    printed = capsys.readouterr().out
    for option in set(re.findall(r"(--[a-z-]+)", run_probes_and_reports.__doc__)) - {"--nproc-per-node"}:
        assert option in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--eigenvalues", "0"], "k is 0"),
        (["--eigenvalues", "1000000000"], "k is 1000000000"),
        (["--eigenvalue-error", "nan"], "tol is nan"),
        (["--trace-error", "0"], "relative_error is 0.0"),
        (["--trace-products", "5"], "max_products is 5; it must be a whole number from 30"),
        (["--density-probes", "0"], "probes is 0"),
        (["--density-steps", "-1"], "steps is -1"),
        (["--bends", "0"], "bends is 0"),
        (["--curve-epochs", "0"], "curve epochs is 0"),
        (["--curve-lr", "inf"], "curve lr is inf"),
        (["--span", "nan"], "span nan"),
        (["--probe-seed", "-1"], "probe seed is -1"),
        (["--sharpness", "sam", "sam"], "sharpness has 'sam' twice"),
        (["--line-resolution", "1"], "line resolution is 1"),
        (["--jobs", "0"], "jobs is 0"),
        (["--device", "abacus"], "unknown device 'abacus'"),
    ],
)
def test_wrong_options_are_refused_before_any_network_is_looked_for(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        probe(*options)
    [line] = capsys.readouterr().err.splitlines()
    assert message in line and not list(tmp_path.iterdir())
