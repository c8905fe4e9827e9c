"""Figures of several panels: axes, labels, titles, colour bars and a common head."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from landscape.checks import check_type
from landscape.errors import InputError, InputTypeError
from landscape.escaping import math_free
from landscape.plotting.axes import NOTE_LINES, check_figure, dress_bar, figure_or_new
from landscape.plotting.captions import axis_labels, brief, common_labels, common_title
from landscape.plotting.legends import legend_entries
from landscape.plotting.looks import Look
from landscape.plotting.room import NARROW, fits, room_of, text_width, wrapped
from landscape.plotting.scales import Scale
from landscape.plotting.sizes import figure_size, ink, is_set, scaled, text_size
from landscape.results import Surface

__all__ = [
    "NOTE_SIZE",
    "TITLE_SIZE",
    "Frames",
    "check_counts",
    "check_same_grid",
    "draw_bar_beside",
    "draw_head",
    "draw_shared_bar",
    "draw_title",
    "head_of",
    "label_panels",
    "panel_axes",
    "room_for_panels",
]

TITLE_SIZE, NOTE_SIZE = 9, 7  # points
LEAST = 100  # points: width of a panel with the space beside it, at least
NOTE = 0.17  # inches of the line that explains the lengths of directions
BESIDE = 12  # points between neighbouring panels
LINE = 0.34  # inches of a line of the title of a figure, and of the line beside it in the legend


def check_counts(function: str, surfaces: Sequence[Surface], least: int = 1, **lists: Sequence[Any] | None) -> None:
    """Raise InputError if there are fewer than ``least`` surfaces, or a list has another length than they."""
    what = "a sequence of several results, such as [first, second]"
    check_type(surfaces, Sequence, function, what)
    for surface in surfaces:
        check_type(surface, Surface, function, what)
    if len(surfaces) < least:
        raise InputError(f"{function} got {len(surfaces) or 'no'} surface{'s' * (len(surfaces) != 1)}, needs {least}")
    for name, items in lists.items():
        if not hasattr(items, "__len__") and items is not None:
            raise InputTypeError(f"{name} is {items!r}; it must be a list with one entry for each surface")
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


@dataclass(frozen=True)
class Frames:
    """Room for square panels: ``columns`` of them in a row, each ``width`` points wide with the space beside it."""

    columns: int
    width: float

    @property
    def side(self) -> float:
        """About the side of a panel in points: what the space beside it leaves of the width."""
        return max(1.0, self.width - scaled(BESIDE))


def room_for_panels(
    columns: int, width: float, margin: float, figure: Figure | SubFigure | None, least: float = LEAST
) -> Frames:
    """At most ``columns`` panels in a row, as many as the figure has room for.

    Args:
        columns: Panels in a row, if there is room.
        width: Usual width of a panel with the space beside it, in inches at a font size of 10 points.
        margin: Space beside all panels, likewise.
        figure: The figure to draw into; None for a new one, as wide as the panels, or as matplotlib's settings say.
        least: Smallest width of a panel with the space beside it, in points at a font size of 10.
    """
    check_figure(figure)
    if figure is None and not is_set("figure.figsize"):
        return Frames(columns, 72 * scaled(width))
    room = _width(figure) - 72 * scaled(margin)
    columns = max(1, min(columns, int(room / scaled(least))))
    return Frames(columns, max(room / columns, scaled(least) / 2))


def _width(figure: Figure | SubFigure | None) -> float:
    """The width in points of ``figure``, or of a new one in matplotlib's settings."""
    return 72 * (figure_size((0, 0))[0] if figure is None else figure.bbox.width / figure.dpi)


def panel_axes(
    surfaces: Sequence[Surface],
    frames: Frames,
    above: float,
    margin: tuple[float, float],
    tick_size: float,
    figure: Figure | SubFigure | None,
    head: str,
) -> tuple[Figure | SubFigure, list[Axes]]:
    """A figure with square axes for every surface; if all share one grid, only the outer axes have tick labels.

    Args:
        surfaces: The surfaces, one for each axes.
        frames: Their places.
        above: Height of the texts above each of the axes, in points.
        margin: Space beside and below all axes, in inches at a font size of 10 points.
        tick_size: Size of the tick labels, in points at that font size.
        figure: The figure to draw into; None makes a new one of pyplot.
        head: Title of the figure, whose further lines need more space.
    """
    rows, beside, below = math.ceil(len(surfaces) / frames.columns), *(scaled(space) for space in margin)
    side = min(frames.width, scaled(1.2 * LEAST)) if is_set("figure.figsize") else frames.side
    height = (side + above) / 72 * rows + below + scaled(LINE) * head.count("\n") + scaled(NOTE)
    # The head (title, note, legend) needs 4 inches even above a single panel.
    canvas = figure_or_new(figure, (max(scaled(4), frames.width / 72 * frames.columns + beside), height), grow=True)
    shared = all(_same_grid(surfaces[0], surface) for surface in surfaces)
    grid = canvas.subplots(rows, frames.columns, squeeze=False, sharex=shared, sharey=shared).ravel().tolist()
    for ax in grid[len(surfaces) :]:
        ax.remove()
    axes = grid[: len(surfaces)]
    for k, ax in enumerate(axes):
        ax.set_box_aspect(1)
        ax.tick_params(labelsize=text_size(tick_size, "xtick.labelsize"))
        # The last row may be shorter than the others, so that the lowest panel of a column stands in the row before.
        ax.tick_params(labelbottom=not shared or k + frames.columns >= len(axes))
    return canvas, axes


def head_of(surfaces: Sequence[Surface], look: Look, frames: Frames, figure: Figure | SubFigure | None) -> str:
    """The title of a figure of panels, wrapped to its width, and brief if that is small."""
    usual = figure is None and not is_set("figure.figsize")
    width = max(scaled(280), frames.width * frames.columns) if usual else _width(figure) - scaled(12)
    facts = common_title(surfaces)
    if not usual and width < scaled(10 * NARROW):
        facts = brief(facts)
    title = facts if look.title is None else look.title
    return "\n".join(wrapped(line, width, scaled(10), NOTE_LINES) for line in title.split("\n"))


def label_panels(figure: Figure | SubFigure, axes: list[Axes], surfaces: Sequence[Surface], size: float = 9) -> bool:
    """Draw one label for all x axes and one for all y axes, or one at every axis if the units differ.

    Returns:
        Whether the labels tell the lengths of the directions.
    """
    size_of_all, size_of_one = (text_size(points, "axes.labelsize") for points in (size, size - 1))
    if labels := common_labels(surfaces):
        short = axis_labels(surfaces[0], lengths=False)
        room = [72 * side / figure.dpi - scaled(50) for side in (figure.bbox.width, figure.bbox.height)]
        narrow = room[0] < scaled(10 * NARROW - 50) and len(axes) > 1
        if narrow or not all(fits(label, width, size_of_all) for label, width in zip(labels, room, strict=True)):
            labels = short
        x_label, y_label = (math_free(wrapped(*pair, size_of_all)) for pair in zip(labels, room, strict=True))
        figure.supxlabel(x_label, fontsize=size_of_all)
        figure.supylabel(y_label, fontsize=size_of_all)
        return labels != short
    for ax, surface in zip(axes, surfaces, strict=True):
        x_label, y_label = axis_labels(surface, lengths=False)
        ax.set_xlabel(math_free(x_label), fontsize=size_of_one)
        ax.set_ylabel(math_free(y_label), fontsize=size_of_one)
    return False


def draw_title(ax: Axes, title: str, notes: str) -> None:
    """Draw ``title`` above small ``notes``; both may have several lines."""
    ax.annotate(
        notes, (0.5, 1), (0, scaled(3)), xycoords="axes fraction", textcoords="offset points", ha="center",
        va="bottom", fontsize=scaled(NOTE_SIZE), color=ink(0.75),
    )  # fmt: skip
    pad = scaled(8 + 1.25 * NOTE_SIZE * len(notes.splitlines()))
    ax.set_title(title, fontsize=scaled(TITLE_SIZE), pad=pad, parse_math=False)


def draw_shared_bar(
    figure: Figure | SubFigure, axes: list[Axes], planes: list[np.ndarray], scale: Scale, label: str, size: float = 8
) -> None:
    """Draw one colour bar for all ``axes``; arrows at its ends show that values exceed the limits."""
    extend = scale.extension(np.concatenate([values.ravel() for values in planes]))
    mappable = ScalarMappable(scale.norm, scale.colormap)
    grid = axes[0].get_gridspec()
    if grid is not None and grid.nrows == 1:
        bar = figure.colorbar(mappable, cax=_beside(axes[-1]), extend=extend)
        height = room_of(axes[-1]).along
    else:
        bar = figure.colorbar(mappable, ax=axes, extend=extend, aspect=30, pad=0.01)
        height = 0.7 * 72 * figure.bbox.height / figure.dpi
    dress_bar(bar, scale, label, size=size, height=height)


def draw_bar_beside(filled: ContourSet | QuadMesh, scale: Scale, label: str, ticks: int = 7, size: float = 8) -> None:
    """Draw the colour bar of one plane at the right of its axes."""
    drawn: Any = filled  # its figure and axes, which the type allows to be None, exist once it is drawn
    dress_bar(drawn.figure.colorbar(drawn, cax=_beside(drawn.axes)), scale, label, ticks, size)


def draw_head(figure: Figure | SubFigure, axes: list[Axes], head: str, notes: Sequence[str]) -> None:
    """Draw the title of the figure, and below it the notes and the legend."""
    figure.suptitle(math_free(head), fontsize=scaled(10))
    handles = _shared_entries(axes)
    if not handles and not notes:
        return
    width, size = 72 * figure.bbox.width / figure.dpi - scaled(10), scaled(8)
    notes = [line for note in notes for line in wrapped(note, width, size).split("\n")]
    # The layout engine puts title and legend at the same position; blank lines in the legend, as high as those of
    # the title (8 x 1.5 = 10 x 1.2 points), keep them apart.
    lines = [" "] * len(head.splitlines()) + [math_free(note) for note in notes]
    columns = 2 if sum(text_width(name, size) + scaled(40) for name in handles) < width else 1
    legend = figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=columns, title="\n".join(lines),
        fontsize=size, title_fontsize=size, frameon=False, handlelength=1.4,
    )  # fmt: skip
    legend.get_title().set(linespacing=1.5, multialignment="center")


def _shared_entries(axes: list[Axes]) -> dict[str, Artist]:
    """The labelled artists of all ``axes`` by their label; one star stands for models of different names."""
    entries = [(str(handle.get_label()).split(" (")[0], handle) for ax in axes for handle in legend_entries(ax)]
    stars = {label for label, handle in entries if isinstance(handle, Line2D) and handle.get_marker() == "*"}
    return {"model of each panel" if len(stars) > 1 and label in stars else label: handle for label, handle in entries}


def _beside(ax: Axes) -> Axes:
    """Axes for a colour bar at the right of ``ax``, as high as the panel; layout engines do not move them."""
    return ax.inset_axes((1.03, 0, 0.06, 1))


def _same_grid(first: Surface, second: Surface) -> bool:
    return first.shape == second.shape and all(
        np.allclose(a, b, rtol=0, atol=1e-9 * np.ptp(a)) for a, b in zip(first.axes, second.axes, strict=True)
    )


def _grid_text(surface: Surface) -> str:
    return " x ".join(f"{len(axis)} points from {axis[0]:g} to {axis[-1]:g}" for axis in surface.axes)
