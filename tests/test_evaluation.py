"""Every method against plain forward passes of a re-loaded model, in float64."""

import functools
import math

import numpy as np
import pytest
import torch
from networks import NETWORKS, Decides, images, make, plain_losses
from torch import nn
from torch.nn.utils import parametrizations, prune

import landscape_lib as ll
from landscape.evaluation.choice import METHODS
from landscape.evaluation.methods.first_outputs import FirstOutputs
from landscape.evaluation.methods.pooling import fast_pools
from landscape.evaluation.methods.prefix import Prefix
from landscape.evaluation.methods.protocol import Arrangement
from landscape.objective.workers import Team

GRID = {"alpha_range": (-1.0, 0.5), "beta_range": (-0.75, 1.5), "resolution": (7, 5), "progress": False}
METHODS_OF = {
    "linear": "affine",
    "mlp": "prefix",
    "cnn": "prefix",
    "batch_norm_cnn": "prefix",
    "residual": "prefix",
    "tied": "prefix",
    "twice": "direct",
    "functional": "direct",
    "attention": "direct",
    "scaled": "prefix",
}


def exact_objective(model, data, **options):
    return ll.objective(model, data, dtype=torch.float64, device="cpu", **options)


@pytest.mark.parametrize(
    "reparametrize",
    [
        lambda layer: prune.l1_unstructured(layer, "weight", amount=0.4),
        lambda layer: parametrizations.weight_norm(layer),
        lambda layer: torch.nn.utils.weight_norm(layer),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_networks_whose_weights_are_computed_from_others(reparametrize):
    model, again = make("mlp"), make("mlp")  # torch's own deepcopy refuses such a network
    reparametrize(model[1]), reparametrize(again[1])
    data, plane = images(), ll.random_plane(model.double(), seed=3)
    surface = ll.evaluate(exact_objective(model, data), plane, **GRID)
    for i, j in [(0, 0), (3, 2), (6, 4)]:
        again.double().load_state_dict({**again.state_dict(), **plane(surface.alphas[i], surface.betas[j])})
        expected = nn.functional.cross_entropy(again(data[0].double()), data[1])
        assert surface.loss[i, j] == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", ["auto", "direct"])
def test_surface_equals_plain_forward_passes(name, method):
    model, (inputs, targets) = make(name), images()
    plane = ll.random_plane(model.double(), seed=3)
    surface = ll.evaluate(
        exact_objective(model, (inputs, targets), batch_size=4), plane, method=method, per_sample=True, **GRID
    )
    assert surface.loss.shape == (7, 5)
    for i, a in enumerate(np.linspace(-1.0, 0.5, 7)):
        for j, b in enumerate(np.linspace(-0.75, 1.5, 5)):
            losses, logits = plain_losses(model, plane, (a, b), inputs, targets)
            np.testing.assert_allclose(surface.per_sample[i, j], losses, rtol=1e-9, atol=1e-11)
            assert surface.loss[i, j] == pytest.approx(losses.mean().item(), rel=1e-9)
            assert surface.standard_error[i, j] == pytest.approx(losses.std().item() / 13**0.5, rel=1e-7)
            assert surface.accuracy[i, j] == (logits.argmax(1) == targets).double().mean().item()
    if method == "auto":
        assert surface.metadata["method"] == METHODS_OF[name]


class Bowl(nn.Module):
    """Gives its two parameters whatever the input: losses in closed form."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))

    def forward(self, x):
        return self.w.expand(len(x), 2)


def test_quadratic_bowl_in_closed_form():
    model = Bowl()
    targets = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, -1.0]], dtype=torch.float64)
    e = [{"w": torch.tensor(v, dtype=torch.float64)} for v in ([1.0, 0.0], [0.0, 1.0])]
    plane = ll.Plane(ll.parameters_of(model), tuple(e))
    surface = ll.evaluate(exact_objective(model, (torch.zeros(3, 1), targets), loss="mse"), plane, **GRID)
    a, b = surface.alphas[:, None, None], surface.betas[None, :, None]
    losses = ((1 + a - targets[:, 0].numpy()) ** 2 + (-2 + b - targets[:, 1].numpy()) ** 2) / 2
    np.testing.assert_allclose(surface.loss, losses.mean(2), rtol=1e-12)
    np.testing.assert_allclose(surface.standard_error, losses.std(2, ddof=1) / 3**0.5, rtol=1e-12)
    assert surface.accuracy is None
    assert surface.alphas.tolist() == np.linspace(-1, 0.5, 7).tolist()


def test_linear_regression_along_a_line_in_closed_form():
    model = nn.Linear(3, 1).double()
    inputs, targets = torch.randn(11, 3, dtype=torch.float64), torch.randn(11, 1, dtype=torch.float64)
    line = ll.random_line(model, ignore=())
    surface = ll.evaluate(
        exact_objective(model, (inputs, targets), loss="mse"),
        line,
        alpha_range=(-2, 3),
        resolution=6,
        per_sample=True,
        progress=False,
    )
    d = line.directions[0]
    r0, r1 = model(inputs) - targets, inputs @ d["weight"].T + d["bias"]
    for i, t in enumerate(np.linspace(-2, 3, 6)):
        expected = (r0 + t * r1).square().flatten().detach()
        np.testing.assert_allclose(surface.per_sample[i], expected, rtol=1e-10)
    assert surface.betas is None and surface.per_sample.shape == (6, 11)


@pytest.mark.parametrize("together", [1, 3, 7])
@pytest.mark.parametrize("batch_size", [4, 13])
@pytest.mark.parametrize("points", [1, 2, 7])
@pytest.mark.parametrize("method", ["prefix", "direct"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "batch_norm_cnn", "residual", "tied"])
def test_layout_batch_size_and_points_together_do_not_change_the_losses(name, method, points, batch_size, together):
    model, (inputs, targets) = make(name).double(), images()
    plane = ll.random_plane(model, seed=1)
    evaluator = METHODS[method](exact_objective(model, (inputs, targets)), plane)
    coordinates = torch.randn(points, 2, dtype=torch.float64)
    for order in evaluator.orders:
        evaluator.arrange(Arrangement(batch_size, order, together))
        losses, hits = run_all(evaluator, coordinates)
        for k, (a, b) in enumerate(coordinates.tolist()):
            expected, logits = plain_losses(model, plane, (a, b), inputs, targets)
            torch.testing.assert_close(losses[k], expected)
            assert hits[k] == (logits.argmax(1) == targets).sum()


def test_points_that_share_rows_and_points_by_themselves():
    model, (inputs, targets) = make("cnn").double(), images()
    plane = ll.random_plane(model, seed=1)
    evaluator = Prefix(exact_objective(model, (inputs, targets)), plane)
    rows = [0.3, 0.3, 0.7, -0.2, -0.2, -0.2, 0.3, 0.5]
    coordinates = torch.tensor([rows, torch.arange(8.0).tolist()], dtype=torch.float64).T
    losses, _ = run_all(evaluator, coordinates)
    for found, (a, b) in zip(losses, coordinates.tolist(), strict=True):
        torch.testing.assert_close(found, plain_losses(model, plane, (a, b), inputs, targets)[0])


def run_all(evaluator, coordinates):
    """Losses [K, N] and hits [K] of ``evaluator`` over all batches."""
    evaluator.prepare(coordinates)
    losses, hits = [], 0
    for _, batch in evaluator.objective.batches(evaluator.arrangement.batch_size):
        evaluator.load(batch)
        for values, right, _ in evaluator.run():
            losses.append(values.clone())
            hits = hits + right
    return torch.cat(losses, 1), hits


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("layout", ["default", "features_first"])
def test_equal_logits_count_as_argmax_counts_them(layout, together):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3, bias=False)).double()
    nn.init.zeros_(model[2].weight)
    data = (torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 2, 2]))
    evaluator = Prefix(exact_objective(model, data), ll.random_plane(model, seed=1))
    evaluator.arrange(Arrangement(6, layout, together))
    losses, hits = run_all(evaluator, torch.tensor([[0.0, 0.0], [0.0, 0.0]], dtype=torch.float64))
    assert hits.tolist() == [3, 3]
    torch.testing.assert_close(losses, torch.full((2, 6), math.log(3), dtype=torch.float64))


@pytest.mark.parametrize("method", ["affine", "prefix", "direct"])
def test_a_zero_start_is_as_accurate_as_argmax_says(method):
    start, end = nn.Linear(3, 3), nn.Linear(3, 3)
    for parameter in start.parameters():
        nn.init.zeros_(parameter)
    data = (torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 2, 2]))
    line = ll.interpolation_line(start, end)
    surface = ll.evaluate(ll.objective(start, data), line, resolution=3, method=method, progress=False)
    assert surface.accuracy[1] == 0.5


@pytest.mark.parametrize("layout", ["default", "features_first"])
def test_what_decides_by_its_values_is_evaluated_as_it_decides(layout):
    model, (inputs, targets) = Decides(make("mlp"), bound=1).double(), images(1)
    plane = ll.random_plane(model, seed=1)
    evaluator = Prefix(exact_objective(model, (inputs, targets)), plane)
    coordinates = 2 * torch.randn(20, 2, dtype=torch.float64)
    evaluator.arrange(Arrangement(1, layout))
    losses, _ = run_all(evaluator, coordinates)
    doubled = 0
    for found, place in zip(losses, coordinates.tolist(), strict=True):
        expected, logits = plain_losses(model, plane, place, inputs, targets)
        torch.testing.assert_close(found, expected)
        doubled += bool(logits.norm() > 2)
    assert 0 < doubled < 20


def test_a_classifier_of_features_can_be_stored_features_first():
    objective = exact_objective(make("mlp").double(), images())
    assert "features_first" in Prefix(objective, ll.random_plane(objective.model, seed=1)).orders


@pytest.mark.parametrize(("method", "width"), [("prefix", 5), ("direct", 3)])
def test_the_width_of_a_sample_is_that_of_where_the_points_part(method, width):
    objective = exact_objective(
        nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double(),
        (torch.randn(7, 3, dtype=torch.float64), torch.arange(7) % 2),
    )
    assert METHODS[method](objective, ll.random_plane(objective.model, seed=1)).width == width


@pytest.mark.parametrize("shape", [(3, 2, 6, 8), (2, 1, 7, 5), (1, 3, 2, 3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pooling_by_halves_is_max_pooling_to_the_bit(shape, layout):
    inputs = torch.randn(shape).contiguous(memory_format=layout)
    inputs[0, 0, 0, 0] = float("nan")
    plain, others = nn.MaxPool2d(2), [nn.MaxPool2d(3, 2), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, ceil_mode=True)]
    found = fast_pools(nn.Sequential(plain, *others))
    assert list(found) == [plain]
    np.testing.assert_array_equal(found[plain](inputs), plain(inputs))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["linear", "mlp", "cnn", "batch_norm_cnn", "functional"])
def test_any_number_of_threads_gives_the_same_and_is_put_back(name, threads):
    model, (inputs, targets) = make(name).double(), images(29)
    target = exact_objective(model, (inputs, targets), batch_size=4)
    plane = ll.random_plane(model, seed=8)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        surface = ll.evaluate(target, plane, per_sample=True, **GRID)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for i, j in ((0, 0), (3, 2), (6, 4)):
        losses, logits = plain_losses(model, plane, (surface.alphas[i], surface.betas[j]), inputs, targets)
        np.testing.assert_allclose(surface.per_sample[i, j], losses, rtol=1e-9, atol=1e-11)
        assert surface.loss[i, j] == pytest.approx(losses.mean().item(), rel=1e-10)
        assert surface.standard_error[i, j] == pytest.approx(losses.std().item() / 29**0.5, rel=1e-7)
        assert surface.accuracy[i, j] == (logits.argmax(1) == targets).double().mean().item()


class LastLayerMoved(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.body(x))


def test_a_plane_that_moves_only_the_last_layer_is_affine_and_exact():
    model, (inputs, targets) = LastLayerMoved().eval(), images()
    plane = ll.random_plane(model.double(), ignore=("body.*",))
    surface = ll.evaluate(exact_objective(model, (inputs, targets)), plane, **GRID)
    assert surface.metadata["method"] == "affine"
    expected = [
        [plain_losses(model, plane, (a, b), inputs, targets)[0].mean() for b in surface.betas] for a in surface.alphas
    ]
    np.testing.assert_allclose(surface.loss, np.array(expected), rtol=1e-10)


def test_a_network_before_the_last_layer_runs_on_batches_of_the_size_asked():
    model, data = LastLayerMoved().eval(), images(10)
    sizes = []
    model.body.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    plane = ll.random_plane(model, ignore=("body.*",))
    surface = ll.evaluate(exact_objective(model, data, batch_size=4), plane, **GRID)
    assert surface.metadata["method"] == "affine" and max(sizes) == 4


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["linear", "conv"])
def test_at_few_points_the_first_layer_runs_once_a_point(name, bias):
    first = nn.Conv2d(2, 3, 3, padding=1, bias=bias) if name == "conv" else nn.Linear(6, 3, bias=bias)
    model = nn.Sequential(first, nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(3)).double()
    inputs = torch.randn(5, 2, 6, 6, dtype=torch.float64)
    model(inputs)
    targets = torch.tensor([0, 1, 2, 0, 1])
    plane = ll.random_plane(model, seed=3, ignore=())
    evaluator = Prefix(exact_objective(model, (inputs, targets)), plane)
    for points in (1, 2, 3):
        coordinates = torch.randn(points, 2, dtype=torch.float64)
        losses, _ = run_all(evaluator, coordinates)
        assert len(evaluator.outputs.terms) == (3 if points == 3 else 0)  # those of the origin and of two directions
        for k, place in enumerate(coordinates.tolist()):
            torch.testing.assert_close(losses[k], plain_losses(model, plane, place, inputs, targets)[0])


def test_prefix_keeps_what_precedes_the_first_moved_layer():
    model, (inputs, targets) = make("batch_norm_cnn").double(), images()
    plane = ll.random_plane(model, ignore=("0.*", "1.*", "4.*"))
    surface = ll.evaluate(exact_objective(model, (inputs, targets)), plane, **GRID)
    assert surface.metadata["method"] == "prefix"
    expected = plain_losses(model, plane, (-1, 1.5), inputs, targets)[0].mean().item()
    assert surface.loss[0, -1] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("scale", [1, 30, 1000])
@pytest.mark.parametrize("shape", [(9, 6), (2, 31)])
def test_affine_method_does_not_overflow_far_out(scale, shape):
    """Float32 tiles against float64 log-sum-exp, on logits that leave exp's range many times over."""
    model, (inputs, targets) = make("linear"), images(40)
    plane = ll.random_plane(model, seed=4)
    grid = {"alpha_range": (-scale, 0.7 * scale), "beta_range": (-0.5 * scale, scale), "resolution": shape}
    surface = ll.evaluate(
        ll.objective(model, (inputs, targets), device="cpu"), plane, method="affine", progress=False, **grid
    )
    for i, a in enumerate(surface.alphas):
        for j, b in enumerate(surface.betas):
            losses, logits = plain_losses(model, plane, (a, b), inputs, targets)
            assert surface.loss[i, j] == pytest.approx(losses.mean().item(), rel=2e-6, abs=1e-6)
            assert surface.standard_error[i, j] == pytest.approx(losses.std().item() / 40**0.5, rel=1e-4)
            assert surface.accuracy[i, j] == (logits.argmax(1) == targets).double().mean().item()


def test_accuracy_of_the_affine_method_with_classes_that_tie_or_never_move():
    model = nn.Linear(2, 4, bias=False).double()
    inputs, targets = torch.randn(30, 2, dtype=torch.float64), torch.randint(0, 4, (30,))
    weight = torch.zeros(4, 2, dtype=torch.float64)
    first, second = weight.clone(), weight.clone()
    first[0], second[1] = torch.tensor([1.0, -1.0]), torch.tensor([0.5, 2.0])  # classes 2 and 3 stay at their logit
    plane = ll.Plane(ll.parameters_of(model), ({"weight": first}, {"weight": second}))
    surface = ll.evaluate(exact_objective(model, (inputs, targets)), plane, method="affine", **GRID)
    for i, a in enumerate(surface.alphas):
        for j, b in enumerate(surface.betas):
            _, logits = plain_losses(model, plane, (a, b), inputs, targets)
            assert surface.accuracy[i, j] == (logits.argmax(1) == targets).double().mean().item()


def test_a_sample_without_finite_logits_is_no_hit_of_the_affine_method():
    model, (inputs, targets) = make("linear"), images(30)
    inputs[3], targets[3] = torch.nan, 1  # torch's argmax of NaN is 0
    plane = ll.random_plane(model, seed=4)
    objective = exact_objective(model, (inputs, targets))
    affine, direct = (ll.evaluate(objective, plane, method=name, **GRID) for name in ("affine", "direct"))
    assert np.isnan(affine.loss).all() and affine.accuracy.min() < affine.accuracy.max()
    np.testing.assert_array_equal(affine.accuracy, direct.accuracy)


def test_non_finite_values_stay_and_are_counted():
    model, data = make("mlp"), images()
    plane = ll.random_plane(model, normalize=None)
    far = ll.evaluate(
        ll.objective(model, data, device="cpu"),
        plane,
        alpha_range=(0, 1e25),
        beta_range=(0, 1),
        resolution=(2, 3),
        progress=False,
    )
    assert np.isfinite(far.loss[0]).all() and not np.isfinite(far.loss[1]).any()
    assert far.metadata["nonfinite_points"] == 3 and far.nonfinite.sum() == 3


def test_nan_at_the_origin_is_evaluated_all_the_same():
    model, data = make("mlp"), images()
    with torch.no_grad():
        model[5].weight[0, 0] = float("nan")
    plane = ll.random_plane(make("mlp"))
    plane = ll.Plane(ll.parameters_of(model), plane.directions, plane.recipe)
    surface = ll.evaluate(ll.objective(model, data, device="cpu"), plane, resolution=3, progress=False)
    assert np.isnan(surface.loss).all() and surface.metadata["nonfinite_points"] == 9
    assert surface.minimum is None


class Flaky(nn.Module):
    """Raises in the forward pass number ``limit``, like a kill in the middle."""

    def __init__(self):
        super().__init__()
        self.net, self.limit, self.calls = make("mlp").double(), None, 0

    def forward(self, x):
        self.calls += 1
        if self.limit and self.calls > self.limit:
            raise KeyboardInterrupt
        outputs = self.net(x)
        outputs.sum().item()  # which vmap refuses: one pass is one point
        return outputs


def test_an_interrupted_evaluation_goes_on_and_gives_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("landscape.evaluation.filling.ROUND_SECONDS", 0)  # a point a round
    model, data, path = Flaky(), images(), tmp_path / "progress.npz"
    target, plane = exact_objective(model, data, batch_size=4), ll.random_plane(model)
    target.model.calls = 0
    whole = ll.evaluate(target, plane, per_sample=True, **GRID)
    target.model.calls, target.model.limit = 0, target.model.calls - 15
    with pytest.raises(KeyboardInterrupt):
        ll.evaluate(target, plane, per_sample=True, resume=path, **GRID)
    with np.load(path) as file:
        finished = int(file["done"].sum())
    assert 0 < finished < 35
    target.model.limit = None
    resumed = ll.evaluate(target, plane, per_sample=True, resume=path, **GRID)
    assert resumed.metadata["resumed_points"] == finished
    for field in ("loss", "standard_error", "accuracy", "per_sample"):
        np.testing.assert_allclose(getattr(resumed, field), getattr(whole, field), rtol=1e-12)
    target.model.calls = 0
    again = ll.evaluate(target, plane, per_sample=True, resume=path, **GRID)
    assert again.metadata["resumed_points"] == 35
    np.testing.assert_array_equal(again.loss, resumed.loss)


def test_a_resume_file_of_something_else_is_refused(tmp_path):
    model, data, path = make("mlp").double(), images(), tmp_path / "progress.npz"
    target, plane = exact_objective(model, data), ll.random_plane(model)
    ll.evaluate(target, plane, resume=path, **GRID)
    for other, name in [
        ((target, ll.random_plane(model, seed=1)), "slice"),
        ((exact_objective(model, images(seed=9)), plane), "data"),
        ((exact_objective(model, data, loss="mse"), plane), "objective"),
    ]:
        with pytest.raises(ll.InputError, match=f"another evaluation: its {name}"):
            ll.evaluate(*other, resume=path, **GRID)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ll.InputError, match="damaged"):
        ll.evaluate(target, plane, resume=path, **GRID)


def test_a_method_that_gives_wrong_numbers_is_not_returned(monkeypatch):
    model, data = make("mlp").double(), images()
    target, plane = exact_objective(model, data), ll.random_plane(model)
    load = FirstOutputs.load

    def load_wrongly(outputs, forward):
        load(outputs, forward)
        outputs.terms = [1.01 * term for term in outputs.terms]

    monkeypatch.setattr(FirstOutputs, "load", load_wrongly)
    surface = ll.evaluate(target, plane, **GRID)
    assert surface.metadata["method"] == "direct"
    assert "differs from a plain forward pass" in surface.metadata["methods_rejected"]["prefix"]
    with pytest.raises(ll.InputError, match="method 'prefix' does not fit"):
        ll.evaluate(target, plane, method="prefix", **GRID)


def test_metadata_tell_how_far_to_trust_the_surface():
    model, data = make("batch_norm_cnn"), images()
    surface = ll.evaluate(
        ll.objective(model, data, device="cpu"), ll.random_plane(model, seed=6), resolution=3, progress=False
    )
    meta = surface.metadata
    assert meta["slice"]["seed"] == 6 and meta["slice"]["kind"] == "random plane"
    assert meta["data"]["size"] == 13 and len(meta["data"]["fingerprint"]) == 64
    assert meta["objective"] == {
        **meta["objective"],
        "loss": "cross_entropy",
        "batch_norm": "running",
        "dtype": "float32",
    }
    assert -1 < meta["cosine"] < 1 and len(meta["relative_norms"]) == 2
    assert meta["checks"]["origin"]["loss"] == pytest.approx(meta["checks"]["origin"]["model_loss"], rel=1e-5)
    assert meta["method"] == "prefix" and "affine" in meta["methods_rejected"]
    assert set(meta["versions"]) == {"python", "torch", "torchvision", "numpy", "scipy"}


PLANE_CASES = {
    "one point": ({"resolution": 1}, "at least 2 points"),
    "three sizes": ({"resolution": (3, 3, 3)}, "does not fit a slice of 2"),
    "reversed": ({"alpha_range": (1, -1)}, "not from 1 to -1"),
    "empty": ({"beta_range": (0.5, 0.5)}, "beta_range must go from a smaller"),
    "infinite": ({"alpha_range": (0, float("inf"))}, "finite"),
    "method": ({"method": "magic"}, "unknown method 'magic'"),
    "wrong method": ({"method": "affine"}, "method 'affine' does not fit: more than one layer moves"),
}


@pytest.mark.parametrize("case", PLANE_CASES)
def test_bad_grids_and_methods_are_refused(case):
    options, message = PLANE_CASES[case]
    model = make("mlp")
    target = ll.objective(model, images(), device="cpu")
    with pytest.raises(ll.InputError, match=message):
        ll.evaluate(target, ll.random_plane(model), **{"resolution": 3, "progress": False, **options})


def test_a_slice_of_another_network_is_refused():
    target = ll.objective(make("mlp"), images(), device="cpu")
    with pytest.raises(ll.InputError, match="the slice does not belong to this network"):
        ll.evaluate(target, ll.random_plane(make("cnn")), resolution=3, progress=False)


def test_per_sample_results_that_cannot_fit_are_refused_before_allocation():
    model = make("linear")
    target = ll.objective(model, images(100), device="cpu")
    with pytest.raises(ll.InputError, match="GiB are free; use fewer samples or grid points"):
        ll.evaluate(target, ll.random_plane(model), resolution=100_000, per_sample=True, progress=False)


def test_two_evaluations_of_one_objective_do_not_disturb_each_other():
    model, data = make("batch_norm_cnn").double(), images()
    target, plane = exact_objective(model, data), ll.random_plane(model)
    before = {name: buffer.clone() for name, buffer in target.model.named_buffers()}
    first = ll.evaluate(target, plane, **GRID)
    ll.evaluate(target, ll.random_plane(model, seed=9), **GRID)
    second = ll.evaluate(target, plane, **GRID)
    np.testing.assert_allclose(first.loss, second.loss, rtol=1e-12)  # the micro-batch may differ
    buffers = dict(target.model.named_buffers())
    assert before.keys() == buffers.keys() and len(before) == 6
    assert all(torch.equal(buffers[name], value) for name, value in before.items())


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn"])
def test_a_network_so_sure_that_its_loss_is_rounding_is_evaluated(name):
    model, (inputs, _) = make(name), images(50)
    with torch.no_grad():
        for parameter in list(model.parameters())[-2:]:
            parameter *= 1e4
    targets = model(inputs).argmax(1)
    surface = ll.evaluate(
        ll.objective(model, (inputs, targets), device="cpu"),
        ll.random_plane(model),
        alpha_range=(-1e-3, 1e-3),
        beta_range=(-1e-3, 1e-3),
        resolution=3,
        progress=False,
    )
    assert surface.loss[1, 1] < 0.01 and surface.accuracy[1, 1] == 1


class Squashed(nn.Module):
    """One set of weights, two networks: the function between the layers is no module."""

    def __init__(self, function):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(5, 4), nn.Linear(4, 3), function

    def forward(self, inputs):
        return self.last(self.function(self.first(inputs)))


def test_stored_surfaces_of_other_code_with_the_same_weights_are_computed_again(tmp_path):
    relu, tanh = Squashed(torch.relu), Squashed(torch.tanh)
    tanh.load_state_dict(relu.state_dict())
    data, path = (torch.randn(20, 5), torch.arange(20) % 3), tmp_path / "surface.npz"
    first, other, again = (
        ll.load_or_evaluate(path, ll.objective(model, data), ll.random_plane(relu), resolution=3, progress=False)
        for model in (relu, tanh, tanh)
    )
    assert not np.allclose(first.loss, other.loss)
    np.testing.assert_array_equal(other.loss, again.loss)
    assert again.metadata["seconds"] == other.metadata["seconds"]  # found, not computed


class Hungry(nn.Module):
    """Runs out of memory on more than three samples."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.limit = 100

    def forward(self, inputs):
        if len(inputs) > self.limit:
            raise torch.OutOfMemoryError("tried to allocate")
        return self.layer(inputs)


def hungry_run(limit):
    torch.manual_seed(0)
    model, data = Hungry(), (torch.randn(17, 4), torch.arange(17) % 3)
    target = ll.objective(model, data, device="cpu")
    plane = ll.random_plane(model, seed=1)
    expected = ll.evaluate(target, plane, resolution=(4, 3), method="direct", progress=False)
    team_map = Team.map

    def starve(team, work, members):  # only once the method is chosen and tuned
        for member in members:
            if isinstance(work, functools.partial):
                member.objective.model.limit = limit
        return team_map(team, work, members)

    return target, plane, expected, starve


def test_smaller_batches_where_memory_runs_out(monkeypatch):
    target, plane, expected, starve = hungry_run(limit=3)
    monkeypatch.setattr(Team, "map", starve)
    found = ll.evaluate(target, plane, resolution=(4, 3), method="direct", progress=False)
    assert found.metadata["method_settings"]["batch_size"] <= 3 < expected.metadata["method_settings"]["batch_size"]
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-6)


def test_memory_that_holds_not_even_one_sample_is_one_clear_line(monkeypatch):
    target, plane, _, starve = hungry_run(limit=0)
    monkeypatch.setattr(Team, "map", starve)
    with pytest.raises(ll.InputError, match="out of memory with batches of 1"):
        ll.evaluate(target, plane, resolution=(4, 3), method="direct", progress=False)


@pytest.mark.parametrize("name", ["linear", "mlp", "batch_norm_cnn", "residual"])
@pytest.mark.parametrize("method", ["auto", "direct"])
def test_bf16_is_near_and_says_how_near(name, method):
    model, data = make(name), images()
    plane = ll.random_plane(model, seed=1)
    full, rounded = (
        ll.evaluate(
            ll.objective(model, data, device="cpu", precision=precision), plane,
            alpha_range=(-0.5, 0.5), resolution=(5, 4), method=method, progress=False,
        )
        for precision in ("full", "bf16")
    )  # fmt: skip
    difference = np.abs(rounded.loss / full.loss - 1).max()
    reported = rounded.metadata["checks"]["precision_error"]
    assert difference < 0.05 and reported < 0.05
    if rounded.metadata["method"] != "affine":  # which has no forward pass to round
        assert difference > 0 and reported > 0
    assert full.metadata["checks"]["precision_error"] is None
    assert rounded.metadata["identity"]["objective"]["precision"] == "bf16"


def test_lower_precision_is_for_float32_only():
    with pytest.raises(ll.InputError, match="lower ones for float32"):
        ll.objective(make("mlp"), images(), dtype=torch.float64, precision="bf16")
    with pytest.raises(ll.InputError, match="full, tf32, bf16"):
        ll.objective(make("mlp"), images(), precision="int8")


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_span_of_a_parabola(scale):
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    line = ll.Line({"weight": torch.zeros(1, 1)}, ({"weight": torch.full((1, 1), scale)},))
    target = ll.objective(model, (torch.ones(8, 1), torch.zeros(8, 1)), loss="mse", device="cpu")
    found = ll.find_span(target, line, rise=2.0)
    assert found["span"] == pytest.approx(math.sqrt(2) / scale, rel=0.03)
    assert found["origin_loss"] == 0 and found["samples"] == 8


def test_span_that_does_not_exist_is_refused():
    model = nn.Linear(1, 1, bias=False)
    line = ll.Line({"weight": torch.ones(1, 1)}, ({"weight": torch.ones(1, 1)},))
    flat = ll.objective(model, (torch.zeros(4, 1), torch.zeros(4, 1)), loss="mse", device="cpu")
    for rise, reason in ((1.0, "does not rise"), (0.0, "above 0"), (math.nan, "above 0"), ("x", "above 0")):
        with pytest.raises(ll.InputError, match=reason):
            ll.find_span(flat, line, rise=rise)


@pytest.mark.parametrize("tolerance", [-1, 1.5, "coarse"])
def test_a_wrong_tolerance_is_refused_where_a_stored_surface_would_serve_too(tolerance, tmp_path):
    model, data = make("linear"), images()
    where = (tmp_path / "surface.npz", ll.objective(model, data), ll.random_plane(model))
    ll.load_or_evaluate(*where, resolution=3, progress=False)
    with pytest.raises(ll.InputError, match="tolerance"):
        ll.load_or_evaluate(*where, resolution=3, progress=False, tolerance=tolerance)
