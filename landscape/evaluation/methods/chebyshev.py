"""Chebyshev nodes over a grid: from a few values of an analytic function come all others, to rounding.

Where logits are affine in the coordinates the mean loss is analytic. Interpolated through Chebyshev nodes its error
falls geometrically with their number, as its Chebyshev coefficients do, which tell how many it takes (Trefethen 2013,
"Approximation Theory and Approximation Practice", chapters 3 to 8).
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.fft import dct

__all__ = ["ChebyshevNodes"]

MOST_NODES = 33  # points along an axis that are tried; what takes more is evaluated at all points of the grid
LARGEST_SHARE = 0.5  # of the grid's points, beyond which interpolation is not worth its uncertainty
TRAILING = 2  # coefficients along an axis that show how large the missing ones are

Axes = tuple[np.ndarray, ...]


class ChebyshevNodes:
    """``counts`` Chebyshev nodes along the axes of a grid, and the way back to the points of the grid."""

    def __init__(self, grid: Axes, counts: tuple[int, ...]):
        self.grid, self.counts = grid, counts
        self.axes = tuple(_chebyshev(axis, count) for axis, count in zip(grid, counts, strict=True))
        self.size = math.prod(counts)
        self.worthwhile = self.size <= LARGEST_SHARE * math.prod(len(axis) for axis in grid)

    @classmethod
    def smallest(
        cls, grid: Axes, sample: Callable[["ChebyshevNodes"], np.ndarray], accuracy: float
    ) -> "ChebyshevNodes | None":
        """The fewest nodes whose missing coefficients are below ``accuracy``; None if there are many.

        ``sample`` gives the functions [M, points] at the nodes, here from some of the data: whether they are
        enough for all of the data, `resolves` tells afterwards.
        """
        finest = cls(grid, tuple(min(MOST_NODES, len(axis)) for axis in grid))
        values = sample(finest)
        if not finest.resolves(values, accuracy):
            return None
        counts = (TRAILING + int((spectrum > accuracy).sum()) for spectrum in finest._spectra(values))
        nodes = cls(grid, tuple(map(min, counts, finest.counts)))
        return nodes if nodes.worthwhile else None

    def finer(self) -> "ChebyshevNodes":
        """Half as many nodes again along every axis."""
        return ChebyshevNodes(self.grid, tuple(count + count // 2 for count in self.counts))  # one remains one

    def resolves(self, values: np.ndarray, accuracy: float) -> bool:
        """Whether the last coefficients of the functions ``values`` [M, points] are below ``accuracy``."""
        return all(spectrum[-TRAILING:][0] <= accuracy for spectrum in self._spectra(values) if len(spectrum) > 1)

    def interpolate(self, values: np.ndarray) -> np.ndarray:
        """Values [K] at the points of the grid, in C order, from those at the nodes."""
        rows, columns = (_barycentric(axis, places) for axis, places in zip(self.grid, self.axes, strict=True))
        found: np.ndarray = rows @ values.reshape(self.counts) @ columns.T
        return found.ravel()

    def _spectra(self, values: np.ndarray) -> list[np.ndarray]:
        """Along each axis: the norm of all coefficients from each degree on, relative to the smallest value.

        The largest over the functions ``values`` [M, points]; infinite where one is not finite or not positive.
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
    """Chebyshev nodes of the second kind from the first to the last value of ``axis``; its middle for one."""
    middle, half = (axis[0] + axis[-1]) / 2, (axis[-1] - axis[0]) / 2
    return middle - half * np.cos(np.pi * np.arange(count) / max(1, count - 1)) if count > 1 else np.array([middle])


def _barycentric(requested: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Matrix [Q, n] from values at Chebyshev nodes to those at ``requested`` (Berrut and Trefethen 2004, section 5)."""
    weights = (-1.0) ** np.arange(len(places))
    weights[[0, -1]] /= 2
    distance = requested[:, None] - places
    with np.errstate(divide="ignore", invalid="ignore"):
        matrix = weights / distance
        matrix /= matrix.sum(1, keepdims=True)
    found: np.ndarray = np.where((distance == 0).any(1, keepdims=True), distance == 0, matrix)
    return found
