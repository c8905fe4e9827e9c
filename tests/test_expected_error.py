"""Expected errors against the errors that there are."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from landscape.evaluation.refinement.expected_error import NOT_FINITE, expect, shares
from landscape.evaluation.refinement.radial_basis import Kind, interpolate

AXIS = np.linspace(0, 1, 41)
GRID = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), -1).reshape(-1, 2)
X, Y = 2 * GRID.T - 1


def expected(truth, spacing=5, tolerance=0.01):
    """What a lattice lets expect of ``truth`` [P, M] elsewhere, and the errors there, in units of the tolerance."""
    rows, columns = np.divmod(np.arange(len(GRID)), len(AXIS))
    known = (rows % spacing == 0) & (columns % spacing == 0)
    there = truth[~known]
    found = expect(
        GRID[known], truth[known], GRID[~known], tolerance * truth[known], lambda values, _: tolerance * np.abs(values)
    )
    errors = (np.abs(found.values - there) / (tolerance * there)).max(1)
    return found, errors, ~known


def test_errors_are_expected_where_they_are():
    kink = (1 + np.abs(X - 0.3 * Y - 0.11) + X**2)[:, None]
    found, errors, _ = expected(kink)
    assert spearmanr(found.errors, errors).statistic > 0.6
    most = found.errors >= np.percentile(found.errors, 90)
    assert errors[most].mean() > 3 * errors.mean()


def test_the_values_are_those_of_the_kind():
    truth = np.exp(3 * X - Y**2)[:, None]
    found, _, fresh = expected(truth)
    known = ~fresh
    np.testing.assert_array_equal(found.values, interpolate(found.kind, GRID[known], truth[known], GRID[fresh]))


@pytest.mark.parametrize(
    ("truth", "scale"),
    [
        (2 + X**2 + Y**2 - X * Y, "loss"),
        ((2 + X**2 + Y**2 - X * Y) ** 2, "square root of the loss"),
        (np.exp(2 + 2 * X**2 + Y**2 - X * Y), "logarithm of the loss"),
    ],
    ids=["quadratic", "square of one", "exponential of one"],
)
def test_the_kind_that_fits_is_chosen(truth, scale):
    found, errors, _ = expected(truth[:, None])
    assert found.kind.scale == scale and errors.max() < 1e-6


def test_the_worst_column_counts():
    smooth, kink = 1 + X**2, 1 + np.abs(X + 0.13)
    both, _, _ = expected(np.stack([smooth, kink], 1))
    alone, _, _ = expected(kink[:, None])
    assert both.kind == alone.kind
    assert (both.errors >= 0.999 * alone.errors).all() and np.median(both.errors / alone.errors) < 1.1


def test_negative_values_have_neither_roots_nor_logarithms():
    found, _, _ = expected((X + 2 * Y)[:, None] + 1e-3)
    assert found.kind.scale == "loss" and np.isfinite(found.errors).all()


def test_no_values_let_expect_nothing():
    nothing = expect(GRID[:0], np.empty((0, 1)), GRID[:7], np.empty((0, 1)), lambda values, _: values)
    assert np.isnan(nothing.values).all() and (nothing.errors == NOT_FINITE).all() and isinstance(nothing.kind, Kind)


def test_shares_of_what_is_allowed():
    errors = np.array([[0.0, 0.0], [1.0, -3.0], [np.nan, 0.0], [np.inf, 1.0], [1.0, 1.0]])
    allowed = np.array([[0.0, 1.0], [2.0, 1.0], [1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    np.testing.assert_array_equal(shares(errors, allowed), [0.0, 3.0, NOT_FINITE, NOT_FINITE, NOT_FINITE])
