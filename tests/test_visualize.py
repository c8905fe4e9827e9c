"""The visualisation scripts as a user runs them, in-process and small: files, idempotence, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scripts import explored, run, stamps

import landscape_lib as ll


@pytest.fixture
def folder(tmp_path, monkeypatch, small_data):
    """A working folder with a linear and a convolutional checkpoint on a hundred digits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    data = {"name": "digits", "split": "train", "limit": 100, "source": "scikit-learn"}
    for name, path in (("linear-mnist", "mnist_linear_model.pth"), ("tiny-cnn", "cifar10_cnn_model.pth")):
        torch.manual_seed(0)
        arguments = {"input_shape": (1, 8, 8), "classes": 10}
        ll.save_checkpoint(
            path,
            ll.build_model(name, **arguments),
            model_name=name,
            model_arguments=arguments,
            data=data,
            epoch=1,
            metrics={},
            settings={},
        )
    return tmp_path


def landscape(*arguments):
    return run("visualize_loss_landscape.py", "--resolution", "5", *arguments)


def singles(*arguments):
    return run("visualize_single_sample_landscapes.py", "--resolution", "5", "--samples", "3", *arguments)


@pytest.mark.parametrize(
    ("checkpoint", "suffix"), [("mnist_linear_model.pth", ""), ("cifar10_cnn_model.pth", "_cifar10")]
)
def test_the_landscape_script_writes_every_file_and_computes_once(folder, capsys, checkpoint, suffix):
    assert landscape("--checkpoint", checkpoint) == 0
    results = folder / "loss_landscape_results"
    names = ["landscape_train_2d_contour", "landscape_test_2d_contour", "landscape_train_3d_surface"]
    names = [f"{name}{suffix}.png" for name in [*names, "landscape_train_1d_slices"]]
    names += [f"loss_grid_train{suffix}.npz", f"loss_grid_test{suffix}.npz", f"experiment_log{suffix}.txt"]
    assert sorted(path.name for path in results.iterdir()) == sorted(names)
    printed = capsys.readouterr().out
    assert all(f"Wrote loss_landscape_results/{name}" in printed for name in names)

    model = ll.load_checkpoint(checkpoint).model
    plane = ll.random_plane(model, seed=42)
    for split, size in (("train", 100), ("test", 360)):
        surface = ll.Surface.load(results / f"loss_grid_{split}{suffix}.npz")
        data = ll.load_dataset("digits", split=split, limit=100 if split == "train" else None)
        assert len(data) == pytest.approx(size, abs=5)
        expected = ll.objective(model, data, device="cpu")(plane(-1.0, 0.5)).mean()
        assert surface.loss[0, 3] == pytest.approx(expected.item(), rel=1e-4)
    log = (results / f"experiment_log{suffix}.txt").read_text()
    for part in ("digits train", "seed 42", "cosine", "versions", "accuracy at the centre", "seconds", "sha256"):
        assert part in log

    before = stamps(results)
    assert landscape("--checkpoint", checkpoint) == 0
    assert stamps(results) == before
    assert landscape("--checkpoint", checkpoint, "--seed", "1", "--no-figures") == 0
    assert all(stamp != before[name] for name, stamp in stamps(results).items())


def test_subset_is_random_seeded_and_recorded(folder):
    assert landscape("--subset", "20", "--no-figures") == 0
    surface = ll.Surface.load("loss_landscape_results/loss_grid_train.npz")
    assert surface.metadata["data"]["size"] == 20
    assert not list(Path("loss_landscape_results").glob("*.png"))
    data, model = ll.load_dataset("digits", limit=100), ll.load_checkpoint("mnist_linear_model.pth").model
    drawn = data.subset(20, seed=42)
    assert not torch.equal(drawn.inputs, data.inputs[:20])
    expected = ll.objective(model, drawn, device="cpu")(model).mean().item()
    assert surface.loss[surface.centre] == pytest.approx(expected, rel=1e-5)


def test_drawing_again_from_a_file_computes_nothing(folder):
    assert landscape("--no-figures", "--html") == 0
    assert explored("loss_landscape_results/explorer.html") == ["train", "test"]
    Path("mnist_linear_model.pth").unlink()
    source, options = "loss_landscape_results/loss_grid_train.npz", ["--log-scale", "--levels", "9", "--html"]
    assert run("visualize_loss_landscape.py", "--from", source, "--out", "again", *options) == 0
    assert {path.name for path in Path("again").iterdir()} == {
        "landscape_train_2d_contour.png",
        "landscape_train_3d_surface.png",
        "landscape_train_1d_slices.png",
        "explorer.html",
    }


def test_the_box_of_a_plane_is_logged_stored_and_measured_once(folder, capsys):
    options = ["--faithfulness", "always", "--minibatches", "1", "--batch-size", "20", "--no-figures"]
    assert landscape(*options) == 0
    results = folder / "loss_landscape_results"
    boxes = [ll.Surface.load(results / f"loss_grid_{split}.npz").faithfulness for split in ("train", "test")]
    assert ll.Surface.load(results / "loss_grid_train_minibatch0.npz").faithfulness is None
    model, data = ll.load_checkpoint("mnist_linear_model.pth").model, ll.load_dataset("digits", limit=100)
    target = ll.objective(model, data, device="cpu")
    expected = ll.faithfulness(target, ll.random_plane(model, seed=42), seed=42, progress=False)
    assert boxes[0].axis_curvatures == pytest.approx(expected.axis_curvatures, rel=1e-4)
    assert boxes[0].largest == pytest.approx(expected.largest, rel=1e-3) and boxes[1].dimension == 650
    log, printed = (results / "experiment_log.txt").read_text("utf-8"), capsys.readouterr().out
    assert all(box.box in log and box.box in printed for box in boxes)
    before = stamps(results)
    assert landscape(*options) == 0 and stamps(results) == before


def test_minibatches_are_those_of_a_training_step(folder):
    torch.manual_seed(0)
    model = ll.build_model("resnet8", input_shape=(1, 8, 8))
    model.train()(torch.randn(64, 1, 8, 8))  # running statistics that are not those of the batches
    data = {"name": "digits", "split": "train", "limit": 100, "source": "scikit-learn"}
    arguments = {"input_shape": (1, 8, 8)}
    ll.save_checkpoint(
        "net.pth", model, model_name="resnet8", model_arguments=arguments, data=data, epoch=1, metrics={}, settings={}
    )
    assert landscape("--checkpoint", "net.pth", "--minibatches", "2", "--batch-size", "30", "--resolution", "3") == 0
    results = folder / "loss_landscape_results"
    assert (results / "landscape_train_minibatches_resnet8.png").exists()
    seen = []
    for number in range(2):
        surface = ll.Surface.load(results / f"loss_grid_train_minibatch{number}_resnet8.npz")
        assert surface.metadata["objective"]["batch_norm"] == "batch" and surface.metadata["data"]["size"] == 30
        batch = ll.load_dataset("digits", limit=100).minibatches(2, 30, seed=42)[number]
        seen += batch.indices.tolist()
        with torch.no_grad():
            expected = torch.nn.functional.cross_entropy(model.train()(batch.inputs), batch.targets)
        assert surface.loss[1, 1] == pytest.approx(expected.item(), rel=1e-4)
    assert len(set(seen)) == 60
    assert ll.Surface.load(results / "loss_grid_train_resnet8.npz").metadata["objective"]["batch_norm"] == "running"


def test_only_the_chosen_parameters_move(folder, capsys):
    assert (
        landscape("--checkpoint", "cifar10_cnn_model.pth", "--parameters", "fc*", "--ignore", "norm", "--subset", "30")
        == 0
    )
    surface = ll.Surface.load("loss_landscape_results/loss_grid_train_cifar10.npz")
    model = ll.load_checkpoint("cifar10_cnn_model.pth").model
    plane = ll.random_plane(model, seed=42, ignore=())
    data, values = ll.load_dataset("digits", limit=100).subset(30, seed=42), ll.parameters_of(model)
    for i, alpha in enumerate(surface.alphas):
        for j, beta in enumerate(surface.betas):
            moved = {n: v for n, v in plane(alpha, beta).items() if n.startswith("fc")}
            logits = torch.func.functional_call(model, values | moved, data.inputs)
            expected = torch.nn.functional.cross_entropy(logits, data.targets).item()
            assert surface.loss[i, j] == pytest.approx(expected, rel=1e-5)
    assert "not moved" in capsys.readouterr().out
    assert singles("--checkpoint", "cifar10_cnn_model.pth", "--parameters", "fc3.*") == 2
    assert "'fc3.*' matches no parameter" in capsys.readouterr().err


def test_pairs_of_directions_are_planes_of_the_next_seeds(folder):
    assert landscape("--direction-pairs", "3") == 0
    results = folder / "loss_landscape_results"
    assert (results / "landscape_train_direction_pairs.png").exists()
    model, data = ll.load_checkpoint("mnist_linear_model.pth").model, ll.load_dataset("digits", limit=100)
    for seed in (43, 44):
        surface = ll.Surface.load(results / f"loss_grid_train_seed{seed}.npz")
        expected = ll.objective(model, data, device="cpu")(ll.random_plane(model, seed=seed)(-1.0, 0.5)).mean()
        assert surface.loss[0, 3] == pytest.approx(expected.item(), rel=1e-4)


def test_a_found_range_is_recorded_zoomed_and_the_same_for_both_splits(folder):
    assert landscape("--range", "auto", "--rise", "0.5", "--zoom", "0.1", "--no-figures") == 0
    results = folder / "loss_landscape_results"
    train, test = (ll.Surface.load(results / f"loss_grid_{split}.npz") for split in ("train", "test"))
    found = train.metadata["range"]
    assert found == test.metadata["range"] and found["rise"] == 0.5
    np.testing.assert_allclose(train.alphas[[0, -1]], [-0.1 * found["span"], 0.1 * found["span"]])
    np.testing.assert_array_equal(train.alphas, test.betas)


@pytest.mark.usefixtures("patient_planner")
def test_a_tolerance_and_a_budget_are_recorded_and_computed_once(folder, capsys):
    results = folder / "loss_landscape_results"
    options = ["--checkpoint", "cifar10_cnn_model.pth", "--resolution", "25", "--no-figures"]
    assert run("visualize_loss_landscape.py", *options, "--tolerance", "0.05") == 0
    surface = ll.Surface.load(results / "loss_grid_train_cifar10.npz")
    assert surface.metadata["interpolation"]["tolerance"] == 0.05 and not surface.evaluated.all()
    before = stamps(results)
    assert run("visualize_loss_landscape.py", *options, "--tolerance", "0.05") == 0
    assert stamps(results) == before
    assert run("visualize_loss_landscape.py", *options, "--budget", "20s") == 0
    assert ll.Surface.load(results / "loss_grid_train_cifar10.npz").metadata["budget"]["asked"]["seconds"] == 20
    before = stamps(results)
    assert run("visualize_loss_landscape.py", *options, "--budget", "20s") == 0
    assert stamps(results) == before and "Budget:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("checkpoint", "suffix"), [("mnist_linear_model.pth", ""), ("cifar10_cnn_model.pth", "_cifar10")]
)
def test_single_samples_share_the_plane_of_the_landscape(folder, checkpoint, suffix):
    assert singles("--checkpoint", checkpoint) == 0
    results = folder / "loss_landscape_results"
    chosen = json.loads((results / f"selected_samples{suffix}.json").read_text())
    assert chosen["seed"] == 42 and chosen["split"] == "train" and len(chosen["samples"]) == 3
    for ending in ("png", "pdf"):
        assert (results / f"samples_landscape_grid{suffix}.{ending}").stat().st_size > 5000
    assert "true_class" in (results / f"selected_samples{suffix}.json").read_text()
    assert (results / f"single_sample_experiment_log{suffix}.txt").exists()

    model, data = ll.load_checkpoint(checkpoint).model, ll.load_dataset("digits", limit=100)
    plane = ll.random_plane(model, seed=42)
    for record in chosen["samples"]:
        surface = ll.Surface.load(results / f"sample_{record['index']}_loss_grid{suffix}.npz")
        losses = ll.objective(model, data, device="cpu")(plane(0.5, -1.0))
        assert surface.loss[3, 0] == pytest.approx(losses[record["index"]].item(), rel=1e-4)
        logits = model(data.inputs[record["index"]][None])
        assert record["predicted_class"] == data.classes[logits.argmax()]
        assert record["probability"] == pytest.approx(logits.softmax(1).max().item(), rel=1e-5)
        assert surface.metadata["sample"]["true_class"] == data.classes[data.targets[record["index"]]]

    before = stamps(results)
    assert singles("--checkpoint", checkpoint, "--color-scale", "individual", "--html") == 0
    names = explored(results / f"samples_explorer{suffix}.html")
    numbers = [int(name.removeprefix("sample ").partition(",")[0]) for name in names]
    assert numbers == [record["index"] for record in chosen["samples"]]
    assert stamps(results)[f"samples_loss_grid{suffix}.npz"] == before[f"samples_loss_grid{suffix}.npz"]


def test_chosen_indices_and_split(folder):
    assert singles("--indices", "7", "3", "--split", "test", "--color-scale", "quantile") == 0
    chosen = json.loads(Path("loss_landscape_results/selected_samples.json").read_text())
    assert [record["index"] for record in chosen["samples"]] == [7, 3] and chosen["split"] == "test"


def test_a_missing_default_checkpoint_is_trained_first(tmp_path, monkeypatch, small_data, offline, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--data-dir", str(small_data), "--subset", "20", "--no-figures"]
    assert landscape(*options) == 0
    assert "training it first, a linear classifier of mnist-5k" in capsys.readouterr().out
    assert run("train_mnist.py", "--data-dir", str(small_data), "--out", "again.pth") == 0
    one, other = ll.load_checkpoint("mnist_linear_model.pth"), ll.load_checkpoint("again.pth")
    assert one.sha256 == other.sha256 and one.metadata["epoch"] == 10
    Path("mnist_linear_model.pth").unlink()
    assert landscape(*options, "--model", "none.py:net") == 2  # a network of one's own is not trained here
    assert not Path("mnist_linear_model.pth").exists()


WRONG = {
    "missing checkpoint": (["--checkpoint", "none.pth"], "none.pth does not exist"),
    "garbage checkpoint": (["--checkpoint", "garbage.pth"], "garbage.pth"),
    "grid": (["--resolution", "1"], "at least 2 points"),
    "range": (["--alpha-range", "1", "-1"], "alpha_range must go from a smaller"),
    "device": (["--device", "tpu"], "unknown device 'tpu'"),
    "option": (["--sed", "3"], "--sed"),
    "subset": (["--subset", "100000"], "100000"),
    "method": (["--checkpoint", "cifar10_cnn_model.pth", "--method", "affine"], "does not fit"),
    "output": (["--out", "garbage.pth/x"], "garbage.pth/x"),
    "surface": (["--from", "garbage.pth"], "garbage.pth is no surface file"),
    "pattern": (["--ignore", "layer7.*"], "matches no parameter"),
    "parameters": (["--parameters", "layer7.*"], "'layer7.*' matches no parameter"),
    "shortcut": (
        ["--parameters", "attention"],
        "no parameter of this network is named like a layer of the kind 'attention'",
    ),
    "nothing moves": (["--ignore", "*"], "no parameter"),
    "mini-batches": (["--minibatches", "3", "--batch-size", "50"], "cannot draw 3 mini-batches of 50 samples: digits"),
    "rise": (["--range", "auto", "--rise", "-1"], "rise must be a positive number"),
    "tolerance": (["--tolerance", "2"], "tolerance is a share"),
    "budget": (["--budget", "soon"], "write 60s, 10min or 1h"),
    "budget and tolerance": (["--budget", "20s", "--tolerance", "0.05"], "either --budget or --tolerance"),
    "precision": (["--precision", "fp8"], "fp8"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_exit_code_2(folder, capfd, case):
    arguments, message = WRONG[case]
    Path("garbage.pth").write_bytes(b"not a checkpoint")
    assert run("visualize_loss_landscape.py", *arguments) == 2
    error = capfd.readouterr().err
    assert message in error and "Traceback" not in error
    if case not in ("option", "precision"):  # the parser of the command line explains itself at length
        assert error.strip().count("\n") == 0 and error.startswith("Error: ")


def test_the_data_of_a_checkpoint_that_are_gone_are_named(folder, capfd):
    trained = torch.load("mnist_linear_model.pth", weights_only=True)
    trained["data"]["name"] = "folder:nowhere"
    torch.save(trained, "mnist_linear_model.pth")
    assert landscape() == 2
    assert "nowhere" in capfd.readouterr().err


def test_ctrl_c_keeps_whole_files(folder, capfd, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("landscape.evaluation.methods.affine.Affine.run", stop)
    assert landscape() == 130
    assert "Ctrl-C" in capfd.readouterr().err
    assert not list(Path("loss_landscape_results").glob("loss_grid*"))


def test_a_loss_that_is_nan_at_the_origin_is_said_and_drawn(folder, capfd):
    trained = torch.load("mnist_linear_model.pth", weights_only=True)
    trained["model_state_dict"]["fc.weight"][0, 0] = float("nan")
    torch.save(trained, "mnist_linear_model.pth")
    assert landscape() == 0
    captured = capfd.readouterr()
    assert "NOT FINITE (nan)" in captured.err and "non-finite points: 25 of 25" in captured.out
    assert np.isnan(ll.Surface.load("loss_landscape_results/loss_grid_train.npz").loss).all()
    assert Path("loss_landscape_results/landscape_train_2d_contour.png").exists()


def test_figures_come_in_several_formats_and_in_one_style(folder, capsys):
    arguments = ("--format", "svg", "pdf", "--figure-style", "paper", "--cmap", "magma", "--dpi", "60")
    assert landscape("--checkpoint", "mnist_linear_model.pth", *arguments) == 0
    results = folder / "loss_landscape_results"
    stems = {f"landscape_{name}" for name in ("train_2d_contour", "test_2d_contour", "train_3d_surface")}
    stems.add("landscape_train_1d_slices")
    written = {path.name for path in results.glob("landscape_*")}
    assert written == {f"{stem}.{ending}" for stem in stems for ending in ("svg", "pdf")}
    drawing = (results / "landscape_train_2d_contour.svg").read_text("utf-8")
    assert f'width="{72 * 3.3:g}pt"' in drawing  # points
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cmap", "virdis"), "unknown colour map 'virdis'; did you mean viridis"),
        (("--format", "png", "png"), "format has 'png' twice"),
        (("--format", "gif"), "invalid choice 'gif'"),
        (("--dpi", "0"), "dpi is 0; it must be a whole number from 10 to 1,200"),
    ],
)
def test_figures_that_cannot_be_written_are_refused_before_the_work(folder, capsys, arguments, message):
    assert landscape("--checkpoint", "mnist_linear_model.pth", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "loss_landscape_results").exists()


def test_training_and_test_data_share_their_colours(folder, monkeypatch):
    limits, contour = [], ll.plot_contour
    monkeypatch.setattr(ll, "plot_contour", lambda surface, **options: limits.append(options) or contour(surface))
    assert landscape("--checkpoint", "mnist_linear_model.pth") == 0
    results = folder / "loss_landscape_results"
    losses = np.concatenate([ll.Surface.load(results / f"loss_grid_{split}.npz").loss for split in ("train", "test")])
    expected = {"vmin": losses.min(), "vmax": losses.max()}
    assert [{name: options[name] for name in expected} for options in limits] == [expected] * 2
    assert landscape("--checkpoint", "mnist_linear_model.pth", "--no-share-scale") == 0
    assert all("vmin" not in options for options in limits[2:]) and len(limits) == 4
