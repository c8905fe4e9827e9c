"""Panels in rows: their axes, labels, titles, colour bars and common head."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from landscape.errors import InputError
from landscape.escaping import math_free, printable
from landscape.plotting.axes import dress_bar, legend_entries, new_figure
from landscape.plotting.captions import axis_labels, common_labels
from landscape.plotting.scales import Scale
from landscape.results import Surface, Trajectory

__all__ = [
    "NOTE_SIZE",
    "TITLE_SIZE",
    "check_counts",
    "check_same_grid",
    "draw_bar_beside",
    "draw_head",
    "draw_shared_bar",
    "draw_title",
    "label_panels",
    "panel_axes",
    "wrapped",
]

TITLE_SIZE, NOTE_SIZE = 9, 7  # points


def check_counts(
    function: str, surfaces: Sequence[Surface] | Sequence[Trajectory], least: int = 1, **lists: Sequence[Any] | None
) -> None:
    """Refuse too few surfaces, and lists that are not as long as they are."""
    if len(surfaces) < least:
        raise InputError(f"{function} got {len(surfaces) or 'no'} surface{'s' * (len(surfaces) != 1)}, needs {least}")
    for name, items in lists.items():
        if items is not None and len(items) != len(surfaces):
            raise InputError(f"{function} got {len(surfaces)} surfaces but {len(items)} {name}")


def check_same_grid(surfaces: Sequence[Surface]) -> None:
    """Refuse surfaces that are not on one grid, up to the rounding of its coordinates, in one unit."""
    if common_labels(surfaces) is None:
        units = dict.fromkeys(axis_labels(surface, lengths=False)[0] for surface in surfaces)
        raise InputError(f"the axes of the surfaces differ: {'; '.join(units)}; evaluate them on slices of one kind")
    for surface in surfaces[1:]:
        if not _same_grid(surfaces[0], surface):
            raise InputError(
                f"the surfaces are on different grids, {_grid_text(surfaces[0])} and {_grid_text(surface)}; "
                "evaluate them with the same ranges and resolution"
            )


def panel_axes(
    surfaces: Sequence[Surface], columns: int, size: tuple[float, float], margin: tuple[float, float], tick_size: float
) -> tuple[Figure, list[Axes]]:
    """A figure with one square axes per surface; tick labels only at the edge where all share one grid.

    ``size`` is that of a panel and ``margin`` what the figure adds to all of them, in inches.
    """
    rows = math.ceil(len(surfaces) / columns)
    # The head (title, note, legend) needs 4 inches even above a single panel.
    figure = new_figure((max(4, size[0] * columns + margin[0]), size[1] * rows + margin[1]))
    shared = all(_same_grid(surfaces[0], surface) for surface in surfaces)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared).ravel().tolist()
    for ax in grid[len(surfaces) :]:
        ax.remove()
    axes = grid[: len(surfaces)]
    for k, ax in enumerate(axes):
        ax.set_box_aspect(1)
        ax.tick_params(labelsize=tick_size)
        # The lowest panel of a column may stand above a place that the last row leaves empty.
        ax.tick_params(labelbottom=not shared or k + columns >= len(axes))
    return figure, axes


def label_panels(figure: Figure, axes: list[Axes], surfaces: Sequence[Surface], size: float = 9) -> None:
    """One label for all x axes and one for all y axes, or one on every axis where their units differ."""
    if labels := common_labels(surfaces):
        figure.supxlabel(math_free(labels[0]), fontsize=size)
        figure.supylabel(math_free(labels[1]), fontsize=size)
        return
    for ax, surface in zip(axes, surfaces, strict=True):
        x_label, y_label = axis_labels(surface, lengths=False)
        ax.set_xlabel(math_free(x_label), fontsize=size - 1)
        ax.set_ylabel(math_free(y_label), fontsize=size - 1)


def draw_title(ax: Axes, title: str, notes: str) -> None:
    """``title`` above small ``notes``; both may have several lines."""
    ax.annotate(
        notes, (0.5, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", ha="center", va="bottom",
        fontsize=NOTE_SIZE, color="0.25",
    )  # fmt: skip
    pad = 8 + 1.25 * NOTE_SIZE * len(notes.splitlines())
    ax.set_title(title, fontsize=TITLE_SIZE, pad=pad, parse_math=False)


def draw_shared_bar(
    figure: Figure, axes: list[Axes], planes: list[np.ndarray], scale: Scale, label: str, size: float = 8
) -> None:
    """One colour bar for all ``axes``, with arrows where a value goes beyond it."""
    extend = scale.extension(np.concatenate([values.ravel() for values in planes]))
    mappable = ScalarMappable(scale.norm, scale.colormap)
    grid = axes[0].get_gridspec()
    if grid is not None and grid.nrows == 1:
        bar = figure.colorbar(mappable, cax=_beside(axes[-1]), extend=extend)
    else:
        bar = figure.colorbar(mappable, ax=axes, extend=extend, aspect=30, pad=0.01)
    dress_bar(bar, scale, label, size=size)


def draw_bar_beside(filled: ContourSet | QuadMesh, scale: Scale, label: str, ticks: int = 7, size: float = 8) -> None:
    """The colour bar of one drawn plane."""
    drawn: Any = filled  # its figure and axes are there, as it is drawn
    dress_bar(drawn.figure.colorbar(drawn, cax=_beside(drawn.axes)), scale, label, ticks, size)


def draw_head(figure: Figure, axes: list[Axes], title: str, note: str | None) -> None:
    """The title, and below it the legend under its note."""
    figure.suptitle(math_free(title), fontsize=10)
    handles = {str(handle.get_label()).split(" (")[0]: handle for ax in axes for handle in legend_entries(ax)}
    if not handles and not note:
        return
    # Layouts put title and legend into the same place at the top; blank lines in the legend, as high as those of
    # the title (8 x 1.5 = 10 x 1.2 points), keep them apart.
    lines = [" "] * len(title.splitlines()) + ([math_free(note)] if note else [])
    legend = figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=2, title="\n".join(lines),
        fontsize=8, title_fontsize=8, frameon=False, handlelength=1.4,
    )  # fmt: skip
    legend.get_title().set_linespacing(1.5)


def wrapped(text: str, width: float, size: float, most: int = 3) -> str:
    """``text`` in at most ``most`` lines of ``width`` points, in the default font of ``size`` points."""

    def fits(line: str) -> bool:
        font = FontProperties(size=size)
        return text_to_path.get_text_width_height_descent(line.rstrip(), font, ismath=False)[0] <= width

    lines = [""]
    for piece in _pieces(printable(text), fits):
        if not fits(lines[-1] + piece):
            lines.append("")
        lines[-1] += piece
    if len(lines) > most:
        last = lines[most - 1].rstrip()
        while not fits(last + "…"):
            last = last[:-1]
        lines[most - 1 :] = [last + "…"]
    return "\n".join(line.rstrip() for line in lines)


def _pieces(text: str, fits: Callable[[str], bool], breaks: tuple[str, ...] = (" ", "[,/_-]", ".")) -> list[str]:
    """``text`` cut behind blanks; words that do not fit also behind punctuation, and where need be anywhere."""
    pieces: list[str] = []
    for piece in re.split(f"(?<={breaks[0]})", text):
        pieces += [piece] if fits(piece) or not breaks[1:] else _pieces(piece, fits, breaks[1:])
    return pieces


def _beside(ax: Axes) -> Axes:
    """A place for a colour bar at the right of ``ax``, as high as the panel, which no layout reaches."""
    return ax.inset_axes((1.03, 0, 0.06, 1))


def _same_grid(first: Surface, second: Surface) -> bool:
    return first.shape == second.shape and all(
        np.allclose(a, b, rtol=0, atol=1e-9 * np.ptp(a)) for a, b in zip(first.axes, second.axes, strict=True)
    )


def _grid_text(surface: Surface) -> str:
    return " x ".join(f"{len(axis)} points from {axis[0]:g} to {axis[-1]:g}" for axis in surface.axes)
