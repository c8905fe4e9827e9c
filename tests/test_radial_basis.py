"""Radial basis functions against scipy's, and their errors against what is found when points are left out."""

import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from landscape.evaluation.refinement import radial_basis
from landscape.evaluation.refinement.radial_basis import KINDS, Kind, RadialBasis, interpolate, patches

GENERATOR = np.random.default_rng(0)
TRANSFORMS = {
    "loss": (np.array, np.array),
    "square root of the loss": (np.sqrt, np.square),
    "logarithm of the loss": (np.log, np.exp),
}


def scattered(count, axes=2):
    """Places of a grid of 101 points an axis, and two columns of values there."""
    generator = np.random.default_rng(count)
    places = np.stack(np.unravel_index(generator.permutation(101**axes)[:count], (101,) * axes), 1) / 100
    return places, np.exp(np.sin(4 * places).sum(1, keepdims=True)) * [1.0, 3.0]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("axes", [1, 2])
def test_it_is_the_interpolation_of_scipy(kind, axes):
    (places, values), (requested, _) = scattered(60, axes), scattered(90, axes)
    there, back = TRANSFORMS[kind.scale]
    oracle = RBFInterpolator(places, there(values), kernel=kind.kernel, degree=2)
    np.testing.assert_allclose(interpolate(kind, places, values, requested), back(oracle(requested)), rtol=1e-5)


@pytest.mark.parametrize(
    ("places", "kernel", "degree"),
    [
        (np.array([[0.3, 0.4]]), "linear", 0),
        (GENERATOR.random((9, 2)), "linear", 0),
        (np.array([(i, j / 7) for i in (0, 1) for j in range(8)]), "cubic", 1),
    ],
    ids=["one place", "few", "two rows"],
)
@pytest.mark.filterwarnings("ignore:`degree` should not be below")
def test_too_few_places_for_a_quadratic_take_less(places, kernel, degree):
    values, requested = 1 + places.sum(1, keepdims=True) ** 2, GENERATOR.random((20, 2))
    oracle = RBFInterpolator(places, values, kernel=kernel, degree=degree)
    np.testing.assert_allclose(
        interpolate(Kind("quintic", "loss"), places, values, requested), oracle(requested), rtol=1e-8
    )


def test_places_on_a_circle_leave_the_quadratic_undetermined_but_do_no_harm():
    angles = np.linspace(0, 6, 40)
    places = np.stack([np.cos(angles), np.sin(angles)], 1)
    values = 2 + places[:, :1]
    found = interpolate(Kind("cubic", "loss"), places, values, places)
    np.testing.assert_allclose(found, values, rtol=1e-3)


@pytest.mark.parametrize("kernel", ["cubic", "quintic"])
def test_errors_of_left_out_values_are_those_of_fits_without_them(kernel):
    places, values = scattered(40)
    missed, power = RadialBasis(kernel, places).left_out(values)
    for index in range(len(places)):
        others = np.delete(np.arange(len(places)), index)
        without = RBFInterpolator(places[others], values[others], kernel=kernel, degree=2)
        np.testing.assert_allclose(missed[index], (values[index] - without(places[[index]]))[0], rtol=1e-5)
        there = RadialBasis(kernel, places[others]).weights(places[[index]])[1]
        np.testing.assert_allclose(power[index], there[0], rtol=1e-5)


@pytest.mark.parametrize(("kernel", "sign"), [("cubic", 1), ("quintic", -1)])
def test_the_power_function_bounds_the_error_of_a_function_of_its_space(kernel, sign):
    # f = a sum of phi(x - y_j) whose weights no quadratic sees; |f|^2 = w^T Phi w in the semi-norm that s minimises.
    exponent = {"cubic": 3, "quintic": 5}[kernel]
    centres = GENERATOR.random((12, 2))
    x, y = centres.T
    monomials = np.stack([np.ones(12), x, y, x * x, x * y, y * y])
    weights = np.linalg.svd(monomials)[2][-1]

    def distances(a, b):
        return np.linalg.norm(a[:, None] - b[None], axis=2) ** exponent

    norm = np.sqrt(sign * weights @ distances(centres, centres) @ weights)
    places, requested = GENERATOR.random((25, 2)), GENERATOR.random((300, 2))
    basis = RadialBasis(kernel, places)
    share, power = basis.weights(requested)
    errors = np.abs(share @ distances(places, centres) @ weights - distances(requested, centres) @ weights)
    assert (errors <= power * norm * (1 + 1e-6)).all() and (errors / (power * norm)).max() > 0.05
    np.testing.assert_allclose(basis.weights(places)[1], 0, atol=1e-3 * power.max())


def test_units_of_the_power_function_do_not_depend_on_the_part_of_the_square():
    places, _ = scattered(30)
    requested = GENERATOR.random((5, 2))
    small, large = (RadialBasis("cubic", size * places).weights(size * requested)[1] for size in (0.1, 1.0))
    np.testing.assert_allclose(small, 0.1**1.5 * large, rtol=1e-6)


def test_a_crowd_is_cut_into_patches_that_agree_with_the_whole(monkeypatch):
    (places, values), (requested, _) = scattered(900), scattered(1000)
    monkeypatch.setattr(radial_basis, "PATCH_PLACES", 10_000)
    whole = interpolate(KINDS[0], places, values, requested)
    monkeypatch.undo()
    parts = patches(places, requested)
    assert 3 <= len(parts) <= 8
    for owner, count in (("own", 900), ("requested", 1000)):
        np.testing.assert_array_equal(
            np.sort(np.concatenate([getattr(part, owner) for part in parts])), np.arange(count)
        )
    assert all(np.isin(part.own, part.support).all() and len(part.support) < 800 for part in parts)
    monkeypatch.setattr(radial_basis, "BLOCK_VALUES", 5000)  # in pieces
    found = interpolate(KINDS[0], places, values, requested)
    inner = ((requested > 0.05) & (requested < 0.95)).all(1)
    assert np.abs(found / whole - 1)[inner].max() < 2e-4 and np.abs(found / whole - 1).max() < 5e-3


def test_what_cannot_be_interpolated_is_not_a_number():
    places, values = scattered(20)
    assert np.isnan(interpolate(Kind("cubic", "logarithm of the loss"), places, values - 2, places)).all()
    assert np.isnan(interpolate(Kind("cubic", "loss"), places[:0], values[:0], places)).all()
    assert interpolate(KINDS[0], places, values, places[:0]).shape == (0, 2)
