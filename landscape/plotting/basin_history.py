"""Basins over training: how deep each is on every surface, and where."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from landscape.escaping import math_free
from landscape.plotting.axes import axes_or_new, draw_legend, label_axes
from landscape.plotting.captions import axis_labels, title_of
from landscape.plotting.legends import legend_entries
from landscape.plotting.looks import Look
from landscape.plotting.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION
from landscape.plotting.room import room_of, text_width
from landscape.plotting.sizes import ink, scaled, text_size
from landscape.results import BasinHistory

__all__ = ["HISTORY_VIEWS", "basins_title"]

COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
OTHER = 0.4  # tone of basins beyond these colours, which share one entry of the legend
MOST_TICKS = 12
SIZE = (5.4, 4.0)  # inches


def _draw_persistence(history: BasinHistory, ax: Axes | None, look: Look) -> Axes:
    ax, depth = axes_or_new(ax, SIZE), history.persistence
    finite = np.where(np.isfinite(depth), depth, np.nan)
    at = np.arange(len(depth))
    for basin in range(depth.shape[1]):
        color = _color(basin)
        size: dict[str, Any] = {"markersize": scaled(4), "linewidth": scaled(1.3)}
        ends = np.isfinite(finite[:, basin]).any()
        name, endless_name = (_label(history, basin), "_") if ends else ("_", _label(history, basin))
        ax.plot(at, finite[:, basin], color=color, marker="o", label=name, **size)
        errors = np.nan_to_num(2 * history.errors[:, basin])
        bar: dict[str, Any] = {"elinewidth": scaled(0.8), "capsize": scaled(2)}
        ax.errorbar(at, finite[:, basin], yerr=errors, fmt="none", ecolor=color, label="_", **bar)
        endless = at[np.isinf(depth[:, basin])]
        height = np.full(len(endless), 0.95)
        ax.plot(
            endless, height, "^", color=color, markersize=scaled(6), label=endless_name,
            transform=ax.get_xaxis_transform(),
        )  # fmt: skip
    deepest = np.nanmax(finite + np.nan_to_num(2 * history.errors), initial=0.0)
    ax.set_ylim(0, 1.2 * deepest or 1.0)  # the triangles are above all basins
    ax.margins(x=0.08)
    _name_surfaces(ax, history)
    draw_legend(ax)
    values = f"persistence{chr(10) if room_of(ax).narrow else ' '}(▲: never ends)"
    if not np.isfinite(depth).any():
        ax.set_yticks([])  # of which no mark would have a value
        values = "no basin ends, so that\nnone has a persistence"
    label_axes(ax, basins_title(history), "surface", values, look=look)
    return ax


def _draw_position(history: BasinHistory, ax: Axes | None, look: Look) -> Axes:
    ax, planar = axes_or_new(ax, SIZE), history.betas is not None
    at = np.arange(len(history.gaps))
    for basin in range(history.minima.shape[1]):
        color, minima = _color(basin), history.minima[:, basin]
        x, y = minima.T if planar else (np.where(history.present[:, basin], at, np.nan), minima[:, 0])
        ax.plot(x, y, color=color, marker=".", markersize=scaled(4), label=_label(history, basin))
        last = history.last[basin]
        ax.plot(x[last], y[last], "o", color=color, markersize=scaled(7), markeredgecolor="white", label="_")
    mark = Line2D([], [], color=ink(0.6), marker="o", markersize=scaled(7), linestyle="none", markeredgecolor="white")
    mark.set_label("the last surface that has it")
    draw_legend(ax, [*legend_entries(ax), mark])
    labels = axis_labels(history, lengths=False)
    if planar:
        ax.set_xlim(history.axes[0][0], history.axes[0][-1])
        ax.set_ylim(history.axes[1][0], history.axes[1][-1])
        label_axes(ax, basins_title(history), *labels, look=look)
        return ax
    ax.set_ylim(history.alphas[0], history.alphas[-1])
    _name_surfaces(ax, history)
    label_axes(ax, basins_title(history), "surface", labels[0], look=look)
    return ax


def _name_surfaces(ax: Axes, history: BasinHistory) -> None:
    """Ticks with the names of the surfaces, at most a dozen of them."""
    step = -(-len(history.names) // MOST_TICKS)
    ticks = list(range(0, len(history.names), step))
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    size = text_size(10, "xtick.labelsize")
    crowded = sum(text_width(history.names[tick], size) + scaled(8) for tick in ticks) > 0.85 * room_of(ax).inside[0]
    ax.set_xticks(ticks, [math_free(history.names[tick]) for tick in ticks], rotation=30 if crowded else 0)
    for label in ax.get_xticklabels() if crowded else ():
        label.set_horizontalalignment("right")


def basins_title(history: BasinHistory) -> str:
    """What the basins are of, and whether parts of the surfaces are missing or interpolated."""
    holes, partly = int((history.gaps > 0).sum()), int((history.interpolated > 0).sum())
    notes = [f"{holes} of {len(history.gaps)} surfaces with gaps"] if holes else []
    notes += [f"{partly} of {len(history.gaps)} surfaces interpolated in part"] if partly else []
    data = title_of(history).partition("\n")[0]
    return math_free("\n".join([f"Significant basins{f': {data}' * bool(data)}", *notes]))


def _color(basin: int) -> str:
    return COLORS[basin] if basin < len(COLORS) else ink(OTHER)


def _label(history: BasinHistory, basin: int) -> str:
    """The entry of a basin in the legend; those without a colour of their own share one."""
    if basin > len(COLORS):
        return "_"
    if basin == len(COLORS):
        return f"{history.births.shape[1] - basin} others"
    return f"basin {basin}"


HISTORY_VIEWS: dict[str, Callable[[BasinHistory, Axes | None, Look], Axes]] = {
    "persistence": _draw_persistence,
    "position": _draw_position,
}
