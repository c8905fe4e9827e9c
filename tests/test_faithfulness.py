"""What a plane shows and hides, on quadratics whose Hessian is known."""

import importlib
import json
import math
import types

import numpy as np
import pytest
import torch
from torch import nn

import landscape_lib as ll
from landscape.cli.checkpoint_surfaces import with_faithfulness
from landscape.curvature.stored import PASSES
from landscape_lib import cli


class Quadratic(nn.Module):
    """A network whose loss is 1/2 sum_k h_k (w_k - c_k)^2, plus slope . (w - c), plus a number for every sample."""

    def __init__(self, curvatures, slope=0.0, shape=None):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        curvatures = torch.as_tensor(curvatures, dtype=torch.float64)
        shape = shape or (1, len(curvatures))
        self.weight = nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        self.register_buffer("centre", self.weight.detach().clone())
        self.register_buffer("curvatures", curvatures.reshape(shape))
        self.register_buffer("slope", torch.full(shape, float(slope), dtype=torch.float64))


def loss(model, batch):
    (noise,) = batch
    away = model.weight - model.centre
    value = 0.5 * (model.curvatures * away**2).sum() + (model.slope * away).sum()
    return value + 5 + noise.to(value)


def objective_of(model, noise=0.1, samples=50, function=loss):
    values = noise * torch.randn(samples, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return ll.objective(model, (values,), loss=function, dtype=torch.float64, device="cpu")


def test_every_number_of_a_quadratic():
    curvatures = np.linspace(-1, 3, 40)
    model = Quadratic(curvatures, slope=0.01, shape=(8, 5))
    plane = ll.random_plane(model, seed=3)
    before = model.weight.detach().clone()
    step = {"weight": plane.origin["weight"] - 0.3 * plane.directions[0]["weight"]}
    result = ll.faithfulness(objective_of(model), plane, step=step, probes=400, tol=1e-6, progress=False)
    first, second = (direction["weight"].flatten().numpy() for direction in plane.directions)
    basis = np.linalg.svd(np.stack([first, second]), full_matrices=False)[2]
    restricted = basis @ np.diag(curvatures) @ basis.T
    unit = first / np.linalg.norm(first)
    slope = np.full(40, 0.01)
    assert result.axis_curvatures[0] == pytest.approx(unit @ (curvatures * unit), rel=1e-9)
    assert result.plane_eigenvalues == pytest.approx(np.linalg.eigvalsh(restricted), rel=1e-9)
    assert result.average_eigenvalue == pytest.approx(curvatures.mean(), rel=1e-9)  # Rademacher: exact for diagonals
    assert (result.smallest, result.largest) == pytest.approx((-1, 3), rel=1e-6)
    share = ((basis * curvatures) ** 2).sum() / (curvatures**2).sum()
    assert result.hessian_share == pytest.approx(share, rel=1e-9)
    assert result.gradient_share == pytest.approx(((basis @ slope) ** 2).sum() / (slope @ slope), rel=1e-6)
    assert result.step_share == pytest.approx(1, rel=1e-9)
    assert result.gradient_norm == pytest.approx(np.linalg.norm(slope), rel=1e-9)
    gain = (slope @ slope) ** 2 / (2 * slope @ (curvatures * slope))
    assert result.gain == pytest.approx(gain, rel=1e-6)
    assert result.loss_error == pytest.approx(0.1 / np.sqrt(50), rel=0.3) and result.dimension == 40
    assert torch.equal(model.weight, before)


def test_a_saddle_that_random_planes_hide_is_flagged_every_time():
    curvatures = np.concatenate([np.full(390, 1.0), np.full(10, -0.5)])  # positive trace, ten ways down
    model = Quadratic(curvatures, shape=(20, 20))
    objective = objective_of(model)
    verdicts, looks_like_minimum = [], 0
    for seed in range(20):
        result = ll.faithfulness(objective, ll.random_plane(model, seed=seed), probes=4, seed=seed, progress=False)
        looks_like_minimum += result.plane_eigenvalues[0] > 0
        verdicts.append(result.verdict)
    assert looks_like_minimum >= 19
    assert verdicts == ["hidden saddle"] * 20


def test_planes_of_eigenvectors_are_exact():
    model = Quadratic(np.array([5.0, -2.0, *np.full(30, 0.1)]), shape=(4, 8))
    objective = objective_of(model)
    product = ll.hessian_product(objective, model)
    plane = ll.eigenvector_plane(product, ll.top_eigenpairs(product, k=2, tol=1e-8, progress=False))
    result = ll.faithfulness(objective, plane, tol=1e-8, progress=False)
    assert result.axis_curvatures == pytest.approx((5, -2), rel=1e-6)
    assert result.hessian_share == pytest.approx(29 / (29 + 30 * 0.01), rel=1e-6)
    assert result.verdict == "saddle"


@pytest.mark.parametrize(
    ("curvatures", "slope", "noise", "verdict"),
    [
        (np.full(30, 1.0), 0.0, 0.1, "minimum"),
        (np.full(30, 1.0), 0.05, 1.0, "minimum"),  # the gradient is within the noise of 50 samples
        (np.full(30, 1.0), 0.5, 0.1, "no critical point"),
        (np.full(30, -1.0), 0.0, 0.1, "saddle"),
        (np.full(30, -1.0), 0.1, 0.1, "no critical point"),
    ],
)
def test_verdicts(curvatures, slope, noise, verdict):
    model = Quadratic(curvatures, slope)
    result = ll.faithfulness(objective_of(model, noise), ll.random_plane(model), progress=False)
    assert result.verdict == verdict
    assert verdict != "saddle" or "a saddle, which the plane shows" in result.line


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize(
    ("dtype", "away"),
    [(torch.float64, 1e-30), (torch.float64, 1e-12), (torch.float64, 1e-9), (torch.float32, 1e-20)],
)
def test_a_saddle_reached_up_to_rounding_is_a_saddle(dtype, away, noise):
    model = nn.Linear(6, 1, bias=False).to(dtype)
    curvatures = torch.tensor([5, 3, 1, -0.5, 0.2, 0.1], dtype=dtype)
    with torch.no_grad():
        model.weight.zero_()[0, 3] = away

    def bare(network, batch):
        return (curvatures * network.weight**2).sum() / 2 + batch[0]

    values = noise * torch.randn(50, generator=torch.Generator().manual_seed(1), dtype=dtype)
    objective = ll.objective(model, (values,), loss=bare, dtype=dtype, device="cpu")
    units = torch.eye(6, dtype=dtype)
    for rows, verdict in (((0, 3), "saddle"), ((0, 1), "hidden saddle")):
        directions = tuple({"weight": units[row][None]} for row in rows)
        result = ll.faithfulness(objective, ll.Plane(ll.parameters_of(model), directions, networks=1), progress=False)
        assert result.verdict == verdict and result.gain == pytest.approx(away**2 / 4, rel=1e-5)
    with torch.no_grad():
        model.weight[0, 3] = 1.0  # far away, on the way down
    far = ll.faithfulness(objective, ll.random_plane(model), progress=False)
    assert far.verdict == "no critical point" and far.gain == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_near_zero_weights_is_at_a_saddle(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(1e-7 * torch.randn(parameter.shape, dtype=dtype))
    inputs = torch.randn(60, 2, dtype=dtype)
    targets = torch.sin(inputs[:, :1]) + inputs[:, 1:]
    targets -= targets.mean()  # so that the output bias is at its best
    objective = ll.objective(model, (inputs, targets), loss="mse", dtype=dtype, device="cpu")
    result = ll.faithfulness(objective, ll.random_plane(model), progress=False)
    assert result.smallest < -0.1 and result.verdict in ("saddle", "hidden saddle")


@pytest.mark.parametrize(("repeats", "verdicts"), [(1, {"unknown"}), (30, {"saddle", "hidden saddle"})])
def test_few_samples_cannot_tell_a_saddle_from_a_minimum(repeats, verdicts):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e-7)
    inputs = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]).double().repeat(repeats, 1)
    targets = (inputs[:, :1] != inputs[:, 1:]).double() + 0.5 * inputs[:, :1]
    targets -= targets.mean()  # so that the output bias is at its best
    result = ll.faithfulness(
        ll.objective(model, (inputs, targets), loss="mse", device="cpu"), ll.random_plane(model), progress=False
    )
    assert result.smallest < -0.1 and result.verdict in verdicts
    assert ("too few to tell a saddle from a minimum" in result.box) == (repeats == 1)


@pytest.mark.parametrize(("count", "verdict"), [(4, "minimum"), (40, "hidden saddle")])
def test_negative_curvature_is_significant_by_the_quantile_of_its_samples(count, verdict):
    model = Quadratic(np.full(12, 1.0))

    def bent(network, batch):
        (bend,) = batch  # curvature of the first weight
        away = (network.weight - network.centre).flatten()
        return (10 * away[1:] ** 2).sum() / 2 + bend * away[0] ** 2 / 2

    bends = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(count // 2)
    bends = -2.5 * bends.std() / count**0.5 + bends  # 2.5 standard errors below zero
    objective = ll.objective(model, (bends,), loss=bent, dtype=torch.float64, device="cpu")
    result = ll.faithfulness(objective, ll.random_plane(model, seed=1), progress=False)
    assert result.smallest == pytest.approx(-2.5 * result.smallest_error, rel=1e-4)
    assert result.verdict == verdict


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_of_a_flat_loss_is_no_noise_of_samples(dtype):
    model = nn.Linear(5, 1, bias=False).to(dtype)

    def flat(network, batch):
        return batch[0] * (1 + 0 * (network.weight**2).sum()) + 1e-12 * network.weight.sum().sin()

    values = torch.rand(9, dtype=dtype, generator=torch.Generator().manual_seed(0))
    objective = ll.objective(model, (values,), loss=flat, dtype=dtype, device="cpu")
    assert ll.faithfulness(objective, ll.random_plane(model), progress=False).verdict == "minimum"


def test_a_single_other_sample_judges_nothing():
    model = Quadratic(np.full(6, 1.0))
    objective = objective_of(model, samples=7)
    result = ll.faithfulness(objective, ll.random_plane(model), samples=6, progress=False)
    assert result.smallest_elsewhere is None and result.verdict == "minimum"
    result = ll.faithfulness(objective, ll.random_plane(model), samples=5, progress=False)
    assert result.smallest_elsewhere == pytest.approx(1) and result.smallest_elsewhere_error is not None


def test_a_slope_without_curvature_is_followed_as_far_as_the_weights_are_long():
    model = Quadratic(np.zeros(9), slope=0.5)
    result = ll.faithfulness(objective_of(model), ll.random_plane(model), progress=False)
    assert result.gain == pytest.approx(0.5 * 3 * model.weight.norm().item(), rel=1e-9)
    assert result.verdict == "no critical point"


def test_errors_over_samples_are_those_of_single_curvatures():
    model = Quadratic(np.full(12, 1.0))

    def scaled(model, batch):
        (factor,) = batch
        return factor * (model.curvatures * (model.weight - model.centre) ** 2).sum() / 2

    factors = torch.rand(80, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    objective = ll.objective(model, (factors,), loss=scaled, dtype=torch.float64, device="cpu")
    result = ll.faithfulness(objective, ll.random_plane(model), progress=False)
    expected = float(factors.std() / np.sqrt(80))
    assert result.plane_errors == pytest.approx((expected, expected), rel=1e-4)
    assert result.smallest_error == pytest.approx(expected, rel=1e-4)
    assert result.smallest == pytest.approx(float(factors.mean()), rel=1e-6)


def weighted_network():
    """A network of three classes with unequal weights, its data, and the point as one vector."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(20, 4, dtype=torch.float64), torch.randint(0, 3, (20,))
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return model, inputs, targets, torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)


def ratio_error(values, weights):
    """The error of sum w v / sum w by the delta method: the gradient of the ratio with respect to both means."""
    sums = np.stack([weights * values, weights])
    top, bottom = sums.mean(1)
    gradient = np.array([1 / bottom, -top / bottom**2])
    return float(np.sqrt(gradient @ np.cov(sums) @ gradient / len(values)))


@pytest.mark.parametrize("regularizer", [None, lambda model: 0.3 * sum(p.square().sum() for p in model.parameters())])
def test_errors_of_a_weighted_loss_are_those_of_a_ratio(regularizer):
    model, inputs, targets, weights = weighted_network()
    criterion = nn.CrossEntropyLoss(weight=weights)
    objective = ll.objective(
        model, (inputs, targets), loss=criterion, regularizer=regularizer, device="cpu", dtype=torch.float64
    )
    result = ll.faithfulness(objective, ll.random_plane(model), tol=1e-9, progress=False)
    start = ll.parameters_of(model)
    shapes, sizes = [value.shape for value in start.values()], [value.numel() for value in start.values()]

    def single(vector, x, y):
        pieces = zip(vector.split(sizes), shapes, strict=True)
        point = {name: part.reshape(shape) for name, (part, shape) in zip(start, pieces, strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(model, point, x[None]), y[None])

    origin, share = torch.cat([value.flatten() for value in start.values()]).detach(), weights[targets].numpy()
    matrices = torch.stack([torch.func.hessian(single)(origin, x, y) for x, y in zip(inputs, targets, strict=True)])
    losses = torch.stack([single(origin, x, y) for x, y in zip(inputs, targets, strict=True)]).numpy()
    mean = np.average(matrices.numpy(), axis=0, weights=share)
    vectors = np.linalg.eigh(mean)[1]
    penalty = 0.0 if regularizer is None else regularizer(model).item()
    assert result.loss == pytest.approx(np.average(losses, weights=share) + penalty, rel=1e-12)
    assert result.loss_error == pytest.approx(ratio_error(losses, share), rel=1e-9)
    for column, error in ((0, result.smallest_error), (-1, result.largest_error)):
        curvatures = np.einsum("i,nij,j->n", vectors[:, column], matrices.numpy(), vectors[:, column])
        assert error == pytest.approx(ratio_error(curvatures, share), rel=1e-4)


def test_the_verdict_on_a_weighted_loss_whose_samples_agree():
    model, inputs, targets, weights = weighted_network()
    with torch.no_grad():
        for parameter in model[2].parameters():
            parameter.zero_()  # every sample has the loss log 3
    criterion = nn.CrossEntropyLoss(weight=weights)
    objective = ll.objective(model, (inputs, targets), loss=criterion, device="cpu", dtype=torch.float64)
    result = ll.faithfulness(objective, ll.random_plane(model), progress=False)
    assert result.loss_error < 1e-12 and result.gain > 0.01 and result.verdict == "no critical point"


def test_an_eigenvector_of_few_samples_is_judged_on_others():
    model = Quadratic(np.full(60, 1.0))

    def noisy(network, batch):
        (noise,) = batch  # whose Hessians 1 + noise_n scatter around the identity
        return ((1 + noise) * (network.weight - network.centre).flatten() ** 2).sum(1) / 2

    noise = 20 * torch.randn(900, 60, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    objective = ll.objective(model, (noise,), loss=noisy, dtype=torch.float64, device="cpu")
    result = ll.faithfulness(objective, ll.random_plane(model), samples=60, tol=1e-8, progress=False)
    drawn = torch.randperm(900, generator=torch.Generator().manual_seed(0))
    used, others = (1 + noise[drawn[:60]]).mean(0), 1 + noise[drawn[60:120]]
    worst = int(used.argmin())
    assert result.smallest == pytest.approx(used.min().item(), rel=1e-6)
    assert result.smallest < -2 * result.smallest_error  # which looks like a saddle
    assert result.smallest_elsewhere == pytest.approx(others[:, worst].mean().item(), rel=1e-4)
    assert result.smallest_elsewhere_error == pytest.approx(others[:, worst].std().item() / 60**0.5, rel=1e-3)
    assert result.verdict == "unknown" and "along the same direction" in result.box  # eigenvalues of 1 in noise of 5


def test_a_network_lines_subsets_and_records(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    data = (torch.randn(90, 6), torch.randint(0, 3, (90,)))
    objective = ll.objective(model, data, device="cpu")
    result = ll.faithfulness(objective, ll.random_line(model), samples=40, progress=False)
    assert result.metadata["data"]["size"] == 40 and len(result.plane_eigenvalues) == 1
    record = json.loads(json.dumps(result.record))
    assert ll.results.Faithfulness(**record) == result
    names = [name for name, _ in model.named_parameters()]
    dense = torch.func.hessian(
        lambda p: nn.functional.cross_entropy(torch.func.functional_call(model, p, data[0][:40]), data[1][:40])
    )
    whole = ll.faithfulness(
        ll.objective(model, (data[0][:40], data[1][:40]), device="cpu"),
        ll.random_plane(model),
        tol=1e-4,
        progress=False,
    )
    point = ll.parameters_of(model)
    blocks = dense(point)
    matrix = torch.cat(
        [torch.cat([blocks[a][b].reshape(point[a].numel(), point[b].numel()) for b in names], 1) for a in names]
    )
    values = torch.linalg.eigvalsh(matrix.double())
    assert whole.largest == pytest.approx(float(values[-1]), rel=1e-3)
    assert whole.smallest == pytest.approx(float(values[0]), rel=1e-2, abs=1e-5)
    assert abs(whole.average_eigenvalue - float(values.mean())) < 5 * whole.average_error
    plane = ll.random_plane(model)
    flat = [torch.cat([direction[name].flatten() for name in names]).double() for direction in plane.directions]
    basis = torch.linalg.qr(torch.stack(flat, 1))[0]
    share = float((matrix.double() @ basis).square().sum() / matrix.double().square().sum())
    assert 0 < whole.hessian_share_error < 0.5 * share
    assert abs(whole.hessian_share - share) < 5 * whole.hessian_share_error


def test_refusals():
    model = Quadratic(np.full(6, 1.0))
    objective, plane = objective_of(model), ll.random_plane(model)
    with pytest.raises(ll.InputError, match="takes an objective"):
        ll.faithfulness(plane, objective)
    with pytest.raises(ll.InputError, match="a plane or a line"):
        ll.faithfulness(objective, model)
    with pytest.raises(ll.InputError, match="probes is 1"):
        ll.faithfulness(objective, plane, probes=1)
    parallel = ll.Plane(plane.origin, (plane.directions[0], plane.directions[0]), networks=1)
    with pytest.raises(ll.InputError, match="parallel"):
        ll.faithfulness(objective, parallel)
    with pytest.raises(ll.InputError, match="slice"):
        ll.faithfulness(objective, ll.random_plane(nn.Linear(3, 2)))


def test_a_box_is_stored_with_the_surface_of_a_script(tmp_path, monkeypatch, capsys):
    model = Quadratic(np.concatenate([np.full(390, 1.0), np.full(10, -0.5)]), shape=(20, 20))
    objective, plane, path = objective_of(model, samples=300), ll.random_plane(model, seed=1), tmp_path / "surface.npz"
    surface = ll.load_or_evaluate(path, objective, plane, resolution=(41, 31))
    assert surface.faithfulness is None
    assert with_faithfulness(path, surface, objective, plane, "never", seed=3) is surface
    judged = with_faithfulness(path, surface, objective, plane, "auto", seed=3)
    result = ll.Surface.load(path).faithfulness
    assert result == judged.faithfulness and result.verdict == "hidden saddle"
    assert result.metadata["data"]["size"] == int(0.1 * 41 * 31 * 300 / PASSES)  # a tenth of the forward passes
    assert ll.load_or_evaluate(path, objective, plane, resolution=(41, 31)).faithfulness == result
    box = judged.faithfulness.box
    assert "of 300" in box and "SADDLE THAT THIS PLANE HIDES" in box and box in cli.summarize(judged)
    assert "HIDDEN SADDLE" in ll.plot_contour(judged).get_title()

    def measured_again(*_, **__):
        raise AssertionError("a stored box is not measured again")

    monkeypatch.setattr("landscape.curvature.stored.faithfulness", measured_again)
    assert with_faithfulness(path, judged, objective, plane, "auto", seed=3).faithfulness == result
    with pytest.raises(AssertionError, match="not measured again"):
        with_faithfulness(path, judged, objective, plane, "auto", seed=4)
    assert "computed again: its seed is 3, not 4" in capsys.readouterr().out


def test_a_surface_too_cheap_for_a_box_gets_one_on_request_only(tmp_path):
    model = Quadratic(np.full(12, 1.0))
    objective, plane, path = objective_of(model), ll.random_plane(model), tmp_path / "surface.npz"
    surface = ll.load_or_evaluate(path, objective, plane, resolution=3)
    assert with_faithfulness(path, surface, objective, plane, "auto", seed=0).faithfulness is None
    judged = with_faithfulness(path, surface, objective, plane, "always", seed=0)
    assert judged.faithfulness.metadata["data"]["size"] == 50
    losses = ll.evaluate(objective, plane, resolution=3, per_sample=True)
    single = ll.Surface(**{**vars(losses), "metadata": judged.metadata}).sample(2)
    assert single.faithfulness is None  # it is that of the mean loss


def test_why_there_is_no_box_is_told(tmp_path, capsys):
    model = Quadratic(np.full(12, 1.0))

    def first_derivatives_only(network, batch):
        return Once.apply(loss(network, batch))

    objective = objective_of(model, function=first_derivatives_only)
    plane, path = ll.random_plane(model), tmp_path / "surface.npz"
    surface = ll.load_or_evaluate(path, objective, plane, resolution=3)
    assert with_faithfulness(path, surface, objective, plane, "always", seed=0) is surface
    out = capsys.readouterr().out
    assert "No comparison of the curvature in the plane with that in all directions: the loss has no second" in out


class Once(torch.autograd.Function):
    @staticmethod
    def forward(context, values):
        return values.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, gradient):
        return gradient


def test_networks_too_large_for_eigenvectors_get_the_other_numbers(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=1000))
    model = Quadratic(np.full(60, 1.0))
    result = ll.faithfulness(objective_of(model), ll.random_plane(model), progress=False)
    assert result.largest is result.smallest is None and result.verdict == "unknown"
    assert result.axis_curvatures == pytest.approx((1, 1)) and result.average_eigenvalue == pytest.approx(1)
    assert "eigenvectors of a network of this size do not fit into memory" in result.box


def test_a_plane_through_several_networks_with_batch_norm():
    torch.manual_seed(0)
    a, b, c = (nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double() for _ in range(3))
    inputs, targets = torch.randn(40, 4, dtype=torch.float64), torch.randint(0, 3, (40,))
    objective = ll.objective(a, (inputs, targets), dtype=torch.float64, device="cpu")
    result = ll.faithfulness(objective, ll.three_point_plane(a, b, c), progress=False)
    hidden = a[0](inputs).detach()
    a[1].running_mean, a[1].running_var = hidden.mean(0), hidden.var(0, correction=0)  # of all data, as constants
    own = nn.functional.cross_entropy(a.eval()(inputs), targets)
    gradient = torch.cat([part.flatten() for part in torch.autograd.grad(own, a.parameters())])
    assert result.loss == pytest.approx(own.item(), rel=1e-9)
    assert result.gradient_norm == pytest.approx(gradient.norm().item(), rel=1e-9)


@pytest.mark.parametrize(
    "change", [{"verdict": "good"}, {"loss": "low"}, {"largest": None}, {"plane_errors": []}, {"more": 1}, None]
)
def test_a_record_of_another_form_is_no_result(change):
    model = Quadratic(np.full(6, 1.0))
    result = ll.faithfulness(objective_of(model), ll.random_plane(model), progress=False)
    assert ll.results.Faithfulness.read(result.record) == result
    assert ll.results.Faithfulness.read(None if change is None else result.record | change) is None


def test_a_record_of_the_first_version_is_read():
    model = Quadratic(np.full(6, 1.0))
    record = ll.faithfulness(objective_of(model), ll.random_plane(model), progress=False).record
    added = ("largest_error", "hessian_share_error", "smallest_elsewhere", "smallest_elsewhere_error")
    earlier = ll.results.Faithfulness.read({name: value for name, value in record.items() if name not in added})
    assert earlier.largest_error is None and earlier.verdict == "minimum" and "largest eigenvalue" in earlier.box


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": "x"}, "a point is a module or a dict"),
        ({"tol": "x"}, "tol is x; it must be a finite number above 0"),
        ({"tol": None}, "tol is None"),
        ({"tol": -1}, "tol is -1"),
        ({"tol": math.nan}, "tol is nan"),
    ],
)
def test_step_and_tolerance_are_checked_before_the_work(monkeypatch, options, message):
    module = importlib.import_module("landscape.curvature.faithfulness")
    monkeypatch.setattr(module, "hessian_product", lambda *_: pytest.fail("work has begun"))
    model, data = torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    with pytest.raises(ll.InputError, match=message):
        ll.faithfulness(ll.objective(model, data), ll.random_plane(model), progress=False, **options)
