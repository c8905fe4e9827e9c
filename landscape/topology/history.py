"""The basins of several surfaces, followed from one to the next."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.checks import check_distinct, check_texts, check_type
from landscape.errors import InputError
from landscape.results import BasinHistory, Surface, Topology
from landscape.topology.merge_tree import Neighbours, topology

__all__ = ["follow_basins"]


def follow_basins(
    surfaces: Sequence[Surface], *, names: Sequence[str] | None = None, neighbours: Neighbours = "corners"
) -> BasinHistory:
    """The significant basins of ``surfaces``, such as those of the checkpoints of a training run, followed over them.

    Basins that are no deeper than the noise (two standard errors, and more where the samples are few) are part of the
    basin into which they merge, see `topology`. Two basins of successive surfaces are the same one if each contains the
    minimum of the other: if steepest descent on either surface leads from the minimum of one to that of the other. This
    rule has no parameter, and it pairs each basin with one other at most. A basin without a partner before it has
    appeared, in the basin that contained the place of its minimum; one without a partner after it has ended, and the
    basin that contains the place of its minimum has taken its place.

    Args:
        surfaces: At least two lines or planes with the same axes, in order.
        names: The names of the surfaces, such as "epoch 3"; default: the epochs of their checkpoints, or numbers.
        neighbours: See `topology`.

    Raises:
        InputError: There are fewer than two surfaces, their axes differ, or the names do not fit them.

    Warns:
        UserWarning: Some of the surfaces are interpolated in part.

    Example:
        >>> from landscape_lib import Surface
        >>> x = np.linspace(-2, 2, 81)
        >>> wells = [x**4 - a * x**2 + 0.1 * x for a in (-1, 1, 2)]  # one well becomes two
        >>> history = follow_basins([Surface(x, None, loss, np.full(81, 0.01), None, None, {}) for loss in wells])
        >>> history.present.sum(1).tolist(), history.events
        ([1, 2, 2], ['basin 1 appears in basin 0 at 1, 0.1824 ± 0.014 deep'])
    """
    check_type(surfaces, Sequence, "follow_basins(surfaces)", "a list of surfaces, in order")
    for surface in surfaces:
        check_type(surface, Surface, "follow_basins(surfaces)", "surfaces, as ll.evaluate returns them")
    if len(surfaces) < 2:
        raise InputError(f"basins are followed over at least 2 surfaces, not {len(surfaces)}; use ll.topology for one")
    _check_axes(surfaces)
    check_texts("names", names)
    names = _default_names(surfaces) if names is None else list(names)
    check_distinct("names", tuple(names))
    if len(names) != len(surfaces):
        raise InputError(f"there are {len(surfaces)} surfaces, but {len(names)} names; give one name for each")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # one warning for all surfaces is enough
        trees = [topology(surface, neighbours=neighbours) for surface in surfaces]
    shares = [_interpolated_share(surface) for surface in surfaces]
    if partly := [name for name, share in zip(names, shares, strict=True) if share]:
        warnings.warn(
            f"PARTS OF {len(partly)} OF {len(surfaces)} SURFACES ARE INTERPOLATED: basins smaller than the spacing of "
            "the evaluated points cannot be found; evaluate without a tolerance to find all basins of the grid",
            stacklevel=2,
        )
    last = surfaces[-1].metadata
    return _history(
        trees,
        gaps=np.array([int(surface.nonfinite.sum()) for surface in surfaces]),
        interpolated=np.array(shares),
        metadata={
            "names": names,
            "topology": {"neighbours": neighbours},
            **{key: last[key] for key in ("slice", "data", "objective", "relative_norms") if key in last},
        },
    )


def _check_axes(surfaces: Sequence[Surface]) -> None:
    first = surfaces[0]
    for number, surface in enumerate(surfaces[1:], 2):
        same = surface.shape == first.shape and len(surface.axes) == len(first.axes)
        spans = [float(np.ptp(axis)) for axis in first.axes]
        if not same or not all(
            np.allclose(a, b, rtol=0, atol=1e-9 * span)
            for a, b, span in zip(first.axes, surface.axes, spans, strict=True)
        ):
            raise InputError(
                f"surface {number} has other axes than the first one, so their basins cannot be compared; evaluate all "
                "with the same ranges and resolution"
            )


def _default_names(surfaces: Sequence[Surface]) -> list[str]:
    epochs = [(surface.metadata.get("checkpoint") or {}).get("epoch") for surface in surfaces]
    if None not in epochs and len(set(map(str, epochs))) == len(epochs):
        return [f"epoch {epoch}" for epoch in epochs]
    return [str(number) for number in range(len(surfaces))]


def _interpolated_share(surface: Surface) -> float:
    if surface.evaluated is not None:
        return float(1 - surface.evaluated.mean())
    return 1.0 if surface.metadata.get("interpolation") else 0.0


def _history(trees: Sequence[Topology], **others: Any) -> BasinHistory:
    """Number the basins of all ``trees``, those that are the same alike, and collect what is known of each."""
    numbers: list[dict[int, int]] = []  # of the basins of each tree
    origins, fates = list[int](), list[int]()
    for before, tree in zip([None, *trees[:-1]], trees, strict=True):
        kept = [int(basin) for basin in np.flatnonzero(tree.significant)]
        same = {} if before is None else _same_basins(before, tree)
        own: dict[int, int] = {}
        for basin in kept:
            if basin in same:
                own[basin] = numbers[-1][same[basin]]
                continue
            own[basin] = len(origins)
            place = -1 if before is None else int(before.significant_labels[tuple(tree.minima[basin])])
            origins.append(numbers[-1][place] if place >= 0 else -1)
            fates.append(-1)
        if before is not None:
            for basin in numbers[-1].keys() - set(same.values()):
                place = int(tree.significant_labels[tuple(before.minima[basin])])
                fates[numbers[-1][basin]] = own[place] if place >= 0 else -1
        numbers.append(own)
    return _collected(trees, numbers, np.array(origins), np.array(fates), **others)


def _same_basins(before: Topology, after: Topology) -> dict[int, int]:
    """basin of ``after`` -> the same basin of ``before``: each contains the minimum of the other."""
    same = {}
    for basin in map(int, np.flatnonzero(after.significant)):
        earlier = int(before.significant_labels[tuple(after.minima[basin])])
        if earlier >= 0 and after.significant_labels[tuple(before.minima[earlier])] == basin:
            same[basin] = earlier
    return same


def _collected(
    trees: Sequence[Topology], numbers: Sequence[dict[int, int]], origins: np.ndarray, fates: np.ndarray, **others: Any
) -> BasinHistory:
    first, shape = trees[0], (len(trees), len(origins))
    axes = (first.alphas,) if first.betas is None else (first.alphas, first.betas)
    minima = np.full((*shape, len(axes)), np.nan)
    births, deaths, errors = np.full((3, *shape), np.nan)
    for row, (tree, own) in enumerate(zip(trees, numbers, strict=True)):
        for basin, column in own.items():
            minima[row, column] = [axis[i] for axis, i in zip(axes, tree.minima[basin], strict=True)]
            births[row, column], deaths[row, column] = tree.births[basin], tree.deaths[basin]
            errors[row, column] = tree.errors[basin]
    return BasinHistory(first.alphas, first.betas, minima, births, deaths, errors, origins, fates, **others)
