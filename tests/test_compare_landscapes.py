"""compare_loss_landscapes.py as a user runs it, in-process and small."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scripts import explored, run, stamps

import landscape_lib as ll
from landscape.evaluation.budget import BudgetPlan

ARGUMENTS = {"input_shape": (1, 8, 8), "classes": 10}


def checkpoint(path, model="linear-mnist", seed=0, epoch=1, arguments=ARGUMENTS, **data):
    torch.manual_seed(seed)
    ll.save_checkpoint(
        path,
        ll.build_model(model, **arguments),
        model_name=model,
        model_arguments=arguments,
        data={"name": "digits", "split": "train", "limit": 100, **data},
        epoch=epoch,
        metrics={},
        settings={},
    )
    return ll.load_checkpoint(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with two epochs of a linear model, a convolutional one, and one of fewer data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    checkpoint("start.pth", epoch=0)
    checkpoint("end.pth", seed=1, epoch=9)
    checkpoint("cnn.pth", "tiny-cnn", epoch=9)
    checkpoint("fewer.pth", limit=50)
    return tmp_path


def compare(*arguments):
    return run("compare_loss_landscapes.py", *arguments, "--resolution", "5", "4")


def surface_of(name, label="train"):
    return ll.Surface.load(next(Path("comparison_results").glob(f"{name}_*_{label}.npz")))


def test_two_checkpoints_are_compared_and_nothing_is_computed_twice(folder, capsys):
    assert compare("start.pth", "end.pth") == 0
    results = folder / "comparison_results"
    names = {path.name for path in results.iterdir()}
    written = {"comparison_train.png", "difference_train.png", "comparison_train.json", "comparison_log_train.txt"}
    assert names >= written and len(names) == 6
    printed = capsys.readouterr().out
    assert all(f"Wrote comparison_results/{name}" in printed for name in names)
    assert "linear-mnist, epoch 0" in printed and "centre loss" in printed

    data = ll.load_dataset("digits", limit=100)
    for name in ("start", "end"):
        model, surface = ll.load_checkpoint(f"{name}.pth").model, surface_of(name)
        point = ll.random_plane(model, seed=42)(-0.5, 1 / 3)
        assert surface.loss[1, 2] == pytest.approx(
            ll.objective(model, data, device="cpu")(point).mean().item(), rel=1e-4
        )
    record = json.loads((results / "comparison_train.json").read_text())
    assert record["differences"] == {} and [row["epoch"] for row in record["checkpoints"]] == [0, 9]
    assert record["checkpoints"][1]["largest_loss"] == surface_of("end").loss.max()
    log = (results / "comparison_log_train.txt").read_text()
    assert all(part in log for part in ("seed 42", "|d|/|theta|", "linear-mnist, epoch 9", "sha256", "versions"))

    before = stamps(results)
    options = ("--style", "heatmap", "--names", "late", "early", "--levels", "9", "--animate", "--html")
    assert compare("end.pth", "start.pth", *options) == 0
    assert (results / "comparison_train.gif").read_bytes()[:3] == b"GIF"
    assert stamps(results) == before and explored(results / "explorer_train.html") == ["late", "early"]
    assert "late" in (results / "comparison_log_train.txt").read_text()


def test_different_networks_share_seed_and_data(folder, capsys):
    assert compare("start.pth", "end.pth", "cnn.pth", "--split", "test", "--subset", "20", "--seed", "3") == 0
    assert not (folder / "comparison_results" / "difference_test.png").exists()
    surfaces = [surface_of(name, "test") for name in ("start", "end", "cnn")]
    assert {s.metadata["slice"]["seed"] for s in surfaces} == {3}
    assert len({s.metadata["data"]["fingerprint"] for s in surfaces}) == 1
    assert {s.metadata["data"]["size"] for s in surfaces} == {20}
    assert "tiny-cnn, epoch 9" in capsys.readouterr().out


def test_zoom_scales_both_ranges_and_has_files_of_its_own(folder):
    ranges = ["--alpha-range", "-1", "2", "--beta-range", "-3", "1"]
    assert compare("start.pth", "end.pth", "--zoom", "0.01", "--no-figures", *ranges) == 0
    surface = surface_of("start", "train_zoom0.01")
    np.testing.assert_allclose(surface.alphas, np.linspace(-0.01, 0.02, 5))
    np.testing.assert_allclose(surface.betas, np.linspace(-0.03, 0.01, 4))
    assert not list(Path("comparison_results").glob("*.png"))


def test_other_data_are_refused_unless_asked_for(folder, capfd):
    assert compare("start.pth", "fewer.pth") == 2
    error = capfd.readouterr().err
    assert error.startswith("Error: these losses cannot be compared: other data (linear-mnist, epoch 0: digits train")
    assert error.count("\n") == 1 and "--anyway" in error
    assert not list(Path("comparison_results").glob("*.npz"))
    assert compare("start.pth", "fewer.pth", "--anyway", "--no-figures") == 0
    assert "data" in json.loads(Path("comparison_results/comparison_train.json").read_text())["differences"]
    assert compare("start.pth", "fewer.pth", "--split", "test", "--no-figures") == 0  # the test data are the same


def test_a_large_range_of_losses_is_hinted_at(folder, capsys):
    for name, factor in (("start", 0.0), ("end", 300.0)):
        content = torch.load(f"{name}.pth", weights_only=True)
        content["model_state_dict"]["fc.weight"] *= factor + 1e-3
        torch.save(content, f"{name}.pth")
    assert compare("start.pth", "end.pth", "--subset", "10") == 0
    assert "--log-scale shows them" in capsys.readouterr().out


def test_a_loss_that_is_nan_is_drawn_and_counted(folder, capfd):
    content = torch.load("end.pth", weights_only=True)
    content["model_state_dict"]["fc.weight"][0, 0] = float("nan")
    torch.save(content, "end.pth")
    assert compare("start.pth", "end.pth") == 0
    rows = json.loads(Path("comparison_results/comparison_train.json").read_text())["checkpoints"]
    assert [row["nonfinite_points"] for row in rows] == [0, 20]


WRONG = {
    "no checkpoint": ([], "no checkpoints to compare"),
    "missing": (["start.pth", "none.pth"], "none.pth does not exist"),
    "garbage": (["garbage.pth"], "garbage.pth is no checkpoint"),
    "names": (["start.pth", "end.pth", "--names", "one"], "2 checkpoints but 1 name"),
    "zoom": (["start.pth", "--zoom", "0"], "zoom is 0.0; it must be a finite number above 0"),
    "levels": (["start.pth", "--levels", "1"], "at least 2 levels, not 1"),
    "subset": (["start.pth", "--subset", "1000"], "1000"),
    "parameters": (["cnn.pth", "start.pth", "--parameters", "conv*"], "'conv*' matches no parameter"),
    "split": (["start.pth", "--split", "validation"], "validation"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_exit_code_2(folder, capfd, case):
    arguments, message = WRONG[case]
    Path("garbage.pth").write_bytes(b"not a checkpoint")
    assert compare(*arguments) == 2
    error = capfd.readouterr().err
    assert message in error and "Traceback" not in error
    if case != "split":  # the parser of the command line explains itself at length
        assert error.strip().count("\n") == 0 and error.startswith("Error: ")


def test_names_tell_what_differs(tmp_path):
    def named(*checkpoints):
        return ll.cli.distinct_names(checkpoints)

    first = checkpoint(tmp_path / "a.pth")
    twelve = checkpoint(tmp_path / "b.pth", arguments={**ARGUMENTS, "classes": 12})
    default = checkpoint(tmp_path / "c.pth", arguments={"input_shape": (1, 8, 8)})
    cnn = checkpoint(tmp_path / "d.pth", "tiny-cnn", epoch=3, arguments={"input_shape": (1, 8, 8)})
    (tmp_path / "other").mkdir()
    again = checkpoint(tmp_path / "other" / "a.pth")
    assert named(first, twelve) == ["linear-mnist, classes=10", "linear-mnist, classes=12"]
    assert named(first, default) == ["linear-mnist, classes=10", "linear-mnist"]
    assert named(first, cnn) == ["linear-mnist, epoch 1", "tiny-cnn, epoch 3"]
    assert named(twelve, checkpoint(tmp_path / "e.pth", arguments={**ARGUMENTS, "classes": 12})) == ["b", "e"]
    assert named(first, again) == [str(first.path), str(again.path)]


def test_a_range_that_is_found_is_that_of_the_first_checkpoint_for_all(folder):
    assert compare("start.pth", "end.pth", "--range", "auto", "--rise", "0.2", "--no-figures") == 0
    first, second = surface_of("start"), surface_of("end")
    np.testing.assert_array_equal(first.alphas, second.alphas)
    assert first.metadata["range"] == second.metadata["range"] and first.alphas[-1] != 1


def test_a_budget_gives_every_checkpoint_the_samples_that_the_dearest_affords(folder, monkeypatch):
    affordable = iter([40, 30, 20, 20])

    def planned(target, slice_, seconds, seed, **grid):
        assert seconds == 120 and set(grid) == {"alpha_range", "beta_range", "resolution"}
        return BudgetPlan(next(affordable), tolerance=0.05, relative_standard_error=0.06, seconds=100.0)

    monkeypatch.setattr("landscape.cli.budget.plan_budget", planned)
    options = ("end.pth", "cnn.pth", "--budget", "2min", "--no-figures")
    assert compare(*options) == 0
    found = [surface_of(name).metadata for name in ("end", "cnn")]
    assert [each["data"]["size"] for each in found] == [30, 30]
    assert found[0]["data"]["fingerprint"] == found[1]["data"]["fingerprint"]
    assert all(each["interpolation"]["tolerance"] == 0.05 for each in found)
    log = (folder / "comparison_results" / "comparison_log_train.txt").read_text()
    assert "120 s allow 30 of 100 samples (standard error expected to be 6.00% of the loss)" in log
    before = stamps(folder / "comparison_results")
    assert compare(*options) == 0 and stamps(folder / "comparison_results") == before  # nothing is planned again
    assert compare(*options, "--subset", "80") == 0  # unless it is of something else
    assert [surface_of(name).metadata["data"]["size"] for name in ("end", "cnn")] == [20, 20]


def test_networks_of_ones_own_are_compared_when_their_file_is_named(folder, capfd):
    Path("mine.py").write_text(
        "from torch import nn\n\n"
        "def build(input_shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[1] * input_shape[2], classes))\n"
    )
    data = {"name": "digits", "split": "train", "limit": 100, "source": "scikit-learn"}
    arguments, name = {"input_shape": (1, 8, 8), "classes": 10}, "mine.py:build"
    for epoch in range(2):
        ll.save_checkpoint(
            f"own{epoch}.pth", ll.build_model(name, **arguments), model_name=name, model_arguments=arguments,
            data=data, epoch=epoch, metrics={}, settings={},
        )  # fmt: skip
    assert compare("own0.pth", "own1.pth", "--no-figures") == 2
    assert "run only if you name it" in capfd.readouterr().err
    assert compare("own0.pth", "own1.pth", "--model", name, "--no-figures") == 0


def test_basins_are_followed_over_the_checkpoints(folder, capsys):
    assert compare("start.pth", "end.pth", "--basins") == 0
    results = folder / "comparison_results"
    history = ll.results.BasinHistory.load(results / "basins_train.npz")
    assert (
        history.names == ["linear-mnist, epoch 0", "linear-mnist, epoch 9"] and (results / "basins_train.png").exists()
    )
    trees = [ll.topology(surface_of(name)) for name in ("start", "end")]
    assert history.present.sum(1).tolist() == [int(tree.significant.sum()) for tree in trees]
    assert str(history) in capsys.readouterr().out
    assert str(history) in (results / "comparison_log_train.txt").read_text("utf-8")
    assert compare("start.pth", "--basins") == 2
    assert "give two or more" in capsys.readouterr().err
