"""Results of one checkpoint survive those of another, and networks that were trained on other inputs are told."""

from pathlib import Path

import numpy as np
import pytest
import torch

import compare_loss_landscapes
import landscape_lib as ll
import visualize_loss_landscape
import visualize_single_sample_landscapes
from landscape.cli.stored_metrics import _measured

ARGUMENTS = {"input_shape": (1, 8, 8), "classes": 10}
DATA = {"name": "digits", "split": "train", "limit": 60}
OWN = """
import torch


def build(classes, input_shape, scale=1.0):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))
    return network
"""


@pytest.fixture(autouse=True)
def own_network(here):
    Path("mine.py").write_text(OWN)


def save(path, seed=0, metrics=None, name="linear-mnist", model=None):
    torch.manual_seed(seed)
    model = model or ll.build_model(name, **ARGUMENTS)
    return ll.save_checkpoint(
        path, model, model_name=name, model_arguments=ARGUMENTS, data=DATA, epoch=seed, metrics=metrics or {},
        settings={},
    )  # fmt: skip


def run(script, *arguments):
    """The exit code of a script at toy size."""
    try:
        ll.cli.run_script(script.main, [*map(str, arguments), "--resolution", "3", "--device", "cpu"])
    except SystemExit as stop:
        return stop.code
    return 0


def stored(folder="loss_landscape_results"):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_another_checkpoint_gets_files_of_its_own_and_no_file_changes(here, capsys):
    paths = [save("a.pth"), save("b.pth", 1), save(here / "other" / "b.pth", 2)]
    run(visualize_loss_landscape, "--checkpoint", paths[0], "--html")
    first = stored()
    assert "landscape_train_2d_contour.png" in first
    capsys.readouterr()
    run(visualize_loss_landscape, "--checkpoint", paths[1], "--html", "--minibatches", 1, "--batch-size", 9)
    assert "belong to another network and are not replaced; names of the new ones end in _b" in capsys.readouterr().out
    run(visualize_loss_landscape, "--checkpoint", paths[2], "--no-figures")
    after = stored()
    assert first.items() <= after.items()
    digest = ll.load_checkpoint(paths[2]).sha256[:8]
    names = {"loss_grid_train_b.npz", "landscape_test_2d_contour_b.png", "explorer_b.html", "experiment_log_b.txt"}
    names |= {"loss_grid_train_minibatch0_b.npz", "landscape_train_minibatches_b.png", f"loss_grid_test_b_{digest}.npz"}
    assert names <= after.keys()
    for path, suffix in zip(paths, ("", "_b", f"_b_{digest}"), strict=True):
        surface = ll.Surface.load(f"loss_landscape_results/loss_grid_train{suffix}.npz")
        assert surface.metadata["checkpoint"]["sha256"] == ll.load_checkpoint(path).sha256
        assert surface.metadata["checkpoint_file"] == str(path)
    assert ll.plot_contour(surface).get_title().startswith("other/b, digits train, 60 samples")

    before = {path.name: path.stat().st_mtime_ns for path in Path("loss_landscape_results").glob("*.npz")}
    for path in paths:  # each finds its own
        run(visualize_loss_landscape, "--checkpoint", path, "--no-figures")
    assert before == {name: Path("loss_landscape_results", name).stat().st_mtime_ns for name in before}


def test_results_of_other_settings_are_replaced_with_a_line_that_tells_the_difference(here, capsys):
    path = save("a.pth")
    run(visualize_loss_landscape, "--checkpoint", path, "--no-figures")
    capsys.readouterr()
    run(visualize_loss_landscape, "--checkpoint", path, "--no-figures", "--alpha-range", 0, 1)
    assert "loss_grid_train.npz is computed again: its axes is [[3, -1.0, 1.0]" in capsys.readouterr().out
    run(visualize_loss_landscape, "--checkpoint", path, "--no-figures", "--alpha-range", 0, 1)
    assert "computed again" not in capsys.readouterr().out


def test_force_replaces_the_results_of_another_checkpoint(here):
    for path in (save("a.pth"), save("b.pth", 1)):
        run(visualize_loss_landscape, "--checkpoint", path, "--no-figures", "--force")
    assert not [name for name in stored() if "_b" in name]
    surface = ll.Surface.load("loss_landscape_results/loss_grid_train.npz")
    assert surface.metadata["checkpoint_file"] == "b.pth"


def test_single_samples_and_comparisons_keep_those_of_others_too(here):
    a, b, c = save("a.pth"), save("b.pth", 1), save("c.pth", 2)
    run(visualize_single_sample_landscapes, "--checkpoint", a, "--samples", 2)
    run(compare_loss_landscapes, a, b)
    first = {folder: stored(folder) for folder in ("loss_landscape_results", "comparison_results")}
    run(visualize_single_sample_landscapes, "--checkpoint", b, "--samples", 2)
    run(compare_loss_landscapes, a, c)
    for folder, files in first.items():
        assert files.items() <= stored(folder).items()
    assert {"samples_loss_grid_b.npz", "selected_samples_b.json"} <= stored().keys()
    assert {"comparison_train_a_c.png", "difference_train_a_c.png"} <= stored("comparison_results").keys()
    before = stored("comparison_results").keys()
    run(compare_loss_landscapes, a, b)
    run(compare_loss_landscapes, a, c)
    assert before == stored("comparison_results").keys()


def test_figures_drawn_from_a_file_are_named_after_it(here):
    run(visualize_loss_landscape, "--checkpoint", save("a.pth"), "--direction-pairs", 2)
    first = stored()
    for name, expected in (("loss_grid_train_seed43", "_seed43"), ("loss_grid_train", ""), ("mine", "_mine")):
        surface = ll.Surface.load("loss_landscape_results/loss_grid_train.npz")
        surface.metadata["data"]["split"] = "/../../evil" if name == "mine" else "train"
        source = Path(f"{name}.npz")
        surface.save(source)
        ll.cli.run_script(visualize_loss_landscape.main, ["--from", str(source)])
        split = "data" if name == "mine" else "train"
        assert Path(f"loss_landscape_results/landscape_{split}_2d_contour{expected}.png").exists()
    assert {name for name in stored() if name.endswith(".npz")} == {name for name in first if name.endswith(".npz")}
    assert not list(here.parent.glob("*evil*"))


@pytest.mark.parametrize("name", ["linear-mnist", "mine.py:build"])
def test_a_network_that_does_not_reach_the_metrics_of_its_checkpoint_is_refused(here, capsys, name):
    """Trained on pixels as they are; `load_dataset` gives normalised ones."""
    train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
    torch.manual_seed(0)
    model = ll.build_model(name, **ARGUMENTS)
    raw = [data.inputs * data.std[0] + data.mean[0] for data in (train, test)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(raw[0]), train.targets).backward()
        optimizer.step()

    def metrics(inputs):
        with torch.no_grad():
            logits = model(inputs)
        loss = torch.nn.functional.cross_entropy(logits, test.targets).item()
        return {"test_loss": loss, "test_accuracy": (logits.argmax(1) == test.targets).double().mean().item()}

    options = ["--model", name] if ".py" in name else []
    save("raw.pth", metrics=metrics(raw[1]), name=name, model=model)
    for script, given in (
        (visualize_loss_landscape, ["--checkpoint", "raw.pth", "--no-figures"]),
        (visualize_single_sample_landscapes, ["--checkpoint", "raw.pth", "--samples", 2]),
        (compare_loss_landscapes, ["raw.pth", "--no-figures"]),
    ):
        capsys.readouterr()
        assert run(script, *given, *options) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert "raw.pth does not have its stored metrics on digits: test loss" in line and "--accept-mismatch" in line
        assert "Inputs here are (value - mean) / std with mean" in line
        assert not list(here.rglob("*.npz"))
    assert run(visualize_loss_landscape, "--checkpoint", "raw.pth", "--no-figures", "--accept-mismatch", *options) == 0
    log = next(Path("loss_landscape_results").glob("experiment_log*.txt")).read_text()
    assert "a mismatch that was accepted" in log and "inputs: (value - mean) / std with mean" in log

    save("right.pth", metrics=metrics(test.inputs), name=name, model=model)
    assert run(visualize_loss_landscape, "--checkpoint", "right.pth", "--no-figures", *options) == 0


def test_metrics_are_compared_within_the_noise_of_a_subset(here, monkeypatch):
    monkeypatch.setattr("landscape.cli.stored_metrics.SAMPLES", 100)
    model, test = ll.build_model("linear-mnist", **ARGUMENTS), ll.load_dataset("digits", split="test")
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(model(test.inputs), test.targets, reduction="none").double()
    error = float(losses.std()) / 10 * (1 - 100 / len(test)) ** 0.5
    subset = test.subset(100, seed=0)
    with torch.no_grad():
        seen = torch.nn.functional.cross_entropy(model(subset.inputs), subset.targets).item()
    for stored_loss, fits in ((seen + 4 * error, True), (seen + 6 * error + 0.02 * seen, False), (float("nan"), True)):
        path = save("net.pth", metrics={"test_loss": stored_loss}, model=model)
        checkpoint = ll.load_checkpoint(path)
        if fits:
            ll.cli.confirm_metrics(checkpoint, ll.cli.Evaluation(device="cpu"))
            continue
        with pytest.raises(ll.InputError, match="does not have its stored metrics"):
            ll.cli.confirm_metrics(checkpoint, ll.cli.Evaluation(device="cpu"))


def test_the_error_of_a_subset_is_its_spread_over_random_subsets(here, monkeypatch):
    monkeypatch.setattr("landscape.cli.stored_metrics.SAMPLES", 60)
    model, test = (
        ll.build_model("linear-mnist", **ARGUMENTS),
        ll.load_dataset("digits", split="test").subset(90, seed=1),
    )
    checkpoint = ll.load_checkpoint(save("net.pth", model=model))
    generator = torch.Generator().manual_seed(0)
    measured = []
    for _ in range(400):
        part = test.select(torch.randperm(len(test), generator=generator))
        values = _measured(checkpoint, part, "cpu")
        measured.append([values["loss"], values["accuracy"]])
    means, errors = np.array(measured).transpose(2, 0, 1)  # [2, repeats, metrics]
    # The standard deviation of 400 means is known to 3.5 %.
    np.testing.assert_allclose(means.std(0, ddof=1), np.sqrt((errors**2).mean(0)), rtol=0.14)


ODD = """
import torch


class Odd(torch.nn.Linear):
    def forward(self, x):
        return {"logits": super().forward(x.flatten(1))}


def build():
    return Odd(64, 10)
"""


def test_networks_without_logits_are_not_compared(here):
    Path("odd.py").write_text(ODD)
    model = ll.build_model("odd.py:build", **ARGUMENTS)
    path = save("odd.pth", metrics={"test_loss": 1.0}, name="odd.py:build", model=model)
    checkpoint = ll.load_checkpoint(path, model="odd.py:build")
    assert "not compared" in ll.cli.confirm_metrics(checkpoint, ll.cli.Evaluation(device="cpu"))["stored_metrics"]
