"""compare_normalizations.py as a user runs it, at toy size: files, numbers, a second run, a kill, refusals."""

import contextlib
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from test_visualize import run

import landscape_lib as ll
from landscape.curvature.settings import CurvatureSettings
from landscape.models.norm_cnn import NormCNN
from landscape.studies.normalizations import steps_to_loss

ROOT = Path(__file__).parents[1]
TOY = [
    "--dataset", "digits", "--subset", "120", "--epochs", "2", "--train-batch-size", "24", "--samples", "40",
    "--curvature-samples", "9", "--eigenvalues", "2", "--products", "30", "--probes", "2", "--lanczos-steps", "3",
    "--draws", "2", "--ascent-steps", "2", "--resolution", "3", "--tolerance", "None", "--device", "cpu",
]  # fmt: skip


def compare(*arguments):
    return run("compare_normalizations.py", *TOY, *arguments)


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def result(norm, name, kind="hessian", seed=0, folder="output"):
    return json.loads(Path(folder, "json", f"{kind}_{norm}.json").read_text())[str(seed)][name]["result"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of two norms, and what it printed."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(folder := tmp_path_factory.mktemp("finished"))
        patch.setenv("MPLBACKEND", "agg")
        assert compare("--norms", "dyt", "none") == 0
    return folder, printed.getvalue()


def test_every_file_is_there_and_the_numbers_are_those_of_the_networks(finished):
    folder, printed = finished
    out = folder / "output"
    names = {f"{kind}_{norm}.json" for kind in ("training", "landscape", "hessian") for norm in ("dyt", "none")}
    assert {path.name for path in (out / "json").iterdir()} == names
    assert {path.name for path in (out / "weights").iterdir()} == {"model_dyt.pth", "model_none.pth"}
    figures = {"training.png", "landscapes.png", "eigenvalues.png", "densities.png", "sharpness.png"}
    assert {path.name for path in (out / "figures").iterdir()} == figures
    for path in ("report.md", "weights/model_dyt.pth", "json/hessian_none.json", "figures/sharpness.png"):
        assert f"Wrote output/{path}" in printed
    assert ll.cli.SHARPNESS_CAUTION in printed

    trained = ll.load_checkpoint(out / "weights" / "model_dyt.pth")
    assert isinstance(trained.model, NormCNN) and hasattr(trained.model.norm1, "alpha")
    training = result("dyt", "training", "training", folder=out)
    test = ll.cli.score(trained.model, ll.load_dataset("digits", split="test"), device="cpu")
    assert test["accuracy"] == training["test_accuracy"] == trained.metadata["metrics"]["test_accuracy"]
    assert training["checkpoint"] == hashlib.sha256((out / "weights" / "model_dyt.pth").read_bytes()).hexdigest()

    data = ll.load_dataset("digits", limit=120)
    train, validation = data.divided(0.1, seed=0)
    assert not set(train.indices.tolist()) & set(validation.indices.tolist()) and len(train) + len(validation) == 120
    last = training["epochs"][-1]
    assert ll.cli.score(trained.model, validation, device="cpu")["loss"] == pytest.approx(
        last["validation_loss"], rel=1e-5
    )
    sizes = [24] * (len(train) // 24) + [len(train) % 24]
    assert np.average(last["batch_losses"], weights=sizes) == pytest.approx(last["train_loss"], rel=1e-5)

    grid = result("dyt", "landscape", "landscape", folder=out)
    target = ll.objective(trained.model, train.subset(40, 42), device="cpu")
    point = ll.random_plane(trained.model, seed=42)(grid["alphas"][0], grid["betas"][2])
    assert grid["loss"][0][2] == pytest.approx(target(point).double().mean().item(), rel=1e-4)


def test_curvature_and_sharpness_are_those_of_the_stored_network(finished):
    out = finished[0] / "output"
    model = ll.load_checkpoint(out / "weights" / "model_none.pth").model.double()
    train, _ = ll.load_dataset("digits", limit=120).divided(0.1, seed=0)
    few, parameters = train.subset(9, 42), list(model.parameters())

    def loss():
        return torch.nn.functional.cross_entropy(model(few.inputs.double()), few.targets)

    at = loss()
    gradients = torch.autograd.grad(at, parameters, create_graph=True)
    vector = [gradient.detach() for gradient in gradients]
    for _ in range(12):  # power iteration: the quotient is a lower bound of the largest eigenvalue
        length = torch.stack([v.square().sum() for v in vector]).sum().sqrt()
        vector = [v / length for v in vector]
        image = torch.autograd.grad(gradients, parameters, vector, retain_graph=True)
        value = sum((v * w).sum() for v, w in zip(vector, image, strict=True)).item()
        vector = list(image)
    top = result("none", "eigenvalues", folder=out)["values"][0]
    assert 0.8 * top < value < 1.001 * top

    length = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter += 0.05 * gradient / length
    sam = result("none", "sam", folder=out)
    assert sam["loss"] == pytest.approx(at.item(), rel=1e-5)
    assert sam["value"] == pytest.approx((loss() - at).item(), rel=1e-3)


def test_a_second_run_computes_nothing_and_leaves_the_same_bytes(finished, monkeypatch, capsys):
    folder, _ = finished
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "agg")
    before = content(folder)
    for name in ("fit", "save_checkpoint"):
        monkeypatch.setattr(f"landscape.studies.normalizations.training.{name}", None)
    for name in ("top_eigenpairs", "trace", "spectral_density", "sharpness_in"):
        monkeypatch.setattr(f"landscape.studies.kit.measurements.{name}", None)
    monkeypatch.setattr("landscape.studies.normalizations.measuring.layer_sharpness_in", None)
    monkeypatch.setattr("landscape.evaluation.stored.evaluate", None)
    assert compare("--norms", "dyt", "none") == 0
    assert content(folder) == before
    assert "epoch 1 of" not in capsys.readouterr().out


def test_another_setting_computes_only_what_depends_on_it(finished, monkeypatch, capsys):
    folder, _ = finished
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "agg")
    before = content(folder)
    monkeypatch.setattr("landscape.studies.normalizations.training.fit", None)
    try:
        assert compare("--norms", "none", "--draws", "3", "--out", "output", "--no-figures") == 0
        printed = capsys.readouterr().out
        written = re.findall(r"Wrote output/json/hessian_none.json \((.*) of seed 0\)", printed)
        assert written == ["gaussian", "adaptive-gaussian", "layers"]
        told = re.findall(r"hessian_none.json \((.*) of seed 0\) is computed again: its samples is 2, not 3", printed)
        assert told == written
    finally:
        for name, old in before.items():
            (folder / name).write_bytes(old)


def assert_close(first, second):
    """The same numbers to the rounding of other batches: another process may share out its samples differently."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        first, second = list(first.values()), list(second.values())
    if isinstance(first, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_close(one, other)
    elif isinstance(first, float):
        assert first == pytest.approx(second, rel=1e-4, abs=1e-6)
    else:
        assert first == second


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_numbers(finished, here, capsys):
    """kill -9 while the trained network is measured."""
    command = [sys.executable, str(ROOT / "compare_normalizations.py"), *TOY, "--norms", "none"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (here / "output" / "json" / "hessian_none.json").exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (here / "output" / "report.md").exists()
    kept = result("none", "training", "training")

    assert compare("--norms", "none", "--no-figures") == 0
    assert "Wrote output/json/training_none.json" not in capsys.readouterr().out
    assert result("none", "training", "training") == kept
    whole = finished[0] / "output"
    name = "weights/model_none.pth"
    assert (here / "output" / name).read_bytes() == (whole / name).read_bytes()
    for name in ("eigenvalues", "trace", "keskar", "adaptive-ascent", "layers"):
        first, second = result("none", name), result("none", name, folder=whole)
        first.pop("metadata", None), second.pop("metadata", None)  # seconds are in it
        assert_close(first, second)


def test_a_training_that_was_killed_goes_on_from_its_epoch(here, monkeypatch, capsys):
    class Killed(BaseException):
        pass

    def dying(*arguments, on_epoch, **options):
        def hook(epoch, model, metrics):
            on_epoch(epoch, model, metrics)
            if epoch == 2:
                raise Killed

        return fit(*arguments, on_epoch=hook, **options)

    fit = ll.fit
    monkeypatch.setattr("landscape.studies.normalizations.training.fit", dying)
    with pytest.raises(Killed):
        compare("--norms", "none", "--no-figures")
    assert len(list(Path("output/weights").glob("model_none.*.unfinished.pth"))) == 1
    monkeypatch.setattr("landscape.studies.normalizations.training.fit", fit)
    capsys.readouterr()
    stopped = "after the training"

    def refuse(*_, **__):
        raise ll.InputError(stopped)

    monkeypatch.setattr("landscape.evaluation.stored.evaluate", refuse)
    assert compare("--norms", "none", "--no-figures") == 2
    printed = capsys.readouterr()
    assert "epoch 2 of 2" in printed.out and "epoch 1 of 2" not in printed.out and stopped in printed.err
    assert not list(Path("output/weights").glob("*unfinished*"))
    assert all(epoch["seconds"] > 0 for epoch in result("none", "training", "training")["epochs"])


def test_seeds_give_error_bars_and_a_network_that_diverges_is_told(here, capfd):
    assert compare("--norms", "none", "--seeds", "0", "1", "--lr", "1e9", "--no-figures") == 2
    printed = capfd.readouterr()
    assert "measurements failed, as the report says; first eigenvalues of none: " in printed.err.splitlines()[-1]
    assert "Warning: no eigenvalues of hessian_none, seed 1" in printed.err
    assert "failed" in result("none", "sam", seed=1)
    report = Path("output/report.md").read_text()
    assert "## Not measured" in report and "- (2 missing)" in report and "over 2 seeds" in report
    assert {path.name for path in Path("output/weights").iterdir()} == {"model_none.pth", "model_none_seed1.pth"}


def networks(values, converged=True):
    """Made-up results with the trace ``values``, one a seed."""

    def estimate(value):
        return {
            "value": value, "standard_error": 0.5, "converged": converged, "definition": "d", "source": "s",
            "radius": 0.1,
        }  # fmt: skip

    epoch = {"train_loss": 0.5, "validation_loss": 0.4, "validation_accuracy": 0.9, "seconds": 2.0}
    measures = ("keskar", "sam", "ascent", "gaussian", "adaptive-sam", "adaptive-ascent", "adaptive-gaussian")
    return [
        {
            "training": {
                "parameters": 458_570,
                "test_accuracy": 0.95,
                "epochs": [{**epoch, "batch_losses": [2.0] * 20 + [0.1] * 30}],
            },
            "landscape": {"centre_loss": 0.1, "largest_loss": 12_345.6},
            "eigenvalues": {"values": [value / 2, 1.0], "converged": [converged, True]},
            "trace": estimate(value),
            "density": {},
            **{measure: estimate(value) for measure in measures},
            "layers": {"layers": [{**estimate(value), "layer": "conv1"}]},
        }
        for value in values
    ]


def test_the_report_shows_spread_over_seeds_or_standard_errors_and_marks_what_did_not_converge():
    options = {"facts": {"data": "toy"}, "target_loss": 0.3, "figures": {"A figure": "figures/a.png"}}
    several = ll.studies.normalization_report({"none": networks([1.0, 2.0, 6.0])}, **options)
    assert "| none | 458,570 |" in several and "12,346" in several
    assert "| 3 ± 2.6 |" in several  # mean and standard deviation of 1, 2, 6
    single = ll.studies.normalization_report({"none": networks([4.0], converged=False)}, **options)
    assert "| 4 ± 0.5† |" in single and "| 2† |" in single and "There is one seed only" in single
    assert "![A figure](figures/a.png)" in single and ll.cli.SHARPNESS_CAUTION in single
    assert single == ll.studies.normalization_report({"none": networks([4.0], converged=False)}, **options)


def test_the_training_speed_is_the_first_window_that_is_low_enough():
    losses = [2.0] * 20 + [0.1] * 30
    expected = next(k for k in range(20, 51) if sum(losses[k - 20 : k]) / 20 <= 0.3)
    epochs = [{"batch_losses": losses[:25]}, {"batch_losses": losses[25:]}]
    assert steps_to_loss(epochs, 0.3) == expected
    assert steps_to_loss(epochs, 0.01) is None and steps_to_loss(epochs[:1], 2.1) == 20
    assert steps_to_loss([{"batch_losses": [0.1] * 7}], 1.0) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norms": ("none", "none")}, r"norms are \['none', 'none'\]: name at least one, and none twice"),
        ({"norms": ("spectral",)}, "unknown norm 'spectral'; use one of batch, layer"),
        ({"seeds": ()}, r"seeds are \[\]"),
        ({"epochs": 0}, "epochs is 0"),
        ({"validation": 1.0}, "validation is 1.0"),
        ({"draws": 1}, "draws is 1"),
        ({"curvature": CurvatureSettings(max_products=9)}, "max_products is 9"),
        ({"curvature": CurvatureSettings(k=0)}, "k is 0"),
        ({"curvature": CurvatureSettings(probes=10**9)}, "probes is 1000000000"),
        ({"subset": 0}, "subset is 0"),
        ({"subset": 300}, "but the subset has 300 samples; use fewer"),
        ({"target_loss": float("nan")}, "target_loss is nan"),
        ({"seeds": (0, -1)}, "seed is -1"),
    ],
)
def test_settings_out_of_range_are_told(options, message):
    with pytest.raises(ll.InputError, match=message):
        ll.studies.NormalizationStudy(**options).check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--norms", "spectral"], "'spectral'"),
        (["--lr", "-1"], "lr is -1.0"),
        (["--tolerance", "2"], "tolerance is a share of the loss"),
        (["--range", "auto"], "--range has no effect here"),
        (["--curvature-samples", "115"], "curvature_samples is 115; it must be a whole number from 1 to 1"),
    ],
)
def test_wrong_input_ends_in_exit_code_2(here, capfd, options, message):
    assert compare(*options) == 2
    assert message in capfd.readouterr().err


def test_a_damaged_result_is_told(here, capfd):
    (here / "output" / "json").mkdir(parents=True)
    (here / "output" / "json" / "hessian_none.json").write_text("[1, 2]")
    assert compare("--norms", "none") == 2
    assert "hessian_none.json holds no results of this script" in capfd.readouterr().err
