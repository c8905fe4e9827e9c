"""Elements that the figures share: new axes, labels, the star, legend entries and colour bars."""

import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure, SubFigure
from matplotlib.legend import Legend
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from landscape.checks import check_type
from landscape.errors import InputError
from landscape.escaping import math_free
from landscape.plotting.captions import LENGTHS, axis_labels, brief, common_labels, title_of
from landscape.plotting.legends import fitted_labels, legend_entries
from landscape.plotting.looks import Look
from landscape.plotting.palette import VERMILLION
from landscape.plotting.room import Room, fits, room_of, text_width, wrapped
from landscape.plotting.scales import ROUND_STEPS, Scale, log_ticks
from landscape.plotting.sizes import figure_size, ink, is_set, scaled, setting, text_size
from landscape.results import Surface

__all__ = [
    "NOTE_LINES",
    "arrange",
    "axes_or_new",
    "check_figure",
    "draw_legend",
    "draw_legend_below",
    "dress_bar",
    "figure_or_new",
    "label_axes",
    "label_slice",
    "limit_values",
    "mark_nonfinite",
    "mark_zero",
    "new_figure",
    "star_style",
    "whole",
]

FILE_BACKENDS = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")  # of pyplot, which show no windows
KEPT = 5  # figures made here that pyplot keeps with such a backend
_kept: deque[weakref.ref[Figure]] = deque()

PAD = 11  # points; matplotlib's 6 let a wide title touch the uppermost tick label of the y axis
NOTE_LINES = 6  # at most, into which a line of a title is wrapped, such as all notes in narrow axes
MARGINS = ("left", "right", "bottom", "top", "wspace", "hspace")


def axes_or_new(ax: Axes | None, size: tuple[float, float], projection: str | None = None) -> Axes:
    """``ax``, in a figure whose layout leaves room for labels, or new axes in a figure of ``size``.

    ``projection`` is None for two dimensions, or "3d".

    Raises:
        InputError: ``ax`` is something else, such as a second result, or has another projection.
    """
    if ax is None:
        return new_figure(size).add_subplot(projection=projection)
    check_type(ax, Axes, "a figure (result, ax)", "axes of matplotlib as ax, and one result")
    if ax.name != (projection or "rectilinear"):
        call = f"figure.add_subplot({f'projection={projection!r}' if projection else ''})"
        raise InputError(f"ax has the projection {ax.name!r}; this figure needs axes of {call}")
    arrange(ax.figure)
    return ax


def check_figure(figure: object) -> None:
    """Raise InputTypeError unless ``figure`` is None, or a figure or subfigure of matplotlib."""
    check_type(figure, Figure | SubFigure | None, "a figure of panels (results, figure=)", "a figure of matplotlib")


def arrange(figure: Figure | SubFigure | None) -> None:
    """Give a figure of the caller constrained layout if it has no layout and its margins are the usual ones."""
    figure = None if figure is None else whole(figure)
    if figure is None or figure.get_layout_engine() is not None:
        return
    margins = figure.subplotpars
    if all(getattr(margins, name) == setting(f"figure.subplot.{name}") for name in MARGINS):
        figure.set_layout_engine("constrained")


def figure_or_new(
    figure: Figure | SubFigure | None, size: tuple[float, float], grow: bool = False
) -> Figure | SubFigure:
    """``figure``, with a layout that leaves room for labels, or a new one of ``size``.

    With ``grow`` a new figure is at least as high as ``size`` says, also where matplotlib's settings say less.
    """
    check_figure(figure)
    if figure is None:
        made = new_figure(size)
        if grow and made.get_figheight() < size[1]:
            made.set_figheight(size[1])
        return made
    arrange(figure)
    return figure


def whole(drawn: Figure | SubFigure | Axes) -> Figure:
    """The figure that a subfigure or axes are a part of."""
    while not isinstance(drawn, Figure):
        drawn = drawn.figure
    return drawn


def new_figure(size: tuple[float, float]) -> Figure:
    """A new figure of pyplot, which notebooks and ``pyplot.show`` display.

    ``size`` is the width and height in inches where matplotlib's settings name none. With a backend that only writes
    files, pyplot keeps just the latest of these figures, so that loops do not fill the memory; earlier ones remain
    usable through references to them. If the backend cannot be loaded, the figure does not belong to pyplot.
    """
    size = figure_size(size)
    try:
        import matplotlib.pyplot as plt  # only here, so that drawing into the caller's axes does not load pyplot

        figure = plt.figure(figsize=size, layout="constrained")
    except (ImportError, ValueError):  # the environment names a backend that is not installed
        return Figure(figsize=size, layout="constrained")
    if matplotlib.get_backend().lower() in FILE_BACKENDS:
        _kept.append(weakref.ref(figure))
        while len(_kept) > KEPT:
            if (oldest := _kept.popleft()()) is not None:
                plt.close(oldest)
    return figure


def label_axes(
    ax: Axes,
    title: str,
    x_label: str,
    y_label: str,
    *,
    notes: Sequence[str] = (),
    look: Look = Look(),  # noqa: B008 (frozen)
    size: float = 10,
    beside: float = 0.0,
) -> None:
    """Set the title and labels, wrapped to their room, except those that the caller has set already.

    The title, a brief one in narrow axes, is followed by the ``notes``. The title of the ``look``, if it has one,
    replaces both. ``beside`` is the width of long tick labels at the left, in points, beyond the usual.
    """
    room = room_of(ax)
    room, label_size = replace(room, width=room.width - beside), text_size(size, "axes.labelsize")
    if not is_set("xtick.major.pad") and ax.name != "3d":
        ax.tick_params(pad=scaled(3.5))  # matplotlib's, so that large labels of both axes keep apart at the corner
    title = (
        "\n".join(filter(None, [brief(title) if room.narrow else title, *notes])) if look.title is None else look.title
    )
    if title and (look.title is not None or not ax.get_title()):
        title, title_size = _fitted_title(title, room)
        ax.set_title(math_free(title), fontsize=title_size, pad=scaled(PAD))
    if not ax.get_xlabel():
        ax.set_xlabel(math_free(_wrapped_lines(x_label, room.across, label_size)), fontsize=label_size)
    if not ax.get_ylabel():
        ax.set_ylabel(math_free(_wrapped_lines(y_label, room.along, label_size)), fontsize=label_size)


def label_slice(
    ax: Axes,
    surface: Surface,
    *,
    title: str | None = None,
    values: str | None = None,
    notes: Sequence[str] = (),
    alike: Sequence[Surface] = (),
    look: Look = Look(),  # noqa: B008 (frozen)
) -> None:
    """Set the title and the labels of axes that show ``surface``, or also others that are ``alike``.

    The labels tell the lengths of the directions where they fit, and a note below the title then says what that means.
    On a line the vertical axis has the label ``values``. ``title`` replaces that of the surface.
    """
    room, size = room_of(ax), text_size(10, "axes.labelsize")
    short = axis_labels(surface, lengths=False)
    labels = common_labels(alike or [surface]) or short
    fit = [fits(label, width, size) for label, width in zip(labels, (room.across, room.along), strict=False)]
    if labels != short and all(fit) and not room.narrow:
        notes = [*notes, LENGTHS]
    else:
        labels = short
    x_label, y_label = (*labels, values or "")[:2]
    label_axes(ax, title_of(surface) if title is None else title, x_label, y_label, notes=notes, look=look)


def _fitted_title(title: str, room: Room) -> tuple[str, float | str]:
    """``title`` wrapped to its room, and its size: in narrow axes small enough that it takes a third of the height."""
    for points in (8.0, 7.0, 6.0) if room.narrow else (10.0,):
        size = text_size(points, "axes.titlesize")
        text = _wrapped_lines(title, room.across, size, NOTE_LINES)
        if 1.2 * (text.count("\n") + 1) * scaled(points) < room.height / 3:
            break
    return text, size


def _wrapped_lines(text: str, width: float, size: float | str, most: int = 3) -> str:
    return "\n".join(wrapped(line, width, size, most) for line in text.split("\n"))


def draw_legend(ax: Axes, handles: Sequence[Artist] | None = None, **options: Any) -> Legend:
    """Draw the legend of the labelled artists, or of ``handles``, in type as small as the frame demands."""
    entries = list(ax.get_legend_handles_labels()[0] if handles is None else handles)
    labels, size = fitted_labels(room_of(ax), [str(entry.get_label()) for entry in entries])
    return ax.legend(entries, labels, **{"fontsize": size, "framealpha": 0.85, **options})


def draw_legend_below(ax: Axes, handles: Sequence[Artist] | None = None) -> Legend:
    """Draw the legend below the axes and their label, in two columns where these fit, for curves that fill the axes.

    It lists the labelled artists of the axes, or ``handles``.
    """
    entries = legend_entries(ax) if handles is None else list(handles)
    lines = ax.get_xlabel().count("\n") + 1
    size = text_size(6 if room_of(ax).narrow else 8, "legend.fontsize")
    longest = max((text_width(str(entry.get_label()), size) for entry in entries), default=0.0)
    columns = 2 if 2 * longest + scaled(80) < room_of(ax).width else 1
    below = ScaledTranslation(0, -scaled(22 + 13 * lines) / 72, ax.figure.dpi_scale_trans)
    return ax.legend(
        handles=entries, frameon=False, loc="upper center", ncols=columns, bbox_to_anchor=(0.5, 0), fontsize=size,
        bbox_transform=ax.transAxes + below,
    )  # fmt: skip


def star_style(size: float) -> dict[str, Any]:
    return {
        "marker": "*", "markersize": scaled(size), "color": VERMILLION, "markeredgecolor": "white",
        "markeredgewidth": scaled(0.7), "linestyle": "none", "zorder": 10,
    }  # fmt: skip


def mark_nonfinite(ax: Axes, x: np.ndarray, color: str, label: str, row: int = 0) -> None:
    """Draw crosses at ``x`` along the upper edge, in row ``row``, for points whose value is NaN or infinite."""
    ax.plot(
        x, np.full(len(x), 0.975 - 0.035 * row), transform=ax.get_xaxis_transform(), color=color, marker="x",
        markersize=scaled(4), linestyle="none", label=label,
    )  # fmt: skip


def limit_values(ax: Axes, look: Look) -> None:
    """Set the limits of the vertical axis that the ``look`` names; on a log scale its labels are round numbers."""
    if look.vmin is not None or look.vmax is not None:
        ax.set_ylim(look.vmin, look.vmax)
    if ax.get_yscale() == "log":
        low, high = ax.get_ylim()
        ax.yaxis.set_major_locator(log_ticks((low, high), most=4 if room_of(ax).narrow else 9))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())


def mark_zero(ax: Axes) -> None:
    """Draw a thin line at the origin of the horizontal axis."""
    ax.axvline(0, color=ink(0.2), linewidth=scaled(0.8), zorder=0.5)


def dress_bar(
    bar: Colorbar, scale: Scale, label: str, ticks: int = 7, size: float = 9, height: float | None = None
) -> None:
    """Give the colour bar its label, wrapped to ``height`` points, and about ``ticks`` ticks at round numbers."""
    if height is None and isinstance(ax := getattr(bar.mappable, "axes", None), Axes):
        height = room_of(ax).along
    bar.locator = log_ticks(scale.limits) if scale.log_scale else MaxNLocator(ticks, steps=ROUND_STEPS)
    if scale.log_scale:
        bar.formatter = FuncFormatter(lambda value, _: f"{value:.4g}")
    elif hasattr(bar.formatter, "set_useOffset"):
        bar.formatter.set_useOffset(False)
    bar.minorticks_off()
    bar.update_ticks()
    bar.outline.set_linewidth(scaled(0.5))
    bar.ax.tick_params(labelsize=text_size(size, "ytick.labelsize"))
    bar.ax.yaxis.get_offset_text().set_fontsize(text_size(size, "ytick.labelsize"))
    label_size = text_size(size + 1, "axes.labelsize")
    label = label if height is None else _wrapped_lines(label, height, label_size)
    bar.set_label(math_free(label), fontsize=label_size)
