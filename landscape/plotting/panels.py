"""Figures of several panels: axes, labels, titles, colour bars and a common head."""

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

from landscape.checks import check_type
from landscape.errors import InputError
from landscape.escaping import math_free, printable
from landscape.plotting.axes import dress_bar, legend_entries, new_figure
from landscape.plotting.captions import axis_labels, common_labels, common_title
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
LINE = 0.34  # inches of a line of the title of a figure, and of the line beside it in the legend


def check_counts(
    function: str, surfaces: Sequence[Surface] | Sequence[Trajectory], least: int = 1, **lists: Sequence[Any] | None
) -> None:
    """Raise InputError if there are fewer than ``least`` surfaces, or a list has another length than they."""
    check_type(surfaces, Sequence, function, "a sequence of several results, such as [first, second]")
    if len(surfaces) < least:
        raise InputError(f"{function} got {len(surfaces) or 'no'} surface{'s' * (len(surfaces) != 1)}, needs {least}")
    for name, items in lists.items():
        if items is not None and len(items) != len(surfaces):
            raise InputError(f"{function} got {len(surfaces)} surfaces but {len(items)} {name}")


def check_same_grid(surfaces: Sequence[Surface]) -> None:
    """Raise InputError unless all surfaces have the same grid, up to rounding, and the same units."""
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
    """A figure with square axes for every surface; if all share one grid, only the outer axes have tick labels.

    ``size`` is the size of a panel and ``margin`` the space around all panels, in inches, below a title of one line.
    """
    rows, more_lines = math.ceil(len(surfaces) / columns), common_title(surfaces).count("\n")
    # The head (title, note, legend) needs 4 inches even above a single panel.
    height = size[1] * rows + margin[1] + LINE * more_lines
    figure = new_figure((max(4, size[0] * columns + margin[0]), height))
    shared = all(_same_grid(surfaces[0], surface) for surface in surfaces)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared).ravel().tolist()
    for ax in grid[len(surfaces) :]:
        ax.remove()
    axes = grid[: len(surfaces)]
    for k, ax in enumerate(axes):
        ax.set_box_aspect(1)
        ax.tick_params(labelsize=tick_size)
        # The last row may be shorter than the others, so that the lowest panel of a column stands in the row before.
        ax.tick_params(labelbottom=not shared or k + columns >= len(axes))
    return figure, axes


def label_panels(figure: Figure, axes: list[Axes], surfaces: Sequence[Surface], size: float = 9) -> None:
    """Draw one label for all x axes and one for all y axes, or one at every axis if the units differ."""
    if labels := common_labels(surfaces):
        figure.supxlabel(math_free(labels[0]), fontsize=size)
        figure.supylabel(math_free(labels[1]), fontsize=size)
        return
    for ax, surface in zip(axes, surfaces, strict=True):
        x_label, y_label = axis_labels(surface, lengths=False)
        ax.set_xlabel(math_free(x_label), fontsize=size - 1)
        ax.set_ylabel(math_free(y_label), fontsize=size - 1)


def draw_title(ax: Axes, title: str, notes: str) -> None:
    """Draw ``title`` above small ``notes``; both may have several lines."""
    ax.annotate(
        notes, (0.5, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", ha="center", va="bottom",
        fontsize=NOTE_SIZE, color="0.25",
    )  # fmt: skip
    pad = 8 + 1.25 * NOTE_SIZE * len(notes.splitlines())
    ax.set_title(title, fontsize=TITLE_SIZE, pad=pad, parse_math=False)


def draw_shared_bar(
    figure: Figure, axes: list[Axes], planes: list[np.ndarray], scale: Scale, label: str, size: float = 8
) -> None:
    """Draw one colour bar for all ``axes``; arrows at its ends show that values exceed the limits."""
    extend = scale.extension(np.concatenate([values.ravel() for values in planes]))
    mappable = ScalarMappable(scale.norm, scale.colormap)
    grid = axes[0].get_gridspec()
    if grid is not None and grid.nrows == 1:
        bar = figure.colorbar(mappable, cax=_beside(axes[-1]), extend=extend)
    else:
        bar = figure.colorbar(mappable, ax=axes, extend=extend, aspect=30, pad=0.01)
    dress_bar(bar, scale, label, size=size)


def draw_bar_beside(filled: ContourSet | QuadMesh, scale: Scale, label: str, ticks: int = 7, size: float = 8) -> None:
    """Draw the colour bar of one plane at the right of its axes."""
    drawn: Any = filled  # its figure and axes, which the type allows to be None, exist once it is drawn
    dress_bar(drawn.figure.colorbar(drawn, cax=_beside(drawn.axes)), scale, label, ticks, size)


def draw_head(figure: Figure, axes: list[Axes], title: str, note: str | None) -> None:
    """Draw the title of the figure, and below it the note and the legend."""
    figure.suptitle(math_free(title), fontsize=10)
    handles = {str(handle.get_label()).split(" (")[0]: handle for ax in axes for handle in legend_entries(ax)}
    if not handles and not note:
        return
    # The layout engine puts title and legend at the same position; blank lines in the legend, as high as those of
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
    """``text`` cut after blanks; words that do not fit are also cut after punctuation and, at last, anywhere."""
    pieces: list[str] = []
    for piece in re.split(f"(?<={breaks[0]})", text):
        pieces += [piece] if fits(piece) or not breaks[1:] else _pieces(piece, fits, breaks[1:])
    return pieces


def _beside(ax: Axes) -> Axes:
    """Axes for a colour bar at the right of ``ax``, as high as the panel; layout engines do not move them."""
    return ax.inset_axes((1.03, 0, 0.06, 1))


def _same_grid(first: Surface, second: Surface) -> bool:
    return first.shape == second.shape and all(
        np.allclose(a, b, rtol=0, atol=1e-9 * np.ptp(a)) for a, b in zip(first.axes, second.axes, strict=True)
    )


def _grid_text(surface: Surface) -> str:
    return " x ".join(f"{len(axis)} points from {axis[0]:g} to {axis[-1]:g}" for axis in surface.axes)
