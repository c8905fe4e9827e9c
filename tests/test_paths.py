"""Figures and films of paths, smoothed surfaces, and visualize_trajectory.py."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

import landscape_lib as ll
import visualize_trajectory
from landscape.results.axes import SliceAxes
from landscape.training.state import TrainingState

SLICE = {"kind": "pca plane", "fingerprint": "abc", "explained_variance": [0.8, 0.15, 0.05]}


def surface(**changes):
    alphas, betas = np.linspace(-2, 1, 9), np.linspace(-1, 1, 7)
    loss = (alphas[:, None] ** 2 + betas**2) + 0.5
    metadata = {"slice": SLICE, "data": {"name": "toy", "split": "train", "size": 9}, "relative_norms": [0.1, 0.1]}
    return replace(ll.Surface(alphas, betas, loss, np.zeros_like(loss), None, None, metadata), **changes)


def path(name="seed 1", steps=6, **changes):
    t = np.linspace(1, 0, steps)
    fields = {
        "steps": np.arange(steps),
        "coordinates": np.stack([-1.8 * t, 0.8 * np.sin(3 * t)], 1),
        "distance": t / 10,
        "relative_distance": 0.05 * (t > 0),
        "loss": 3 * t + 0.5,
        "shadow_loss": 2 * t + 0.5,
        "metadata": {"name": name, "unit": "epoch", "slice": SLICE},
    }
    return ll.results.Trajectory(**{**fields, **changes})


def test_a_path_is_drawn_at_its_coordinates_with_its_ends_and_its_distance(clean_figures):
    one, two = path(), path("seed 2", steps=4)
    ax = ll.plot_path(surface(), [one, two])
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    np.testing.assert_array_equal(lines["seed 1"], one.coordinates)
    np.testing.assert_array_equal(lines["seed 2"], two.coordinates)
    np.testing.assert_array_equal(lines["start"], two.coordinates[:1])
    np.testing.assert_array_equal(lines["end"], two.coordinates[-1:])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["seed 1", "seed 2", "start", "end"]
    assert "off the plane by up to 5.0% of the path's extent" in ax.get_title()
    numbers = [text for lines in ax.collections for text in getattr(lines, "labelTexts", [])]
    steps = [text.get_text() for text in ax.texts if text not in numbers]
    assert steps and all(text.startswith("epoch ") for text in steps)
    assert ax.get_xlim() == (-2, 1) and ax.get_ylim() == (-1, 1)
    assert not any(label == "origin" for label in lines)  # the end is there already


def test_losses_of_points_and_shadows_are_drawn_as_they_are(clean_figures):
    run = path()
    upper, lower = ll.plot_path_losses(run).axes
    true, shadow = (line.get_ydata() for line in upper.lines)
    np.testing.assert_array_equal(true, run.loss)
    np.testing.assert_array_equal(shadow, run.shadow_loss)
    np.testing.assert_allclose(lower.lines[0].get_ydata(), 100 * run.distance / 2)  # 0.1 is 5 % of 2
    assert lower.get_xlabel() == "epoch"
    assert ll.plot_path_losses(run, log_scale=True).axes[0].get_yscale() == "log"


def test_the_legend_of_losses_lists_runs_and_kinds_of_lines_once_below_the_axes(clean_figures):
    runs = [path(f"seed {k}") for k in range(4)]
    figure = ll.plot_path_losses(runs)
    upper, lower = figure.axes
    legend = lower.get_legend()
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [*(run.metadata["name"] for run in runs), "at the point", "at its shadow on the plane"]
    figure.canvas.draw()
    assert upper.get_legend() is None and legend.get_window_extent().y1 < lower.xaxis.label.get_window_extent().y0
    assert all(tick == round(tick) for tick in lower.get_xticks())
    contours = {line.get_label(): line.get_color() for line in ll.plot_path(surface(), runs).lines}
    assert [line.get_color() for line in upper.lines[::2]] == [contours[run.metadata["name"]] for run in runs]
    point, shadow = upper.lines[:2]
    assert point.get_linewidth() > 2 * shadow.get_linewidth() and point.get_alpha() < 1 and shadow.get_alpha() is None


def test_distances_that_are_rounding_look_like_none(clean_figures):
    tiny = path(distance=np.full(6, 2e-8), relative_distance=np.full(6, 1e-8))
    assert ll.plot_path_losses(tiny).axes[1].get_ylim() == (0, 0.01)  # per cent


@pytest.mark.parametrize(
    ("variances", "texts"),
    [((0.99897, 0.00103), ("99.8%", "< 1%")), ((0.61, 0.3), ("61%", "30%")), ((1.0, 1e-14), ("100%", "0%"))],
)
def test_a_component_has_all_or_none_of_the_variance_only_if_it_has(variances, texts):
    units = SliceAxes.principal(variances, None).units
    assert units == tuple(f"principal component {k + 1}, {text} of the variance" for k, text in enumerate(texts))


def test_a_path_of_another_plane_is_refused():
    other = path()
    other.metadata["slice"] = {**SLICE, "fingerprint": "xyz"}
    with pytest.raises(ll.InputError, match="seed 1 was projected onto another plane"):
        ll.plot_path(surface(), other)
    with pytest.raises(ll.InputError, match="no trajectory"):
        ll.plot_path(surface(), [])


def test_a_loss_of_zero_stands_at_the_smallest_positive_one_of_a_log_scale():
    with pytest.warns(UserWarning, match=r"1 of 12 points at or below 0 drawn at 0\.5"):
        figure = ll.plot_path_losses(path(loss=np.arange(6.0)), log_scale=True)
    assert min(min(line.get_ydata()) for line in figure.axes[0].lines) == 0.5


def test_smoothing_is_a_normalised_convolution_that_spares_non_finite_points():
    loss = surface().loss.copy()
    loss[4, 3] = np.nan
    given = surface(loss=loss)
    found = ll.cli.smooth(given, 1.0)
    offsets = np.arange(-4, 5)
    kernel = np.exp(-(offsets**2) / 2)
    kernel = np.outer(kernel, kernel)
    finite = np.pad(np.isfinite(loss), 4, mode="edge").astype(float)
    padded = np.pad(np.nan_to_num(loss), 4, mode="edge")
    expected = convolve2d(padded, kernel, mode="valid") / convolve2d(finite, kernel, mode="valid")
    expected[4, 3] = np.nan
    np.testing.assert_allclose(found.loss, expected, rtol=1e-12)
    assert np.array_equal(given.loss, loss, equal_nan=True) and found.metadata["smoothed"] == 1.0
    assert "smoothed for display (Gaussian, σ = 1 grid steps)" in ll.plot_contour(found).get_title()
    with pytest.raises(ll.InputError, match="sigma is 0"):
        ll.cli.smooth(given, 0)


TOY = ["--dataset", "digits", "--limit", "120", "--epochs", "4", "--hidden", "4", "--lr", "0.1", "--resolution", "5"]
TOY += ["--device", "cpu", "--data-dir"]


def run(*arguments):
    ll.cli.run_script(visualize_trajectory.main, [*map(str, arguments)])


def test_the_script_writes_everything_and_computes_nothing_twice(tmp_path, small_data, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [*TOY, small_data, "--seeds", 1, 2, "--animate", "--smoothing", 1]
    run(*options)
    results = Path("trajectory_results")
    names = [
        "trajectory_seed-1.points", "trajectory_seed-2.points", "trajectory_seed-1.npz", "trajectory_seed-2.npz",
        "trajectory_surface.npz", "trajectory_contour.png", "trajectory_losses.png", "trajectory.gif",
        "trajectory_3d.gif",
        "surface_before.npz", "surface_after.npz", "before_after.png", "trajectory_log.txt", "loss_landscape.html",
    ]  # fmt: skip
    printed = capsys.readouterr().out
    assert all((results / name).exists() and f"Wrote trajectory_results/{name}" in printed for name in names)
    surface = ll.Surface.load(results / "trajectory_surface.npz")
    paths = [ll.results.Trajectory.load(results / f"trajectory_seed-{seed}.npz") for seed in (1, 2)]
    for one in paths:
        assert one.steps.tolist() == [0, 1, 2, 3, 4] and one.metadata["unit"] == "epoch"
        for values, axis in zip(one.coordinates.T, surface.axes, strict=True):
            assert axis[0] < values.min() and values.max() < axis[-1]
    np.testing.assert_allclose(paths[1].coordinates[-1], 0, atol=1e-6)  # the last point of all is the origin
    after = ll.Surface.load(results / "surface_after.npz")
    assert after.shape == (5, 5) and "smoothed" not in after.metadata
    assert after.loss[after.centre] == pytest.approx(paths[0].loss[-1], rel=1e-5)
    before = {path.name: path.stat().st_mtime_ns for path in results.iterdir() if path.suffix in (".npz", ".points")}
    run(*options)
    assert before == {name: (results / name).stat().st_mtime_ns for name in before}
    assert "epoch 1 of 4" not in capsys.readouterr().out


def test_the_planes_of_a_path_move_the_chosen_parameters(tmp_path, small_data, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        run(*TOY, small_data, "--parameters", "layer9.*")
    assert "'layer9.*' matches no parameter" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.points"))  # nothing is trained before
    run(*TOY, small_data, "--parameters", "fc.*", "trainable")
    whole = ll.Surface.load("trajectory_results/trajectory_surface.npz")
    run(*TOY, small_data, "--parameters", "fc.*")
    chosen = ll.Surface.load("trajectory_results/trajectory_surface.npz")
    points = ll.RecordedPoints("trajectory_results/trajectory_seed-42.points")
    assert "epoch 1 of 4" not in capsys.readouterr().out.split("Settings")[-1]
    rows = torch.stack([torch.cat([v.flatten() for n, v in point.items() if n.startswith("fc.")]) for point in points])
    variances = torch.linalg.svdvals((rows - rows.mean(0)).double()) ** 2
    shares = chosen.metadata["slice"]["explained_variance"]
    np.testing.assert_allclose(shares, (variances / variances.sum()).numpy(), atol=1e-5)
    assert abs(shares[0] - whole.metadata["slice"]["explained_variance"][0]) > 1e-4
    after = ll.Surface.load("trajectory_results/surface_after.npz")
    assert after.metadata["slice"]["parameters"] == ["fc.*"]
    for surface in (chosen, after):
        assert ll.plot_comparison([surface]).get_suptitle().startswith("simplenet, digits train, ")


def test_what_the_plane_of_a_path_leaves_out_is_measured_on_request(tmp_path, small_data, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [*TOY, small_data, "--no-before-after"]
    run(*options, "--faithfulness", "never")
    path = Path("trajectory_results/trajectory_surface.npz")
    assert ll.Surface.load(path).faithfulness is None
    run(*options, "--faithfulness", "always")
    surface, log = ll.Surface.load(path), Path("trajectory_results/trajectory_log.txt").read_text("utf-8")
    box = surface.faithfulness
    assert box.step_share is not None and box.box in log and box.box in capsys.readouterr().out
    points = ll.RecordedPoints("trajectory_results/trajectory_seed-42.points")
    assert box.dimension == sum(value.numel() for value in points[-1].values())
    assert box.caption in ll.plot_contour(surface).get_title()


def test_a_wrong_tolerance_is_refused_before_anything_is_trained(tmp_path, small_data, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        run(*TOY, small_data, "--tolerance", "-1")
    assert capsys.readouterr().err.startswith("Error: tolerance is a share of the loss")
    assert not list(tmp_path.rglob("*.points"))


def test_the_script_draws_checkpoints_of_a_batch_norm_network(tmp_path, small_data, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data, test = ll.load_dataset("digits", limit=60, data_dir=small_data), ll.load_dataset("digits", split="test")
    arguments = {"input_shape": (1, 8, 8), "classes": 10, "normalization": "batch"}
    shared = {"model_name": "resnet8", "model_arguments": arguments, "settings": {},
              "data": {"name": "digits", "split": "train", "limit": 60, "source": ""}}  # fmt: skip
    run_folder = ll.cli.Run("runs/a", epochs=3, save_epochs="all", resume=False, checkpoint=shared)
    ll.cli.seed_everything(0)
    model = ll.build_model("resnet8", **arguments)
    ll.fit(model, data, test, device="cpu", on_epoch=run_folder.keep, epoch_zero=True, state=run_folder.state,
           epochs=3, batch_size=20, lr=0.05, seed=0)  # fmt: skip
    files = sorted(Path("runs/a").glob("*.pth"))
    run("--checkpoints", *files, "--resolution", 2, "--tolerance", 0.5, "--data-dir", small_data, "--subset", 20)
    found = ll.results.Trajectory.load("trajectory_results/trajectory_a.npz")
    assert found.steps.tolist() == [0, 1, 2, 3] and np.isfinite(found.shadow_loss).all()
    assert found.metadata["objective"]["batch_norm"] == "recalibrate"
    points = ll.RecordedPoints("trajectory_results/trajectory_a.points")
    losses = [entry["test_loss"] for entry in json.loads(run_folder.metrics.read_text())["epochs"]]
    np.testing.assert_allclose(points.losses[1:], losses[-3:])
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        run("--checkpoints", *files[:2], "--data-dir", small_data)
    assert "at least three checkpoints, not 2" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run("--checkpoints", files[0], *files[:2], "--data-dir", small_data)
    assert "are both of epoch 0" in capsys.readouterr().err


def stored():
    return {path.name: path.read_bytes() for path in Path("trajectory_results").iterdir() if path.suffix != ".txt"}


def test_an_interrupted_training_goes_on_to_the_same_points(tmp_path, small_data, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [*TOY, small_data, "--no-before-after", "--seeds", 1, 2]
    run(*options)
    whole = {path.name: path.read_bytes() for path in Path("trajectory_results").glob("*.points")}
    surface = ll.Surface.load("trajectory_results/trajectory_surface.npz")
    assert not list(Path("trajectory_results").glob("*unfinished*"))
    Path("trajectory_results").rename("before")
    capsys.readouterr()

    recorded = ll.TrajectoryRecorder.on_epoch

    def killed(self, epoch, *rest):
        if "seed-2" in self.path.name and epoch == 3:
            recorded(self, epoch, *rest)  # the point is there, the state of the training is not
            raise KeyboardInterrupt
        recorded(self, epoch, *rest)

    monkeypatch.setattr(ll.TrajectoryRecorder, "on_epoch", killed)
    with pytest.raises(SystemExit, match="130"):
        run(*options)
    monkeypatch.setattr(ll.TrajectoryRecorder, "on_epoch", recorded)
    capsys.readouterr()
    run(*options)
    printed = capsys.readouterr().out
    assert "epoch 3 of 4" in printed and "epoch 2 of 4" not in printed
    assert {name: Path("trajectory_results", name).read_bytes() for name in whole} == whole
    again = ll.Surface.load("trajectory_results/trajectory_surface.npz")
    assert np.array_equal(again.loss, surface.loss)
    assert not list(Path("trajectory_results").glob("*unfinished*"))


def test_lost_points_are_noticed_and_the_next_run_trains_anew(tmp_path, small_data, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [*TOY, small_data, "--no-before-after"]
    saved = TrainingState.save

    def killed(self, history):
        saved(self, history)
        if len(history) == 2:
            [points] = Path("trajectory_results").glob("*.points")
            points.write_bytes(points.read_bytes()[:-400])  # without the last point
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingState, "save", killed)
    with pytest.raises(SystemExit, match="130"):
        run(*options)
    monkeypatch.setattr(TrainingState, "save", saved)
    with pytest.raises(SystemExit, match="2"):
        run(*options)
    assert "has lost points recorded before" in capsys.readouterr().err
    run(*options)
    assert len(ll.RecordedPoints("trajectory_results/trajectory_seed-42.points")) == 5


def test_another_network_leaves_the_results_of_the_first_alone(tmp_path, small_data, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(*TOY, small_data)
    first = stored()
    capsys.readouterr()
    options = [*TOY, small_data, "--epochs", 3]
    run(*options)
    assert "are not replaced; names of the new ones end in _simplenet_digits" in capsys.readouterr().out
    assert first.items() <= stored().items()
    assert {"trajectory_seed-42_simplenet_digits.points", "before_after_simplenet_digits.png"} <= stored().keys()
    names = stored().keys()
    run(*TOY, small_data)
    run(*options)
    assert names == stored().keys() and "epoch 1 of" not in capsys.readouterr().out.rpartition("names of the new")[2]


def test_data_that_cannot_be_loaded_are_refused_before_settings_are_printed(tmp_path, small_data, capsys):
    for options, message in ((["--dataset", "nope"], "unknown dataset 'nope'"), (["--limit", "5000"], "5000 samples")):
        with pytest.raises(SystemExit, match="2"):
            run(*TOY, small_data, "--out", tmp_path, *options)
        printed = capsys.readouterr()
        assert printed.out == "" and message in printed.err and len(printed.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resolution", "1"], "resolution must be at least 2 points an axis, not 1"),
        (["--resolution", "1000000"], "a grid may have 100,000,000 points at most"),
        (["--margin", "nan"], "margin is nan"),
        (["--margin", "-1"], "margin is -1.0"),
        (["--smoothing", "inf"], "smoothing is inf"),
        (["--smoothing", "60"], "smoothing is 60.0 grid steps; the planes have 5"),
        (["--smoothing", "1", "--no-before-after"], "--smoothing has no effect with --no-before-after"),
        (["--subset", "0"], "subset is 0"),
        (["--limit", "0"], "limit is 0"),
        (["--epochs", "1"], "epochs is 1, which gives 2 points"),
        (["--epochs", "0"], "epochs is 0"),
        (["--seeds", "1", "1"], "seeds has 1 twice"),
        (["--seeds", "1", "-1"], "seed is -1; it must be a whole number from 0"),
        (["--seed", str(2**64)], "seed is 18446744073709551616"),
        (["--lrs", "0.1", "nan"], "lr is nan"),
        (["--optimizers", "sgd", "sgd"], "optimizers has 'sgd' twice"),
        (["--model", "nope"], "unknown model 'nope'"),
        (["--model", "tiny-cnn"], "model 'tiny-cnn' cannot be built with {'hidden': 4}"),
        (["--device", "abacus"], "unknown device 'abacus'"),
        (["--checkpoints", "a.pth"], "--limit, --dataset, --epochs, --lr, --hidden have no effect with --checkpoints"),
        (["--accept-mismatch"], "--accept-mismatch has no effect without --checkpoints"),
    ],
)
def test_wrong_options_are_refused_before_any_work(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("landscape.cli.training_paths.load_dataset", None)  # not reached
    with pytest.raises(SystemExit, match="2"):
        run(*TOY, tmp_path, *options)
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())
