"""measure_curvature.py as a user runs it, its figures, and the edge of stability."""

import json
from pathlib import Path

import numpy as np
import pytest
import scripts
import torch
from matplotlib.colors import to_hex
from surfaces import new_axes

import landscape_lib as ll
from landscape.results import Eigenpairs, SpectralDensity
from landscape.sharpness.measures import sharpness_in

ROOT = Path(__file__).parents[1]
TINY = ["--samples", "25", "--k", "3", "--probes", "2", "--steps", "4", "--max-products", "30", "--resolution", "4"]
TINY += ["--measures", "sam", "gaussian", "--device", "cpu"]


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A linear network on small digits, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    torch.manual_seed(0)
    arguments = {"input_shape": (1, 8, 8), "classes": 10}
    data = {"name": "digits", "split": "train", "limit": None, "source": "scikit-learn"}
    model = ll.build_model("linear-mnist", **arguments)
    ll.save_checkpoint(
        "net.pth", model, model_name="linear-mnist", model_arguments=arguments, data=data, epoch=1, metrics={},
        settings={},
    )  # fmt: skip
    return model


def run(*arguments):
    """Exit code of the script."""
    return scripts.run("measure_curvature.py", "--checkpoint", "net.pth", *TINY, *arguments)


def test_the_script_writes_every_file_and_computes_once(checkpoint, capsys):
    assert run("--trace-error", "1e-9") == 0
    printed, out = capsys.readouterr().out, Path("curvature_results")
    names = [f"{name}.npz" for name in ("eigenpairs", "trace", "density", "eigenvector_plane")]
    names += [f"{name}.png" for name in ("eigenvalues", "density", "sharpness", "eigenvector_plane")]
    names += ["curvature.json", "sharpness.json"]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert all(f"Wrote {out / name}" in printed for name in names)
    record = json.loads((out / "curvature.json").read_text())
    # A trace that is not reached is said and flagged, and no reason to fail.
    assert record["trace"]["converged"] is False and "NOT CONVERGED" in printed and "s a product" in printed
    data = ll.load_dataset("digits", "train").subset(25, seed=42)
    pairs = ll.top_eigenpairs(ll.objective(checkpoint, data, device="cpu"), checkpoint, k=3, seed=42)
    assert record["eigenvalues"]["values"] == pytest.approx(pairs.values.tolist(), rel=1e-5)
    assert record["eigenvalues"]["converged"] == [True] * 3
    assert [entry["measure"] for entry in record["sharpness"]["measures"]] == ["sam", "gaussian"]
    assert ll.Surface.load(out / "eigenvector_plane.npz").shape == (4, 4)
    stored = [*out.glob("*.npz"), out / "sharpness.json"]
    stamps = {path.name: path.stat().st_mtime_ns for path in stored}
    with pytest.MonkeyPatch.context() as patch:  # a second run makes no product and evaluates no loss on a slice
        patch.setattr(ll.Product, "_multiply", None)
        patch.setattr("landscape.evaluation.stored.find_span", None)
        patch.setattr("landscape.evaluation.stored.evaluate", None)
        assert run("--trace-error", "1e-9", "--no-figures") == 0
    assert "computed again" not in capsys.readouterr().out
    assert stamps == {path.name: path.stat().st_mtime_ns for path in stored}
    assert run("--trace-error", "1e-9", "--no-figures", "--operator", "ggn", "--no-plane") == 0
    assert "trace.npz is computed again: its operator is hessian, not ggn" in capsys.readouterr().out
    for name, other in (("--rise", "its rise is 1.0, not 0.5"), ("--resolution", "its axes is ")):
        assert run("--trace-error", "1e-9", "--no-figures", name, "0.5" if name == "--rise" else "5") == 0
        assert f"is computed again: {other}" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns != stamps[path.name] for path in out.glob("*.npz") if "plane" not in path.name)


def test_what_the_plane_of_eigenvectors_leaves_out_is_stored_logged_and_measured_once(checkpoint, capsys):
    assert run("--faithfulness", "always") == 0
    out = Path("curvature_results")
    path, record = out / "eigenvector_plane.npz", json.loads((out / "curvature.json").read_text())
    result = ll.Surface.load(path).faithfulness
    assert result.box in capsys.readouterr().out
    assert record["faithfulness"] == json.loads(json.dumps(result.record))
    pairs = Eigenpairs.load(out / "eigenpairs.npz")
    assert result.axis_curvatures == pytest.approx(pairs.values[:2], rel=1e-3)
    assert result.largest == pytest.approx(pairs.values[0], rel=0.02)
    stamp = path.stat().st_mtime_ns
    assert run("--faithfulness", "always", "--no-figures") == 0 and path.stat().st_mtime_ns == stamp
    assert run("--no-plane", "--faithfulness", "never", "--no-figures") == 0
    assert "--faithfulness" in capsys.readouterr().out


def test_a_pattern_that_matches_nothing_ends_in_one_line(checkpoint, capsys):
    assert run("--parameters", "layer9.*") == 2
    assert capsys.readouterr().err.startswith("Error: parameters: 'layer9.*' matches no parameter")


def test_everything_is_measured_in_the_chosen_parameters(checkpoint):
    assert run("--parameters", "*bias", "--no-figures") == 0
    record = json.loads(Path("curvature_results/curvature.json").read_text())
    data = ll.load_dataset("digits", "train").subset(25, seed=42)
    target = ll.objective(checkpoint, data, device="cpu")
    product = ll.hessian_product(target, checkpoint, parameters=("fc.bias",))
    assert product.dimension == 10
    assert record["eigenvalues"]["values"] == pytest.approx(
        ll.top_eigenpairs(product, k=3, seed=42, progress=False).values.tolist(), rel=1e-4
    )
    step = ll.sharpness(target, checkpoint, "sam", parameters=("fc.bias",))
    [measured] = [entry for entry in record["sharpness"]["measures"] if entry["measure"] == "sam"]
    assert measured["value"] == pytest.approx(step.value, rel=1e-6)
    plane = ll.Surface.load("curvature_results/eigenvector_plane.npz").metadata["slice"]
    assert plane["not_moved"] == {"zero": ["fc.weight"]}
    assert run("--no-figures", "--no-plane") == 0  # all parameters: measured again
    again = json.loads(Path("curvature_results/curvature.json").read_text())
    [whole] = [entry for entry in again["sharpness"]["measures"] if entry["measure"] == "sam"]
    assert whole["value"] > measured["value"]


def test_a_wrong_tolerance_is_refused_before_anything_is_measured(checkpoint, capsys):
    assert run("--tolerance", "2") == 2
    assert capsys.readouterr().err.startswith("Error: tolerance is a share of the loss")
    assert not list(Path().rglob("*.npz"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", "0"], "samples is 0"),
        (["--seed", "-1"], "seed is -1"),
        (["--k", "0"], "k is 0"),
        (["--tol", "nan"], "tol is nan"),
        (["--trace-error", "0"], "relative_error is 0.0"),
        (["--max-products", "29"], "max_products is 29; it must be a whole number from 30"),
        (["--probes", "-1"], "probes is -1"),
        (["--steps", "1000000000"], "steps is 1000000000"),
        (["--measures", "blunt"], "invalid choice 'blunt' for argument '--measures'"),
        (["--measures", "sam", "sam"], "measures has 'sam' twice"),
        (["--rise", "-1"], "rise is -1.0"),
        (["--resolution", "1"], "resolution must be at least 2"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--device", "cuda:99"], "device 'cuda:99' is not available"),
        (["--precision", "tf32"], "precision is tf32, which the device cpu does not have"),
    ],
)
def test_options_are_checked_before_the_checkpoint_is_read(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert run(*options) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line and not list(tmp_path.iterdir())


def test_another_checkpoint_leaves_the_results_of_the_first_alone(checkpoint):
    assert run("--no-figures", "--no-plane", "--measures") == 0
    first = {path.name: path.read_bytes() for path in Path("curvature_results").iterdir()}
    content = torch.load("net.pth", weights_only=True)
    Path("net.pth").rename("earlier.pth")
    ll.save_checkpoint(
        "net.pth", ll.build_model("linear-mnist", **content["model"]["arguments"]), model_name="linear-mnist",
        model_arguments=content["model"]["arguments"], data=content["data"], epoch=2, metrics={}, settings={},
    )  # fmt: skip
    assert run("--no-figures", "--no-plane", "--measures") == 0
    found = {path.name: path.read_bytes() for path in Path("curvature_results").iterdir()}
    assert first.items() <= found.items() and {"curvature_net.json", "trace_net.npz"} <= found.keys()


def test_eigenvalues_are_stems_with_residual_bars_and_doubtful_ones_hollow(clean_figures):
    pairs = Eigenpairs(
        np.array([5.0, -3.0, 2.0]), np.array([0.01, 0.2, 0.5]), np.array([True, True, False]), np.zeros((3, 4)), 9,
        {"operator": "ggn"},
    )  # fmt: skip
    for spectrum, message in ((pairs, "a width belongs to"), ([5.0, -3.0], "not list")):
        with pytest.raises(ll.InputError, match=message):
            ll.plot_spectrum(spectrum, width=0.5)
    ax = ll.plot_spectrum(pairs, new_axes())
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["positive", "positive, not converged", "negative", "± residual"]
    bars = ax.containers[0].lines[2][0].get_segments()
    assert np.diff([bar[:, 1] for bar in bars])[:, 0].tolist() == pytest.approx([0.1, 1.2, 2.0])
    hollow = next(line for line in ax.lines if line.get_label() == "positive, not converged")
    assert hollow.get_xydata().tolist() == [[3, 2]] and to_hex(hollow.get_markerfacecolor()) == "#ffffff"
    assert ax.get_ylabel() == "eigenvalue of the Gauss-Newton matrix"


def test_a_density_is_drawn_on_a_log_scale_in_the_band_of_its_probes(clean_figures):
    nodes, weights = np.array([[0.0, 4.0], [0.0, 5.0]]), np.array([[0.9, 0.1], [0.8, 0.2]])
    density = SpectralDensity(nodes, weights, 4, {"operator": "hessian"})
    ax = ll.plot_spectrum(density, new_axes(), width=0.5)
    (mean,) = ax.lines
    grid, expected, *_ = density.curve(width=0.5)
    np.testing.assert_array_equal(mean.get_xydata(), np.stack([grid, expected], 1))
    assert ax.get_yscale() == "log" and ax.get_legend().get_texts()[0].get_text() == "lowest to highest of 2 probes"
    # Where no probe has a node the sum of two Gaussians is known.
    assert expected[np.abs(grid - 0).argmin()] == pytest.approx(0.85 / (0.5 * np.sqrt(2 * np.pi)), rel=1e-2)


def test_sharpness_is_measured_once_for_one_recipe(tmp_path, monkeypatch):
    calls, measure = [], lambda *a, **k: calls.append(a[1]) or sharpness_in(*a, **k)
    monkeypatch.setattr("landscape.sharpness.stored.sharpness_in", measure)
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    data = (torch.randn(9, 4), torch.arange(9) % 3)
    path, factor = tmp_path / "sharpness.json", 1.0

    def scaled(net, batch):
        return factor * torch.nn.functional.cross_entropy(net(batch[0]), batch[1], reduction="none")

    def measured(*measures, data=data, point=model, loss="cross_entropy", **options):
        calls.clear()
        target = ll.objective(model, data, loss=loss, device="cpu")
        return ll.cli.load_or_measure_sharpness(path, target, point, measures, **options)

    first = measured("sam", "gaussian")
    assert calls == ["sam", "gaussian"]
    assert measured("gaussian", "sam") == first[::-1] and not calls
    assert [one.measure for one in measured("sam", "ascent")] == ["sam", "ascent"] and calls == ["ascent"]
    measured("gaussian", force=True)
    assert calls == ["gaussian"]
    for changed in (
        {"seed": 1},
        {"point": {name: value + 0.1 for name, value in ll.parameters_of(model).items()}},
        {"data": (data[0] + 1e-3, data[1])},
        {"loss": "mse"},
        {"loss": scaled},
    ):
        measured("gaussian")
        measured("gaussian", **changed)
        assert calls == ["gaussian"], changed
    factor = 5.0  # which the same function now computes with
    found = measured("gaussian", loss=scaled)
    assert calls == ["gaussian"] and found[0].loss == pytest.approx(5 * first[0].loss, rel=1e-5)
    path.write_text(path.read_text().replace('"value"', '"volume"'))
    with pytest.raises(ll.InputError, match=r"holds no sharpness, or is damaged .*force=True"):
        measured("gaussian", loss=scaled)


def test_matrices_of_other_losses_are_not_served(tmp_path):
    torch.manual_seed(0)
    model, data, factor = torch.nn.Linear(4, 3), (torch.randn(9, 4), torch.arange(9) % 3), 1.0

    def scaled(net, batch):
        return factor * torch.nn.functional.cross_entropy(net(batch[0]), batch[1], reduction="none")

    def top():
        product = ll.hessian_product(ll.objective(model, data, loss=scaled, device="cpu"), model)
        return ll.cli.load_or_measure(tmp_path / "pairs.npz", ll.top_eigenpairs, product, k=1, tol=1e-3, seed=0)

    first, again = top(), top()
    assert again.metadata["seconds"] == first.metadata["seconds"]
    factor = 5.0
    assert top().values[0] == pytest.approx(5 * first.values[0], rel=1e-4)
