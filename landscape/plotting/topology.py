"""The basins of a surface: on its contours, as a persistence diagram, and as a tree."""

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from typing_extensions import Unpack

from landscape.checks import check_choice, check_type
from landscape.errors import InputError
from landscape.plotting.axes import axes_or_new, draw_legend, dress_bar, label_axes, label_slice
from landscape.plotting.basin_history import HISTORY_VIEWS
from landscape.plotting.captions import quantity_label, title_of
from landscape.plotting.looks import BasinsLook, Look, TitleLook, look_of
from landscape.plotting.palette import BLUE, VERMILLION
from landscape.plotting.planes import draw_plane
from landscape.plotting.scales import color_scale
from landscape.plotting.sizes import ink, scaled, setting
from landscape.plotting.values import finite_or_nan
from landscape.results import BasinHistory, Surface, Topology

__all__ = ["View", "plot_topology"]

View = Literal["persistence", "basins", "tree", "position"]
WELL, SADDLE = BLUE, VERMILLION
MOST = 40  # branches that a tree can show


def plot_topology(
    topology: Topology | BasinHistory,
    ax: Axes | None = None,
    *,
    view: View = "persistence",
    **look: Unpack[BasinsLook],
) -> Axes:
    """Draw the basins of a line or plane, or those of several.

    Args:
        topology: The basins, from `landscape.topology.topology` or `follow_basins`.
        ax: Axes to draw into; None makes a new figure of pyplot.
        view: "persistence" draws the loss at the saddle over the loss at the minimum, one mark with its noise (two
            standard errors, and more where the samples are few) for every basin that ends: its height above the
            diagonal is the persistence, and basins within the noise are hollow. "basins" draws the contours of a plane
            with the minimum and the saddle of every significant basin and the ridges, at which steepest descent begins
            to lead into another one. "tree" draws every significant basin as a vertical line from its minimum to its
            saddle, where it joins its parent.
            Of several surfaces, "persistence" draws that of every basin, with two standard errors, over the surfaces; a
            triangle at the upper edge stands for a basin that never ends. "position" draws the places of the minima,
            with a large dot on the last surface that has the basin.
        look: ``title``, and of "basins" also ``cmap``, ``levels``, ``vmin`` and ``vmax``, see `BasinsLook`.

    Raises:
        InputError: "basins" of a line, or more basins than a "tree" can show.
    """
    results = "the result of ll.topology(surface) or of ll.follow_basins(surfaces)"
    check_type(topology, Topology | BasinHistory, "plot_topology(topology)", results)
    shown = look_of("plot_topology", BasinsLook if view == "basins" else TitleLook, look)
    if isinstance(topology, BasinHistory):
        check_choice("view", view, HISTORY_VIEWS)
        return HISTORY_VIEWS[view](topology, ax, shown)
    views = {"persistence": _draw_persistence, "basins": _draw_basins, "tree": _draw_tree}
    check_choice("view", view, views)
    return views[view](topology, ax, shown)


def _draw_basins(topology: Topology, ax: Axes | None, look: Look) -> Axes:
    if topology.betas is None:
        raise InputError(
            'this is the topology of a line, which has no contours; draw view="persistence" or view="tree"'
        )
    values = finite_or_nan(topology.loss)
    surface = Surface(
        topology.alphas, topology.betas, topology.loss, np.full(values.shape, np.nan), None, None, topology.metadata
    )
    scale = color_scale([values], False, look)
    ax = axes_or_new(ax, (5.4, 4.4))
    filled = draw_plane(ax, surface, values, scale, levels=look.levels, star=0)
    if filled is not None and scale is not None:
        dress_bar(ax.figure.colorbar(filled, ax=ax), scale, quantity_label(surface, "loss", False))
    significant = np.flatnonzero(topology.significant)
    _draw_ridges(ax, topology, (topology.alphas, topology.betas))
    for points, marker, color, label in (
        (topology.minima[significant], "o", WELL, "minimum"),
        (topology.saddles[significant][np.isfinite(topology.deaths[significant])], "X", SADDLE, "saddle"),
    ):
        if len(points):
            i, j = points.T
            ax.plot(
                topology.alphas[i], topology.betas[j], marker, color=color, markeredgecolor="white",
                markersize=scaled(7), label=f"{label} ({len(points)})", scalex=False, scaley=False, zorder=4,
            )  # fmt: skip
    draw_legend(ax, loc="upper right", handlelength=1.4)
    label_slice(ax, surface, look=look)
    return ax


def _draw_persistence(topology: Topology, ax: Axes | None, look: Look) -> Axes:
    ax = axes_or_new(ax, (4.6, 4.2))
    ending = np.isfinite(topology.deaths)
    ends = np.concatenate([topology.births, topology.deaths[ending]])
    low, high = float(ends.min()), float(ends.max())
    margin = 0.06 * ((high - low) or abs(high) or 1.0)
    limits = (low - margin, high + 3 * margin)
    ax.plot(limits, limits, color=ink(0.3), linewidth=scaled(0.8), zorder=0.5)
    for mask, color, label in (
        (ending & topology.significant, WELL, "basin"),
        (ending & ~topology.significant, ink(0.45), "within the noise"),
    ):
        if mask.any():
            errors = np.nan_to_num(topology.critical * topology.errors[mask])
            known = f", ± {topology.critical:.2g} standard errors" if errors.any() else ""
            ax.errorbar(
                topology.births[mask], topology.deaths[mask], yerr=errors, fmt="o", color=color, markersize=scaled(5),
                markerfacecolor=color if label == "basin" else setting("axes.facecolor"), elinewidth=scaled(0.8),
                label=f"{label} ({int(mask.sum())}){known}",
            )  # fmt: skip
    endless = topology.births[~ending]
    ax.plot(
        endless, np.full(len(endless), high + 2 * margin), "^", color=SADDLE, markersize=scaled(7),
        label=f"never ends ({len(endless)})",
    )  # fmt: skip
    ax.set_xlim(limits)
    ax.set_ylim(limits)
    draw_legend(ax, loc="lower right")
    label_axes(ax, title_of(topology), "loss at the minimum", "loss at the saddle", look=look)
    return ax


def _draw_tree(topology: Topology, ax: Axes | None, look: Look) -> Axes:
    kept = np.flatnonzero(topology.significant)
    if len(kept) > MOST:
        raise InputError(f'{len(kept)} basins are too many for a tree (at most {MOST}); draw view="persistence"')
    ax = axes_or_new(ax, (5.4, 4.0))
    parents = _significant_parents(topology)
    places = {basin: place for place, basin in enumerate(_leaf_order(kept, parents, topology.deaths))}
    finite = topology.deaths[np.isfinite(topology.deaths)]
    top = max(float(topology.births.max()), float(finite.max(initial=-np.inf)))
    bottom = float(topology.births.min())
    top += 0.08 * ((top - bottom) or abs(top) or 1.0)
    for basin in map(int, kept):
        x, saddle = places[basin], topology.deaths[basin]
        ax.vlines(x, topology.births[basin], min(saddle, top), color=WELL, linewidth=scaled(1.4))
        ax.plot(x, topology.births[basin], "o", color=WELL, markersize=scaled(5))
        if np.isfinite(saddle):
            ax.hlines(saddle, x, places[parents[basin]], color=SADDLE, linewidth=scaled(1.0))
            if np.isfinite(topology.errors[basin]):
                error = topology.critical * topology.errors[basin]
                ax.errorbar(x, saddle, yerr=error, color=SADDLE, elinewidth=scaled(0.8), capsize=scaled(2))
    ax.set_xticks([])
    ax.margins(x=0.08)
    noise = len(topology.births) - len(kept)
    label_axes(
        ax, title_of(topology), f"basins{f' ({noise} within the noise left out)' if noise else ''}", "loss", look=look
    )
    return ax


def _significant_parents(topology: Topology) -> dict[int, int]:
    """The nearest significant ancestor of every significant basin, -1 for those that never end."""
    parents = {}
    for basin in np.flatnonzero(topology.significant):
        parent = int(topology.parents[basin])
        while parent >= 0 and not topology.significant[parent]:
            parent = int(topology.parents[parent])
        parents[int(basin)] = parent
    return parents


def _leaf_order(kept: np.ndarray, parents: dict[int, int], deaths: np.ndarray) -> list[int]:
    """Basins in an order in which no branch crosses another: each beside the one that it merges into."""
    order = [int(basin) for basin in kept if parents[int(basin)] < 0]
    for basin in sorted((int(b) for b in kept if parents[int(b)] >= 0), key=lambda b: -float(deaths[b])):
        order.insert(order.index(parents[basin]) + 1, basin)
    return order


def _draw_ridges(ax: Axes, topology: Topology, axes: tuple[np.ndarray, np.ndarray]) -> None:
    """The borders between the grid points that drain into different significant basins."""
    basins = topology.significant_labels
    alphas, betas = map(_cell_edges, axes)
    i, j = np.nonzero(basins[1:] != basins[:-1])
    ax.vlines(alphas[i + 1], betas[j], betas[j + 1], color="white", linewidth=scaled(0.9), zorder=3)
    i, j = np.nonzero(basins[:, 1:] != basins[:, :-1])
    ax.hlines(betas[j + 1], alphas[i], alphas[i + 1], color="white", linewidth=scaled(0.9), zorder=3)


def _cell_edges(axis: np.ndarray) -> np.ndarray:
    """Where the cells of grid points meet, which end with the axis [n + 1]."""
    return np.concatenate([axis[:1], (axis[1:] + axis[:-1]) / 2, axis[-1:]])
