"""The merge tree of the sublevel sets of a surface."""

import itertools
import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from landscape.checks import check_choice, check_type
from landscape.errors import InputError
from landscape.results import Surface, Topology
from landscape.results.standard_errors import error_of_mean

__all__ = ["Neighbours", "Pairs", "persistence_pairs", "topology"]

Neighbours = Literal["faces", "corners"]
NONE = -1
SAME = 1e-3  # relative to the mean size of the losses: a larger difference between two means is no rounding


def topology(surface: Surface, *, neighbours: Neighbours = "corners") -> Topology:
    """The basins of ``surface`` and the saddles between them, with the persistence of each and its standard error.

    The sublevel sets {loss <= t} of the grid grow with t. A component is born at a local minimum. When two components
    meet at a saddle, the one with the higher minimum dies (the elder rule); its persistence is the loss at that saddle
    minus the loss at its minimum. Points whose loss is NaN or infinite belong to no sublevel set. Source: Edelsbrunner
    & Harer 2010, "Computational Topology", sections VII.1 (elder rule) and VI.3 (lower stars).

    If the surface holds the losses of single samples (``per_sample=True``), the standard error of a persistence is that
    of the mean over samples of l_n(saddle) - l_n(minimum), weighted as the loss is. Otherwise it is
    sqrt(s_1^2 + s_2^2) for the standard errors s at both points, which is too large if the losses at both points are
    positively correlated, as they usually are. That also holds for files of earlier versions, which lack the weights
    of a weighted loss.

    Args:
        surface: A line or a plane.
        neighbours: The neighbours of a grid point in a plane: "corners" for all 8, or "faces" for the 4 along the axes.
            On a line both are the same.

    Raises:
        InputError: No loss of the surface is finite, or ``neighbours`` is unknown.
        InputTypeError: ``surface`` is not a surface.

    Warns:
        UserWarning: Some points of the surface are interpolated.

    Example:
        >>> from landscape_lib import Surface
        >>> x = np.linspace(-2, 2, 81)
        >>> wells = (x**2 - 1) ** 2 + 0.1 * x
        >>> wells = topology(Surface(x, None, wells, np.full(81, 0.01), None, None, {}))
        >>> len(wells.births), float(wells.persistence[1].round(2))
        (2, 0.9)
    """
    check_type(surface, Surface, "topology(surface)", "a Surface, as ll.evaluate returns it")
    check_choice("neighbours", neighbours, get_args(Neighbours))
    if surface.nonfinite.all():
        raise InputError("no loss of this surface is finite, so it has no basins; evaluate a smaller range")
    if surface.metadata.get("interpolation"):
        warnings.warn(
            "PART OF THIS SURFACE IS INTERPOLATED: basins smaller than the spacing of the evaluated points cannot be "
            "found; evaluate without a tolerance to find all basins of the grid",
            stacklevel=2,
        )
    pairs = persistence_pairs(surface.loss, neighbours)
    minima, saddles, shape = pairs.minima, pairs.saddles, surface.shape
    return Topology(
        alphas=surface.alphas,
        betas=surface.betas,
        loss=surface.loss,
        minima=_indices(minima, shape),
        births=surface.loss.ravel()[minima],
        saddles=_indices(saddles, shape),
        deaths=np.where(saddles == NONE, np.inf, surface.loss.ravel()[saddles]),
        errors=_errors(surface, minima, saddles),
        parents=pairs.parents,
        labels=pairs.labels.reshape(shape),
        metadata={**surface.metadata, "topology": {"neighbours": neighbours}},
    )


@dataclass(frozen=True)
class Pairs:
    """Minima and the saddles at which their basins end, by decreasing persistence; points are flat indices."""

    minima: np.ndarray  # [K] int64
    saddles: np.ndarray  # [K] int64, -1 for a basin that never ends
    parents: np.ndarray  # [K] int64, number of the basin into which each one merges; -1 for one that never ends
    labels: np.ndarray  # [points] int64, number of the basin in which steepest descent ends; -1 if not finite


def persistence_pairs(values: np.ndarray, neighbours: Neighbours) -> Pairs:
    """The minima of ``values`` and the saddles at which their basins end.

    Steepest descent leads from every point to a minimum without leaving a sublevel set. So two basins meet at the
    lowest edge between them, where the height of an edge is that of its higher end. Only these edges go through
    union-find.
    """
    finite = np.isfinite(values).ravel()
    heights = np.where(finite, values.ravel(), np.inf)
    order = np.argsort(heights, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))  # a total order, in which the first of equal values is the lowest
    edges = _edges(values.shape, neighbours)
    edges = edges[finite[edges].all(1)]
    minima, basin = _basins(rank, finite, edges)
    parents, saddles = _merged(rank, order, minima, basin, edges)
    return _sorted(heights, minima, saddles, parents, basin)


def _edges(shape: tuple[int, ...], neighbours: Neighbours) -> np.ndarray:
    """Pairs [E, 2] of flat indices of neighbouring grid points."""
    index = np.arange(np.prod(shape)).reshape(shape)
    steps = [step for step in itertools.product((-1, 0, 1), repeat=len(shape)) if step > (0,) * len(shape)]
    pairs = []
    for step in steps:
        if neighbours == "faces" and np.count_nonzero(step) > 1:
            continue
        first = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, shape, strict=True))
        second = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, shape, strict=True))
        pairs.append(np.stack([index[first].ravel(), index[second].ravel()], 1))
    return np.concatenate(pairs)


def _basins(rank: np.ndarray, finite: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The minima [K], lowest first, and for every point the number [points] of the basin in which descent ends."""
    lowest = rank.copy()  # smallest rank among a point and its neighbours
    for here, there in (edges.T, edges.T[::-1]):
        np.minimum.at(lowest, here, rank[there])
    point = np.empty_like(rank)
    point[rank] = np.arange(len(rank))
    target = point[lowest]
    while not np.array_equal(target, further := target[target]):
        target = further
    minima = np.flatnonzero((target == np.arange(len(rank))) & finite)
    minima = minima[np.argsort(rank[minima])]
    number = np.full(len(rank), NONE)
    number[minima] = np.arange(len(minima))
    return minima, np.where(finite, number[target], NONE)


def _merged(
    rank: np.ndarray, order: np.ndarray, minima: np.ndarray, basin: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The basin [K] into which every basin merges, and the saddle [K] at which it does; -1 if it never does."""
    a, b = np.sort(basin[edges], axis=1).T
    between = a != b
    a, b, height = a[between], b[between], rank[edges[between]].max(1)
    by_height = np.argsort(height, kind="stable")
    parents, saddles = np.full(len(minima), NONE), np.full(len(minima), NONE)
    roots = list(range(len(minima)))

    def root(k: int) -> int:
        while roots[k] != k:
            roots[k] = roots[roots[k]]
            k = roots[k]
        return k

    for k in _first_of_each_pair(a[by_height], b[by_height], len(minima)):
        edge = by_height[k]
        one, other = root(int(a[edge])), root(int(b[edge]))
        if one != other:
            elder, younger = min(one, other), max(one, other)  # lower minima have smaller numbers
            roots[younger], parents[younger], saddles[younger] = elder, elder, order[height[edge]]
    return parents, saddles


def _first_of_each_pair(a: np.ndarray, b: np.ndarray, count: int) -> list[int]:
    """Positions of the first occurrence of every pair (a, b), in order."""
    _, first = np.unique(a * count + b, return_index=True)
    return sorted(first.tolist())


def _sorted(
    heights: np.ndarray, minima: np.ndarray, saddles: np.ndarray, parents: np.ndarray, basin: np.ndarray
) -> Pairs:
    """The pairs by decreasing persistence; basins of persistence zero, on plateaus, are joined to their parents."""
    persistence = np.where(saddles == NONE, np.inf, heights[saddles] - heights[minima])
    into = np.arange(len(minima))
    for k in range(len(minima)):  # parents have smaller numbers, so their entries are final
        if persistence[k] <= 0:
            into[k] = into[parents[k]]
    basins = np.flatnonzero(into == np.arange(len(minima)))
    basins = basins[np.lexsort((basins, -persistence[basins]))]
    number = np.full(len(minima) + 1, NONE)  # the last entry stands for -1
    number[basins] = np.arange(len(basins))
    number[:-1] = number[into]
    return Pairs(minima[basins], saddles[basins], number[parents[basins]], number[basin])


def _indices(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Grid indices [K, D] of flat ``points``; -1 if there is no point."""
    indices = np.stack(np.unravel_index(np.maximum(points, 0), shape), 1)
    return np.where((points == NONE)[:, None], NONE, indices)


def _errors(surface: Surface, minima: np.ndarray, saddles: np.ndarray) -> np.ndarray:
    """Standard errors [K] of the loss at ``saddles`` minus the loss at ``minima``; NaN if there is no saddle."""
    ends = saddles != NONE
    errors = np.full(len(minima), np.nan)
    losses = _losses(surface, minima, saddles[ends])
    if losses is None:
        squares = surface.standard_error.ravel() ** 2
        errors[ends] = np.sqrt(squares[minima[ends]] + squares[saddles[ends]])
        return errors
    weights = surface.sample_weights
    for k in np.flatnonzero(ends):
        difference = losses[saddles[k]].astype(np.float64) - losses[minima[k]]
        if weights is not None:
            difference = weights * np.where(weights > 0, difference, 0.0)  # a sample without weight may have no loss
        errors[k] = error_of_mean(difference, weights)
    return errors


def _losses(surface: Surface, *points: np.ndarray) -> np.ndarray | None:
    """The losses [A B, N] of single samples; None without them, or if the weights with which they count are missing.

    In files of earlier versions, which hold no weights, the plain mean of the losses at ``points`` then differs from
    the loss.
    """
    if surface.per_sample is None:
        return None
    losses = surface.per_sample.reshape(-1, surface.per_sample.shape[-1])
    if surface.sample_weights is None:
        for point in np.concatenate(points):
            values = losses[point].astype(np.float64)
            if not abs(values.mean() - surface.loss.flat[point]) <= SAME * np.abs(values).mean():
                return None
    return losses
