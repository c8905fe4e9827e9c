"""Barriers and curves: ends that are the models, values against plain forward passes, training that pays."""

import copy
import itertools

import numpy as np
import pytest
import torch
from networks import images, make, plain_losses
from surfaces import new_axes
from torch import nn

import landscape_lib as ll

SMALL = {"resolution": 5, "progress": False}


def of(loss, alphas=None, accuracy=None):
    loss = np.array(loss, dtype=np.float64)
    alphas = np.linspace(0, 1, len(loss)) if alphas is None else np.array(alphas)
    return ll.results.Barrier.of(ll.Surface(alphas, None, loss, np.zeros_like(loss), accuracy, None, {}))


def mean_loss(model, inputs, targets):
    """Cross-entropy in float64 of the model itself."""
    with torch.no_grad():
        logits = copy.deepcopy(model).double().eval()(inputs.double())
    return nn.functional.cross_entropy(logits, targets).item()


# --- barriers ---------------------------------------------------------------------------------------------


def test_the_barrier_is_the_rise_above_the_chord_and_above_the_larger_end():
    found = of([1, 2.5, 4, 3], accuracy=np.array([0.9, 0.5, 0.3, 0.6]))
    assert (found.value, found.at) == (pytest.approx(4 - (1 / 3 * 1 + 2 / 3 * 3)), pytest.approx(2 / 3))
    assert found.above_larger_end == 1
    assert found.accuracy == pytest.approx((0.9 / 3 + 2 * 0.6 / 3) - 0.3)
    assert found.numbers == {
        "first_loss": 1, "second_loss": 3, "value": found.value, "at": found.at, "above_larger_end": 1,
        "accuracy": found.accuracy,
    }  # fmt: skip


def test_below_the_chord_there_is_no_barrier():
    found = of([1, 0.5, 0.1, 3])
    assert (found.value, found.at, found.above_larger_end, found.accuracy) == (0, 0, 0, None)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_kept(value):
    found = of([1, 2, value, 1])
    np.testing.assert_equal([found.value, found.above_larger_end], [value, value])
    assert found.at == pytest.approx(2 / 3)


def test_a_plane_and_another_range_have_no_barrier():
    x = np.linspace(0, 1, 3)
    plane = ll.Surface(x, x, np.ones((3, 3)), np.ones((3, 3)), None, None, {})
    for call in (lambda: ll.results.Barrier.of(plane), lambda: of([1, 2, 1], alphas=[-1, 0, 1])):
        with pytest.raises(ll.InputError, match=r"evaluate it with alpha_range=\(0, 1\)"):
            call()


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual"])
def test_the_ends_of_the_line_are_the_losses_of_the_models(name):
    inputs, targets = images()
    a, b = (make(name, seed) for seed in (0, 1))
    if name == "residual":  # recalibrated: the models' own statistics are those of the same data
        for model in (a, b):
            model.train()
            model.norm.momentum = None
            model.norm.reset_running_stats()
            model(inputs)
            n = inputs.numel() / inputs.shape[1]
            model.norm.running_var *= (n - 1) / n
            model.eval()
    objective = ll.objective(a, (inputs, targets), device="cpu", dtype=torch.float64)
    found = ll.barrier(objective, a, b, **SMALL)
    ends = [mean_loss(model, inputs, targets) for model in (a, b)]
    np.testing.assert_allclose(found.surface.loss[[0, -1]], ends, rtol=1e-6)
    middle = copy.deepcopy(a).double()
    if name != "residual":
        for p, q in zip(middle.parameters(), b.parameters(), strict=True):
            p.data = (p.data + q.data) / 2
        assert found.surface.loss[2] == pytest.approx(mean_loss(middle, inputs, targets), rel=1e-6)


def test_a_convex_model_has_no_barrier():
    a, b = make("linear", 0), make("linear", 1)
    objective = ll.objective(a, images(), device="cpu", dtype=torch.float64)
    assert ll.barrier(objective, a, b, progress=False).value == 0


def test_a_model_has_no_barrier_to_itself():
    model = make("batch_norm_cnn")
    objective = ll.objective(model, images(), device="cpu")
    assert ll.barrier(objective, model, model, **SMALL).value == 0


# --- curves -----------------------------------------------------------------------------------------------


def casteljau(points, t):
    """The Bezier curve by repeated interpolation."""
    while len(points) > 1:
        points = [(1 - t) * p + t * q for p, q in itertools.pairwise(points)]
    return points[0]


def segments(points, t):
    """The polygon by numpy's interpolation, entry by entry."""
    knots = np.linspace(0, 1, len(points))
    columns = torch.stack([p.flatten() for p in points]).numpy().T
    return torch.tensor([np.interp(t, knots, column) for column in columns]).view(points[0].shape)


ORACLES = {"bezier": casteljau, "polygon": segments}


def fitted(name="mlp", kind="bezier", data=None, **options):
    a, b = make(name, 0), make(name, 1)
    objective = ll.objective(a, data or images(), device="cpu", dtype=torch.float64)
    options = {"epochs": 2, "lr": 0.01, "batch_size": 4, "progress": False, **options}
    return a, b, objective, ll.fit_curve(objective, a, b, kind=kind, **options)


@pytest.mark.parametrize("bends", [1, 3])
@pytest.mark.parametrize("kind", ORACLES)
def test_a_curve_runs_through_its_control_points_as_the_formula_says(kind, bends):
    a, b, _, curve = fitted(kind=kind, bends=bends)
    assert len(curve.points) == bends + 2 and curve.recipe["kind"] == f"{kind} curve"
    for point, model in ((curve(0), a), (curve(1), b)):
        assert all(torch.equal(point[name], value) for name, value in model.named_parameters())
    for t in (0.1, 0.5, 0.77):
        for name, value in curve(t).items():
            expected = ORACLES[kind]([point[name].double() for point in curve.points], t)
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ORACLES)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_the_surface_of_a_curve_equals_plain_forward_passes(name, kind):
    _, _, objective, curve = fitted(name, kind)
    surface = ll.evaluate(objective, curve, alpha_range=(0, 1), resolution=7, per_sample=True, progress=False)
    assert surface.metadata["method"] == "prefix" and "curve" in surface.metadata["methods_rejected"]["affine"]
    for t, losses in zip(surface.alphas, surface.per_sample, strict=True):
        point = curve.to(torch.float64)(t)
        line = ll.Line(point, ({key: torch.zeros_like(value) for key, value in point.items()},))
        expected, _ = plain_losses(objective.model, line, (0.0,), *images())
        np.testing.assert_allclose(losses, expected.numpy(), rtol=1e-9)


@pytest.mark.parametrize("name", ["linear", "tied", "functional", "attention"])
def test_any_module_has_curves_and_linear_ones_are_not_mixed_from_logits(name):
    _, _, objective, curve = fitted(name, bends=1)
    surface = ll.evaluate(objective, curve, alpha_range=(0, 1), **SMALL)
    losses = [objective(curve(t)).mean().item() for t in surface.alphas]
    np.testing.assert_allclose(surface.loss, losses, rtol=1e-6)
    with pytest.raises(ll.InputError, match="'affine' does not fit: the slice is a curve"):
        ll.evaluate(objective, curve, alpha_range=(0, 1), method="affine", **SMALL)


@pytest.mark.parametrize("kind", ORACLES)
def test_training_bends_the_curve_below_the_line_and_only_the_bends(kind):
    a, b, objective, curve = fitted("mlp", kind, images(60), epochs=40, lr=0.02, batch_size=16)
    line = ll.barrier(objective, a, b, progress=False)
    surface = ll.evaluate(objective, curve, alpha_range=(0, 1), resolution=25, progress=False)
    assert surface.loss.mean() < 0.8 * line.surface.loss.mean()
    assert ll.results.Barrier.of(surface).value <= line.value
    np.testing.assert_allclose(surface.loss[[0, -1]], [mean_loss(m, *images(60)) for m in (a, b)], rtol=1e-9)
    straight = fitted("mlp", kind, images(60), epochs=1, lr=1e-12)[3]
    torch.testing.assert_close(straight(0.3), ll.interpolation_line(a, b)(0.3))


def test_batch_norm_is_recalibrated_along_a_curve_unless_told_otherwise():
    a, _, objective, curve = fitted("batch_norm_cnn", lr=0.001)
    surface = ll.evaluate(objective, curve, alpha_range=(0, 1), **SMALL)
    assert surface.metadata["objective"]["batch_norm"] == "recalibrate"
    model = copy.deepcopy(a).double()
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(curve(0.5)[name])
    inputs, targets = images()  # one batch in training mode is all of the data
    logits = model.train()(inputs.double())
    assert surface.loss[2] == pytest.approx(nn.functional.cross_entropy(logits, targets).item(), rel=1e-6)
    running = ll.objective(a, images(), batch_norm="running", device="cpu")
    with pytest.raises(ll.InputError, match="batch_norm='running' on the bezier curve"):
        ll.evaluate(running, curve, alpha_range=(0, 1), **SMALL)


def test_a_curve_is_reproducible_and_changes_nothing_else():
    a, b = make("batch_norm_cnn", 0), make("batch_norm_cnn", 1)
    objective = ll.objective(a, images(), device="cpu")
    before = [value.clone() for model in (a, b, objective.model) for value in model.state_dict().values()]
    state = torch.get_rng_state()
    curves = [ll.fit_curve(objective, a, b, epochs=1, seed=seed, progress=False) for seed in (0, 0, 1)]
    assert curves[0].fingerprint == curves[1].fingerprint != curves[2].fingerprint
    after = [value for model in (a, b, objective.model) for value in model.state_dict().values()]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert torch.equal(torch.get_rng_state(), state) and not any(p.grad is not None for p in a.parameters())
    other = type(curves[0]).through(curves[0].points, {**curves[0].recipe, "kind": "polygon curve"})
    assert other.fingerprint != curves[0].fingerprint


def test_streamed_samples_and_a_loss_of_ones_own_train_a_curve(monkeypatch):
    monkeypatch.setattr("landscape.objective.samples.available_memory", lambda device: 0)
    inputs, targets = images(10)
    data = [(x, y) for x, y in zip(inputs, targets, strict=True)]
    a, b = make("mlp", 0), make("mlp", 1)

    def halves(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1]) / 2

    objective = ll.objective(a, torch.utils.data.DataLoader(data, batch_size=4), loss=halves, device="cpu")
    assert objective.samples.tensors is None
    curve = ll.fit_curve(objective, a, b, epochs=20, lr=0.02, progress=False)
    line = ll.interpolation_line(a, b)
    assert objective(curve(0.5)).mean() < 0.8 * objective(line(0.5)).mean()


def test_a_curve_is_computed_once(tmp_path):
    _, _, objective, curve = fitted("cnn")
    options = {"alpha_range": (0, 1), **SMALL}
    first = ll.load_or_evaluate(tmp_path / "curve.npz", objective, curve, **options)
    again = ll.load_or_evaluate(tmp_path / "curve.npz", objective, curve, **options)
    assert again.metadata == first.metadata
    straight = ll.interpolation_line(curve.points[0], curve.points[-1])
    other = ll.load_or_evaluate(tmp_path / "curve.npz", objective, straight, **options)
    assert other.metadata["slice"]["kind"] == "interpolation line"


class Counting(nn.Module):
    """A layer beside parameters of whole numbers and truth values, the first of all, which the forward pass reads."""

    def __init__(self, factor=2):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([factor]), requires_grad=False)
        self.mask = nn.Parameter(torch.arange(32) % 2 == 0, requires_grad=False)
        self.layer = nn.Linear(32, 3)

    def forward(self, x):
        return self.layer(x.flatten(1) * self.mask) / self.factor


def test_whole_numbers_stay_on_a_curve():
    torch.manual_seed(0)
    a, b = Counting(), Counting()
    objective = ll.objective(Counting(), images(), device="cpu")
    curve = ll.fit_curve(objective, a, b, epochs=2, lr=0.02, batch_size=4, progress=False)
    middle = curve(0.5)
    assert torch.equal(middle["factor"], a.factor) and torch.equal(middle["mask"], a.mask)
    assert curve.moved == ["layer.weight", "layer.bias"]
    surface = ll.evaluate(objective, curve, alpha_range=(0, 1), resolution=3, progress=False)
    model = copy.deepcopy(a)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(middle[name])
    assert surface.loss == pytest.approx([mean_loss(each, *images()) for each in (a, model, b)], rel=1e-5)
    straight = ll.barrier(objective, a, b, **SMALL)
    assert surface.loss[1] < straight.surface.loss[2]  # the bends were trained through the whole numbers
    with pytest.raises(ll.InputError, match="'factor' holds whole numbers or truth values that differ"):
        ll.fit_curve(objective, a, Counting(3), progress=False)


def test_parameters_of_a_curve_keep_their_own_precision():
    a, b = make("mlp", 0), make("mlp", 1)
    for model in (a, b):
        model[1].bfloat16()
    points = [ll.parameters_of(model) for model in (a, b)]
    curve = ll.results.Curve.through((points[0], points[1], points[0]), {"kind": "bezier curve"})
    found = curve(0.25)
    for name, value in points[0].items():
        exact = (1 - 0.375) * value.double() + 0.375 * points[1][name].double()  # 2 t (1 - t) = 0.375
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], exact.float().to(value.dtype)) or value.dtype == torch.float32
        torch.testing.assert_close(found[name].double(), exact, rtol=0.004, atol=1e-6)


def test_a_curve_ends_at_its_networks():
    objective, curve = fitted()[2:]
    with pytest.raises(ll.InputError, match=r"from 0 to 1; evaluate it with alpha_range=\(0, 1\)"):
        ll.evaluate(objective, curve, **SMALL)


MLP = make("mlp")
BAD = {
    "kind": ({"kind": "circle"}, "unknown kind of curve 'circle'; use one of bezier, polygon"),
    "bends": ({"bends": 0}, "bends is 0, epochs 10"),
    "lr": ({"lr": -1.0}, "lr -1.0; the first three must be at least 1, lr above 0"),
    "diverges": ({"lr": 1e30, "epochs": 50}, "the loss on the curve is (nan|inf).*lower lr"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_curve_that_cannot_be_trained_is_told(case):
    options, message = BAD[case]
    objective = ll.objective(MLP, images(), device="cpu")
    with pytest.raises(ll.InputError, match=message):
        ll.fit_curve(objective, MLP, make("mlp", 1), progress=False, **options)


def test_networks_of_another_architecture_are_told():
    objective = ll.objective(MLP, images(), device="cpu")
    for call in (ll.fit_curve, ll.barrier):
        with pytest.raises(ll.InputError, match="the second model does not belong to this network"):
            call(objective, MLP, make("cnn"), progress=False)


# --- the report and its figure ----------------------------------------------------------------------------


def test_the_report_never_leaves_the_control_out_and_each_entry_is_what_its_function_gives():
    inputs, targets = images(40)
    a, b = make("mlp", 0), make("mlp", 1)
    objective = ll.objective(a, (inputs, targets), device="cpu")
    found = ll.connectivity(objective, a, b, curve="polygon", seed=2, epochs=2, bends=1, **SMALL)
    assert list(found.barriers) == ["unaligned", "aligned by weights", "aligned by activations", "polygon curve"]
    assert found.barriers["unaligned"].value == ll.barrier(objective, a, b, **SMALL).value
    for method in ("weights", "activations"):
        model = ll.align(a, b, method=method, data=(inputs, targets), seed=2).model
        expected = ll.barrier(objective, a, model, **SMALL).value
        assert found.barriers[f"aligned by {method}"].value == expected
        assert torch.equal(found.alignments[method].model[1].weight, model[1].weight)
    curve = ll.fit_curve(objective, a, b, kind="polygon", seed=2, epochs=2, bends=1, progress=False)
    assert found.curve.fingerprint == curve.fingerprint
    assert list(ll.connectivity(objective, a, b, methods=(), **SMALL).barriers) == ["unaligned"]
    head, *rows = ll.cli.barrier_table(found.barriers).splitlines()
    assert head.split("  ")[-1] == "accuracy barrier" and len(rows) == 4
    assert rows[0].split()[3] == f"{found.barriers['unaligned'].value:.4g}"


def test_the_figure_draws_every_way_its_ends_and_the_chord(clean_figures):
    control, aligned = of([1, 4, np.nan, 3], accuracy=np.array([0.9, 0.1, 0.2, 0.8])), of([1, 1.5, 2, 3])
    ax = new_axes()
    assert ll.plot_barriers({"unaligned": control, "aligned": aligned}, ax) is ax
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    np.testing.assert_array_equal(lines["unaligned: barrier nan"][:, 1], control.surface.loss)
    np.testing.assert_array_equal(lines["aligned: barrier 0"], np.c_[np.linspace(0, 1, 4), aligned.surface.loss])
    np.testing.assert_array_equal(lines["the two networks"], [[0, 1], [1, 3]])
    assert any(np.allclose(line[:, 1], 1 + 2 * line[:, 0]) and len(line) > 2 for line in lines.values())
    assert "NaN or infinite (1 of 4 points)" in lines
    with pytest.raises(ll.InputError, match="this surface has no accuracy"):
        ll.plot_barriers({"unaligned": control, "aligned": aligned}, new_axes(), quantity="accuracy")
    with pytest.raises(ll.InputError, match="plot_barriers got no surfaces"):
        ll.plot_barriers({}, new_axes())


# --- definitions, and what is refused -----------------------------------------------------------------------


def test_the_two_definitions_of_a_barrier_are_those_of_the_papers():
    surface = of([1, 2.5, 4, 3], accuracy=np.array([0.9, 0.5, 0.3, 0.6])).surface
    frankle = ll.results.Barrier.of(surface, "frankle")
    assert (frankle.value, frankle.at, frankle.definition) == (
        pytest.approx(4 - (1 + 3) / 2),
        pytest.approx(2 / 3),
        "frankle",
    )
    assert frankle.accuracy == pytest.approx((0.9 + 0.6) / 2 - 0.3)
    assert ll.results.Barrier.of(surface).definition == "entezari"
    convex = of([1, 1.5, 2, 3]).surface
    assert ll.results.Barrier.of(convex).value == 0 and ll.results.Barrier.of(convex, "frankle").value == 1
    assert np.isnan(ll.results.Barrier.of(of([1, np.nan, 1]).surface, "frankle").value)


def test_the_definition_reaches_every_way_between_two_networks():
    a, b = make("mlp", 0), make("mlp", 1)
    objective = ll.objective(a, images(), device="cpu")
    found = ll.barrier(objective, a, b, definition="frankle", **SMALL)
    loss = found.surface.loss
    assert found.value == pytest.approx(loss.max() - (loss[0] + loss[-1]) / 2)
    ways = ll.connectivity(objective, a, b, methods=("weights",), definition="frankle", **SMALL).barriers
    assert {way.definition for way in ways.values()} == {"frankle"}


def broken(value):
    model = make("mlp", 1)
    with torch.no_grad():
        model[3].weight[0, 0] = value
    return model


def half():
    return make("mlp", 1).to(torch.bfloat16)


net = lambda: make("mlp", 0)  # noqa: E731
target = lambda: ll.objective(net(), images(), device="cpu")  # noqa: E731
FAULTS = {
    "definition": (lambda: ll.barrier(target(), net(), net(), definition="mean"), "unknown definition 'mean'"),
    "definition of connectivity": (
        lambda: ll.connectivity(target(), net(), net(), definition="mean"), "unknown definition 'mean'"
    ),
    "form of a curve": (lambda: ll.connectivity(target(), net(), net(), curve="arc"), "unknown kind of curve 'arc'"),
    "complex curve": (
        lambda: ll.fit_curve(target(), net(), {k: v.cfloat() for k, v in ll.parameters_of(net()).items()}),
        "real parameters",
    ),
    "barrier with swaps": (lambda: ll.barrier(net(), target(), net()), "an objective.*not Sequential"),
    "curve with swaps": (lambda: ll.fit_curve(net(), net(), target()), "an objective.*not Sequential"),
    "connectivity with swaps": (lambda: ll.connectivity(net(), net(), target()), "takes an objective"),
    "barrier to no model": (lambda: ll.barrier(target(), net(), images()), "a point is a module or a dict.*not tuple"),
    "NaN in a barrier": (lambda: ll.barrier(target(), net(), broken(float("nan"))), "holds NaN or infinite"),
    "NaN in a curve": (lambda: ll.fit_curve(target(), net(), broken(float("nan"))), "model holds NaN.*'3.weight'"),
    "infinite": (lambda: ll.connectivity(target(), net(), broken(float("inf"))), "second model holds NaN"),
    "other network": (lambda: ll.barrier(target(), net(), make("cnn")), "second model does not belong"),
    "no points": (lambda: ll.project(net(), ll.random_plane(net())), "not one Sequential"),
    "no plane": (lambda: ll.project([net()], ll.random_line(net())), "takes a plane with two directions"),
    "no objective": (lambda: ll.project([net()], ll.random_plane(net()), net()), "takes an objective"),
    "one point": (lambda: ll.pca_plane(ll.parameters_of(net())), "not one dict"),
    "lazy": (lambda: ll.random_plane(nn.Sequential(nn.LazyLinear(3))), "has no shape yet; run one batch"),
    "meta": (lambda: ll.random_plane(nn.Linear(3, 2, device="meta")), "on the meta device"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_wrong_arguments_are_told_in_one_line(case):
    call, message = FAULTS[case]
    with pytest.raises(ll.InputError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_networks_of_different_precision_are_connected():
    a, b = make("mlp", 0).double(), half()
    objective = ll.objective(a, images(), device="cpu", dtype=torch.float64)
    ways = ll.connectivity(objective, a, b, resolution=3, progress=False).barriers
    for way in ways.values():
        np.testing.assert_allclose(
            way.surface.loss[[0, -1]], [mean_loss(model, *images()) for model in (a, b)], rtol=1e-6
        )
