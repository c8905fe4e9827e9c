"""Few Chebyshev points stand for a whole grid only where they give its values to rounding."""

import itertools

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev

import landscape_lib as ll
from landscape.evaluation.methods.chebyshev import ChebyshevNodes

GRID = {"alpha_range": (-1.0, 0.5), "beta_range": (-0.75, 1.5), "resolution": (41, 37)}
SAMPLES = 10_000


def data(samples=SAMPLES, features=6, classes=4, hard=slice(None), scale=1.0):
    """Noisy labels of a linear teacher; inputs that are not ``hard`` are all zero."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.zeros(samples, features)
    inputs[hard] = scale * torch.randn(len(inputs[hard]), features, generator=generator)
    noisy = inputs @ torch.randn(features, classes, generator=generator) + torch.randn(
        samples, classes, generator=generator
    )
    return inputs, noisy.argmax(1)


def linear(features=6, classes=4):
    torch.manual_seed(5)
    return torch.nn.Linear(features, classes)


def reference(model, plane, inputs, targets, axes):
    """Mean loss, standard error and accuracy by a plain loop in float64, the weights put together by hand."""
    weight, bias = (
        [point[name].double() for point in (plane.origin, *plane.directions)] for name in ("weight", "bias")
    )
    found = []
    for place in itertools.product(*axes):
        logits = inputs.double() @ sum(c * w for c, w in zip((1, *place), weight, strict=True)).T + sum(
            c * b for c, b in zip((1, *place), bias, strict=True)
        )
        losses = -torch.log_softmax(logits, 1)[torch.arange(len(targets)), targets]
        hits = (logits.argmax(1) == targets).double().mean()
        found.append([losses.mean(), losses.std() / len(losses) ** 0.5, hits])
    return np.array(found, float).T.reshape(3, *map(len, axes))


def check(surface, expected, rtol):
    np.testing.assert_allclose(surface.loss, expected[0], rtol=rtol)
    np.testing.assert_allclose(surface.standard_error, expected[1], rtol=10 * rtol)
    np.testing.assert_allclose(surface.accuracy, expected[2], atol=1.5 / SAMPLES)


def evaluated(model, plane, samples, **options):
    dtype = options.pop("dtype", None)
    target = ll.objective(model, samples, device="cpu", **({"dtype": dtype} if dtype else {}))
    return ll.evaluate(target, plane, progress=False, **{**GRID, **options})


def points(surface):
    return surface.metadata["method_settings"].get("chebyshev_points")


def test_interpolation_is_that_of_numpy():
    axes = np.linspace(-1, 2, 9), np.linspace(0, 0.5, 7)
    nodes = ChebyshevNodes(axes, (6, 5))
    values = np.random.default_rng(0).normal(size=(6, 5))
    coefficients = chebyshev.chebfit(chebyshev.chebpts2(6), values, 5)
    coefficients = chebyshev.chebfit(chebyshev.chebpts2(5), coefficients.T, 4).T
    unit = [2 * (axis - axis[0]) / (axis[-1] - axis[0]) - 1 for axis in axes]
    np.testing.assert_allclose(
        nodes.interpolate(values.ravel()).reshape(9, 7), chebyshev.chebgrid2d(*unit, coefficients), atol=1e-12
    )


@pytest.mark.parametrize(
    ("function", "counts"),
    {
        "two powers": (lambda a, b: 3 + a**4 * b**2, (7, 5)),
        "one axis": (lambda a, b: 2 + a**3 + 0 * b, (6, 3)),
        "not positive": (lambda a, b: a + b, None),
        "not finite": (lambda a, b: 1 / (1 - a), None),
        "a kink": (lambda a, b: 1 + np.abs(a - 0.1 * b), None),
    }.values(),
)
def test_the_fewest_nodes_are_two_more_than_there_are_powers(function, counts):
    axes = np.linspace(-1, 1, 40), np.linspace(-1, 1, 30)

    def sample(nodes):
        with np.errstate(divide="ignore"):
            return function(nodes.axes[0][:, None], nodes.axes[1][None]).reshape(1, -1)

    nodes = ChebyshevNodes.smallest(axes, sample, 1e-9)
    assert (nodes and nodes.counts) == counts
    if nodes:
        assert nodes.resolves(sample(nodes), 1e-9)
        exact = function(axes[0][:, None], axes[1][None]).ravel()
        np.testing.assert_allclose(nodes.interpolate(sample(nodes)[0]), exact, rtol=1e-12)


def test_a_large_grid_takes_few_points_and_is_what_plain_passes_give():
    model, samples = linear(), data()
    plane = ll.random_plane(model, seed=1)
    surface = evaluated(model, plane, samples)
    assert np.prod(points(surface)) < 0.25 * surface.loss.size
    check(surface, reference(model, plane, *samples, (surface.alphas, surface.betas)), rtol=1e-6)


def test_a_line_takes_few_points_as_well():
    model, samples = linear(), data()
    line = ll.random_line(model, seed=1)
    surface = evaluated(model, line, samples, resolution=101)
    assert points(surface)[0] < 30 and points(surface)[1] == 1
    expected = reference(model, line, *samples, (surface.alphas,))
    check(surface, expected, rtol=1e-6)


def test_samples_unlike_the_first_ones_take_more_points():
    model, samples = linear(), data(hard=slice(5000, None), scale=1.5)
    plane = ll.random_plane(model, seed=1)
    surface, easy = evaluated(model, plane, samples), evaluated(model, plane, data(hard=slice(0)))
    assert points(surface) is None or np.prod(points(surface)) > 2 * np.prod(points(easy))
    check(surface, reference(model, plane, *samples, (surface.alphas, surface.betas)), rtol=1e-6)


@pytest.mark.parametrize("reason", ["few samples", "small grid", "steep", "float64", "per sample"])
def test_every_point_is_evaluated_where_few_do_not_do(reason):
    model = linear()
    samples = data(samples=500) if reason == "few samples" else data(scale=60.0 if reason == "steep" else 1.0)
    options = {
        "small grid": {"resolution": (9, 8)},
        "float64": {"dtype": torch.float64},
        "per sample": {"per_sample": True},
    }.get(reason, {})
    plane = ll.random_plane(model, seed=1)
    surface = evaluated(model, plane, samples, **options)
    assert surface.metadata["method"] == "affine" and points(surface) is None
    if reason == "steep":
        check(surface, reference(model, plane, *samples, (surface.alphas, surface.betas)), rtol=1e-6)


def test_a_loss_that_is_not_finite_somewhere_is_evaluated_everywhere():
    model, (inputs, targets) = linear(), data()
    inputs[-1] = 3e38
    surface = evaluated(model, ll.random_plane(model, seed=1), (inputs, targets))
    assert points(surface) is None and not np.isfinite(surface.loss).all()
