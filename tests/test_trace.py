"""Intervals of the trace hold it as often as they say, although the number of probes depends on the probes."""

from typing import ClassVar

import numpy as np
import pytest
from scipy import stats

import landscape_lib as ll
from landscape.curvature.hutchinson import PILOT


class Matrix(ll.Product):
    """A product with a matrix that is known."""

    description: ClassVar = {}
    numpy_dtype = np.dtype("float64")

    def __init__(self, matrix):
        self.matrix, self.dimension = matrix, len(matrix)

    def matvec(self, vector):
        return self.matrix @ vector


def turned(spectrum, seed=0):
    vectors = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(spectrum), len(spectrum))))[0]
    return vectors @ np.diag(spectrum) @ vectors.T


def estimate(matrix, seed, **options):
    """What `trace` makes of a matrix."""
    return ll.trace(Matrix(matrix), seed=seed, progress=False, **options)


@pytest.mark.parametrize(
    ("method", "spectrum", "relative_error", "runs"),
    [
        ("hutchinson", np.linspace(0.2, 1.0, 40), 0.025, 600),
        ("hutchinson", np.concatenate([[10.0], np.full(50, 0.1)]), 0.2, 300),  # as skewed as can be: chi-squared
        ("hutch++", np.linspace(-0.1, 1.0, 60), 0.01, 100),
    ],
)
def test_intervals_hold_the_trace_as_often_as_they_say(method, spectrum, relative_error, runs):
    matrix = turned(spectrum)
    found = [
        estimate(matrix, seed, method=method, relative_error=relative_error, max_products=400) for seed in range(runs)
    ]
    assert len({len(one.samples) for one in found}) > 5  # the number does depend on the probes
    assert np.mean([one.converged for one in found]) > 0.9
    assert all(one.standard_error <= relative_error * abs(one.value) for one in found if one.converged)
    inside = np.mean([low <= spectrum.sum() <= high for low, high in (one.interval() for one in found)])
    # The share scatters by 0.22 / sqrt(runs); the skewed law keeps 92.5 %, and 84 % where probes stop themselves.
    assert inside >= (0.925 if spectrum[0] == 10 else 0.945) - 3 * 0.22 / runs**0.5


def test_the_interval_is_that_of_student():
    found = estimate(turned(np.linspace(1, 2, 30)), 0)
    assert found.interval(0.9) == pytest.approx(
        stats.t.interval(0.9, len(found.samples) - 1, found.samples.mean(), stats.sem(found.samples))
    )
    with pytest.raises(ll.InputError, match="between 0 and 1, not 95"):
        found.interval(95)


def test_a_matrix_without_spread_takes_the_pilot_and_one_without_trace_all_products():
    exact = estimate(np.diag(np.arange(1.0, 9.0)), 0, method="hutchinson")
    assert exact.value == 36 and exact.standard_error == 0 and exact.converged and exact.products == PILOT
    zero = estimate(np.zeros((30, 30)), 0)
    assert zero.value == 0 and zero.converged
    balanced = turned(np.repeat([1.0, -1.0], 20))
    found = estimate(balanced - np.diag(np.diag(balanced)), 0, method="hutchinson", max_products=50)
    assert found.products == 50 and not found.converged
