"""Chebyshev nodes over a grid, from which analytic functions are interpolated up to rounding.

If the logits are affine in the coordinates, the mean loss is analytic. The error of its interpolation through Chebyshev
nodes then falls geometrically with their number, like its Chebyshev coefficients, from which the necessary number
follows (Trefethen 2013, "Approximation Theory and Approximation Practice", chapters 3 to 8).
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.fft import dct

__all__ = ["ChebyshevNodes"]

MOST_NODES = 33  # nodes along an axis, at most; functions that need more are evaluated at all points of the grid
LARGEST_SHARE = 0.5  # ratio of nodes to grid points, above which all grid points are evaluated
TRAILING = 2  # last coefficients along an axis, from which the size of the missing ones is estimated

Axes = tuple[np.ndarray, ...]


class ChebyshevNodes:
    """Chebyshev nodes, ``counts`` along each axis of a grid, and the interpolation from them to the grid points."""

    def __init__(self, grid: Axes, counts: tuple[int, ...]):
        self.grid, self.counts = grid, counts
        self.axes = tuple(_chebyshev(axis, count) for axis, count in zip(grid, counts, strict=True))
        self.size = math.prod(counts)
        self.worthwhile = self.size <= LARGEST_SHARE * math.prod(len(axis) for axis in grid)

    @classmethod
    def smallest(
        cls, grid: Axes, sample: Callable[["ChebyshevNodes"], np.ndarray], accuracy: float
    ) -> "ChebyshevNodes | None":
        """The smallest set of nodes whose missing coefficients are below ``accuracy``; None if it is too large.

        ``sample`` returns M functions [M, points] at the nodes, computed from some of the data; `resolves` must check
        afterwards whether the nodes suffice for all data.
        """
        finest = cls(grid, tuple(min(MOST_NODES, len(axis)) for axis in grid))
        values = sample(finest)
        if not finest.resolves(values, accuracy):
            return None
        counts = (TRAILING + int((spectrum > accuracy).sum()) for spectrum in finest._spectra(values))
        nodes = cls(grid, tuple(map(min, counts, finest.counts)))
        return nodes if nodes.worthwhile else None

    def finer(self) -> "ChebyshevNodes":
        """1.5 times as many nodes along every axis."""
        return ChebyshevNodes(self.grid, tuple(count + count // 2 for count in self.counts))  # one remains one

    def resolves(self, values: np.ndarray, accuracy: float) -> bool:
        """Whether the last coefficients of the functions ``values`` [M, points] are below ``accuracy``."""
        return all(spectrum[-TRAILING:][0] <= accuracy for spectrum in self._spectra(values) if len(spectrum) > 1)

    def interpolate(self, values: np.ndarray) -> np.ndarray:
        """Values [K] at the grid points, in C order, interpolated from those at the nodes."""
        rows, columns = (_barycentric(axis, places) for axis, places in zip(self.grid, self.axes, strict=True))
        interpolated: np.ndarray = rows @ values.reshape(self.counts) @ columns.T
        return interpolated.ravel()

    def _spectra(self, values: np.ndarray) -> list[np.ndarray]:
        """For each axis and degree the norm of the coefficients of this and higher degrees, relative to the minimum.

        It is the largest over the functions ``values`` [M, points]; infinite unless all are finite and positive.
        """
        if not (np.isfinite(values).all() and (values > 0).all()):
            return [np.full(count, np.inf) for count in self.counts]
        coefficients = values.reshape(-1, *self.counts)
        for axis, count in enumerate(self.counts, 1):
            if count > 1:
                coefficients = dct(coefficients, type=1, axis=axis) / (count - 1)
        energy = (coefficients / values.min(1)[:, None, None]) ** 2
        return [np.sqrt(energy.sum(other)[:, ::-1].cumsum(1)[:, ::-1].max(0)) for other in (2, 1)]


def _chebyshev(axis: np.ndarray, count: int) -> np.ndarray:
    """``count`` Chebyshev nodes of the second kind from the first to the last value of ``axis``; for one its middle."""
    middle, half = (axis[0] + axis[-1]) / 2, (axis[-1] - axis[0]) / 2
    return middle - half * np.cos(np.pi * np.arange(count) / max(1, count - 1)) if count > 1 else np.array([middle])


def _barycentric(requested: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The matrix [Q, n] of the interpolation at ``requested`` (Berrut and Trefethen 2004, section 5)."""
    weights = (-1.0) ** np.arange(len(places))
    weights[[0, -1]] /= 2
    distance = requested[:, None] - places
    with np.errstate(divide="ignore", invalid="ignore"):
        matrix = weights / distance
        matrix /= matrix.sum(1, keepdims=True)
    exact: np.ndarray = np.where((distance == 0).any(1, keepdims=True), distance == 0, matrix)
    return exact
