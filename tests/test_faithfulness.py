"""What a plane shows and hides, on quadratics whose Hessian is known."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import landscape_lib as ll


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


def test_refusals():
    model = Quadratic(np.full(6, 1.0))
    objective, plane = objective_of(model), ll.random_plane(model)
    with pytest.raises(ll.InputError, match="takes an objective"):
        ll.faithfulness(plane, objective)
    with pytest.raises(ll.InputError, match="a plane or a line"):
        ll.faithfulness(objective, model)
    with pytest.raises(ll.InputError, match="probes is 1"):
        ll.faithfulness(objective, plane, probes=1)
    parallel = ll.Plane(plane.origin, (plane.directions[0], plane.directions[0]))
    with pytest.raises(ll.InputError, match="parallel"):
        ll.faithfulness(objective, parallel)
    with pytest.raises(ll.InputError, match="slice"):
        ll.faithfulness(objective, ll.random_plane(nn.Linear(3, 2)))
