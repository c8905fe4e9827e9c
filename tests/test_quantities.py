"""Further terms and metrics of the same pass: a surface of each, by every method, kept, interpolated and drawn."""

import copy

import matplotlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import landscape_lib as ll
from landscape.evaluation.ledger import Ledger
from landscape.evaluation.statistics import Statistics, Sums
from landscape.objective.losses import Weighted

matplotlib.use("agg")
GRID = {"alpha_range": (-1.0, 0.5), "beta_range": (-0.75, 1.5), "resolution": (4, 3), "progress": False}


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double().eval()


def data(count=11):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(3, (count,), generator=generator)


def two_terms(model, batch):
    """Cross-entropy, and a penalty that weighs the samples by their class."""
    outputs = model(batch[0])
    entropy = F.cross_entropy(outputs, batch[1], reduction="none")
    return {"loss": entropy, "size": Weighted(outputs.square().sum(1), 1.0 + batch[1]), "top": outputs.amax(1)}


def expected(model, point, samples):
    """The same three numbers from one plain pass over all samples."""
    moved = copy.deepcopy(model)
    for name, parameter in moved.named_parameters():
        parameter.data = point[name]
    with torch.no_grad():
        outputs = moved(samples[0])
    weights = 1.0 + samples[1]
    return {
        "loss": float(F.cross_entropy(outputs, samples[1])),
        "size": float((outputs.square().sum(1) * weights).sum() / weights.sum()),
        "top": float(outputs.amax(1).mean()),
    }


def check(surface, model, plane, samples):
    for i, alpha in enumerate(surface.alphas):
        for j, beta in enumerate(surface.betas):
            values = expected(model, plane(alpha, beta), samples)
            assert surface.loss[i, j] == pytest.approx(values.pop("loss"), rel=1e-11)
            assert {name: mean[i, j] for name, mean in surface.quantities.items()} == pytest.approx(values, rel=1e-11)


def target_of(model, samples, **options):
    return ll.objective(model, samples, device="cpu", dtype=torch.float64, batch_size=4, **options)


@pytest.mark.parametrize("method", ["prefix", "direct"])
def test_terms_of_a_loss_are_those_of_a_plain_pass(method):
    model, samples = perceptron(), data()
    plane = ll.random_plane(model, seed=1)
    surface = ll.evaluate(target_of(model, samples, loss=two_terms), plane, method=method, **GRID)
    assert surface.metadata["method"] == method and surface.metadata["quantities"] == ["size", "top"]
    check(surface, model, plane, samples)


@pytest.mark.parametrize("layers", [1, 2])
def test_metrics_beside_a_named_loss(layers):
    model, samples = perceptron(), data()
    model = model if layers == 2 else nn.Sequential(nn.Linear(4, 3)).double().eval()
    plane = ll.random_plane(model, seed=1)
    metrics = {"size": lambda m, batch: two_terms(m, batch)["size"], "top": lambda m, batch: m(batch[0]).amax(1)}
    surface = ll.evaluate(target_of(model, samples, metrics=metrics), plane, **GRID)
    check(surface, model, plane, samples)
    plain = ll.evaluate(target_of(model, samples), plane, **GRID)
    assert plain.quantities == {} and "quantities" not in plain.metadata
    np.testing.assert_array_equal(surface.accuracy, plain.accuracy)
    np.testing.assert_allclose(surface.standard_error, plain.standard_error, rtol=1e-10)


def test_a_metric_that_reads_the_moved_weights_follows_them():
    model, samples = perceptron(), data()
    plane = ll.random_plane(model, seed=1)
    metrics = {"norm": lambda m, batch: m[0].weight.square().sum() + 0 * m(batch[0]).sum()}
    surface = ll.evaluate(target_of(model, samples, metrics=metrics), plane, **GRID)
    for i, alpha in enumerate(surface.alphas):
        for j, beta in enumerate(surface.betas):
            norm = float(plane(alpha, beta)["0.weight"].square().sum())
            assert surface.quantities["norm"][i, j] == pytest.approx(norm, rel=1e-12)


def test_perplexity_is_that_of_the_mean_loss():
    tokens = {"input_ids": torch.randint(7, (6, 8), generator=torch.Generator().manual_seed(0))}
    target = ll.objective(Tokens(), tokens, loss="language_model", device="cpu")
    surface = ll.evaluate(target, ll.random_line(Tokens()), resolution=5, progress=False)
    np.testing.assert_array_equal(surface.quantities["perplexity"], np.exp(surface.loss))
    assert ((surface.quantities["token_accuracy"] >= 0) & (surface.quantities["token_accuracy"] <= 1)).all()


def test_a_regularizer_is_a_quantity_beside_the_loss_that_holds_it():
    model, samples = perceptron(), data()
    plane = ll.random_plane(model, seed=1)
    decay = lambda m: 0.1 * m[2].weight.square().sum()  # noqa: E731
    surface = ll.evaluate(target_of(model, samples, regularizer=decay), plane, **GRID)
    plain = ll.evaluate(target_of(model, samples), plane, **GRID)
    point = plane(surface.alphas[1], surface.betas[2])
    value = 0.1 * float(point["2.weight"].square().sum())
    assert surface.quantities["regularizer"][1, 2] == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(surface.loss, plain.loss + surface.quantities["regularizer"], rtol=1e-12)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(7, 5), nn.Linear(5, 7)

    def forward(self, input_ids, **_):
        return {"logits": self.head(self.embedding(input_ids))}


def surface_of(**options):
    model, samples = perceptron(), data()
    return ll.evaluate(target_of(model, samples, loss=two_terms), ll.random_plane(model, seed=1), **GRID | options)


def test_quantities_are_kept_in_the_file(tmp_path):
    surface = surface_of()
    found = ll.Surface.load(surface.save(tmp_path / "surface.npz"))
    assert list(found.quantities) == ["size", "top"] and found.metadata == surface.metadata
    for name, mean in surface.quantities.items():
        np.testing.assert_array_equal(found.quantities[name], mean)
    line = ll.evaluate(
        target_of(perceptron(), data(), loss=two_terms), ll.random_line(perceptron()), resolution=5, progress=False
    )
    assert ll.Surface.load(line.save(tmp_path / "line.npz")).quantities["size"].shape == (5,)
    single = ll.evaluate(
        target_of(perceptron(), data(), loss=two_terms), ll.random_plane(perceptron()), per_sample=True, **GRID
    ).sample(3)
    assert ll.Surface.load(single.save(tmp_path / "single.npz")).quantities == {}


@pytest.mark.parametrize("names", [["size"], ["size", "size"], ["size", 3], "size", None])
def test_names_that_do_not_fit_the_quantities_are_refused(names, tmp_path, monkeypatch):
    surface = surface_of()
    monkeypatch.setattr(ll.Surface, "stored_metadata", lambda self: self.metadata | {"quantities": names})
    surface.save(tmp_path / "surface.npz")
    with pytest.raises(ll.InputError, match="2 quantities"):
        ll.Surface.load(tmp_path / "surface.npz")


def test_an_interrupted_evaluation_goes_on_with_its_quantities(tmp_path, monkeypatch):
    monkeypatch.setattr("landscape.evaluation.filling.ROUND_SECONDS", 0)  # a point a round
    model, samples, path = perceptron(), data(), tmp_path / "progress.npz"
    plane = ll.random_plane(model, seed=1)
    target = target_of(model, samples, loss=two_terms)
    whole = ll.evaluate(target, plane, **GRID)
    save, saves = Ledger.save, []

    def interrupted(ledger):
        save(ledger)
        saves.append(1)
        if len(saves) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ll.evaluate(target, plane, resume=path, **GRID)
    resumed = ll.evaluate(target, plane, resume=path, **GRID)
    assert 0 < resumed.metadata["resumed_points"] < 12
    for name, mean in whole.quantities.items():
        np.testing.assert_allclose(resumed.quantities[name], mean, rtol=1e-12)


def test_another_metric_is_another_surface(tmp_path):
    model, samples, path = perceptron(), data(), tmp_path / "progress.npz"
    plane = ll.random_plane(model, seed=1)
    top = {"top": lambda m, batch: m(batch[0]).amax(1)}
    ll.evaluate(target_of(model, samples, metrics=top), plane, resume=path, **GRID)
    low = {"top": lambda m, batch: m(batch[0]).amin(1)}
    with pytest.raises(ll.InputError, match="another evaluation"):
        ll.evaluate(target_of(model, samples, metrics=low), plane, resume=path, **GRID)


def test_shares_of_the_samples_add_up_to_all():
    values = torch.arange(12.0).view(2, 6)
    shares = [Sums(), Sums(), Sums()]  # the last one has no batch
    for share, part in zip(shares, values.split(3, dim=1), strict=False):
        share.add_quantities({"height": part})
        share.add(part.clone(), None)
    statistics = Statistics(3, 6, per_sample=False, dtype=torch.float32, names=("height",))
    statistics.finish(torch.tensor([2, 0]), Sums.merged(shares))
    other = Statistics(3, 6, per_sample=False, dtype=torch.float32, names=("height",))
    other.restore(statistics.arrays())
    np.testing.assert_allclose(other.quantities["height"], [8.5, 0.0, 2.5])


@pytest.mark.usefixtures("patient_planner")
def test_quantities_between_evaluated_points_are_interpolated_and_say_how_well():
    model, samples = perceptron(), data(40)
    target, plane = target_of(model, samples, loss=two_terms), ll.random_plane(model, seed=1)
    grid = {"alpha_range": (-0.4, 0.4), "beta_range": (-0.4, 0.4), "resolution": (31, 29), "progress": False}
    exact, found = ll.evaluate(target, plane, **grid), ll.evaluate(target, plane, tolerance=0.02, **grid)
    assert not found.evaluated.all()
    said = found.metadata["interpolation"]["largest_quantity_errors"]
    for name, mean in exact.quantities.items():
        error = np.abs(found.quantities[name] - mean)
        assert error[found.evaluated].max() < 1e-12 and 0 < error.max() <= said[name] < 0.1 * np.ptp(mean)


def test_every_quantity_can_be_drawn():
    surface = surface_of()
    assert ll.plot_contour(surface, quantity="size").figure.axes[-1].get_ylabel() == "size"
    assert ll.plot_surface(surface, quantity="top").get_zlabel() == "top"
    ax = ll.plot_slices(surface, quantity="top")
    assert ax.get_ylabel() == "top"
    middle = surface.quantities["top"][:, surface.centre[1]]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), middle)
    with pytest.raises(ll.InputError, match=r"unknown quantity 'bottom'.*size, top"):
        ll.plot_contour(surface, quantity="bottom")
