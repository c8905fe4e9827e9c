"""A plane as a 3-D surface."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from mpl_toolkits.mplot3d import Axes3D
from typing_extensions import Unpack

from landscape.checks import check_type
from landscape.escaping import math_free
from landscape.plotting.axes import axes_or_new, draw_legend, label_axes, star_style
from landscape.plotting.captions import LENGTHS, axis_labels, count_text, origin_name, quantity_label, title_of
from landscape.plotting.hidden import Star
from landscape.plotting.labels_3d import fit_labels
from landscape.plotting.looks import Look, SurfaceLook, look_of
from landscape.plotting.room import room_of, text_width, wrapped
from landscape.plotting.scales import ROUND_STEPS, color_limits, log_ticks, on_log_scale
from landscape.plotting.sizes import ink, scaled, text_size
from landscape.plotting.values import plane_values, value_at
from landscape.results import Surface

__all__ = ["plot_surface"]

USUAL_NUMBER = 20.0  # points: wider numbers at the vertical axis would reach over it
LOW = 320  # points at a font size of 10: lower axes have no room for labels of two lines


def plot_surface(
    surface: Surface,
    ax: Axes | None = None,
    *,
    log_scale: bool = False,
    quantity: str = "loss",
    **look: Unpack[SurfaceLook],
) -> Axes:
    """Draw a quantity over the plane as a 3-D surface with a star at the model; non-finite points are gaps.

    The star is hollow if the surface hides it. ``ax`` must have three dimensions; None makes a new figure of pyplot.
    With ``log_scale`` the height is log10 of the values; those at or below 0 are drawn at the smallest positive one,
    and a warning and the label say so. ``quantity`` is as in `plot_contour`. The ``look`` has ``cmap``, ``vmin``,
    ``vmax``, ``title``, ``star`` and ``view`` (elevation and azimuth of the camera), see `SurfaceLook`; heights beyond
    ``vmin`` and ``vmax`` are cut off.

    Raises:
        InputError: the surface is a line, ``ax`` has no third axis, or the quantity or the look cannot be drawn.
    """
    check_type(surface, Surface, "plot_surface(surface)", "a Surface, as ll.evaluate returns it")
    shown = look_of("plot_surface", SurfaceLook, look, log_scale)
    (values,), log_scale, clipped = on_log_scale([plane_values(surface, quantity)], log_scale)
    limits = color_limits(values, log_scale, *shown.limits)
    axes: Axes3D = axes_or_new(ax, (5.6, 4.8), projection="3d")
    height = np.log10(values) if log_scale else values
    x, y = np.meshgrid(*surface.axes, indexing="ij")
    if limits is not None:
        low, high = np.log10(limits) if log_scale else limits
        rows, columns = (min(n, 101) for n in values.shape)  # every cell, up to a size that still draws fast
        axes.plot_surface(
            x, y, np.clip(height, low, high), cmap=shown.colormap, vmin=low, vmax=high, rcount=rows, ccount=columns,
            edgecolor=(0, 0, 0, 0.25), linewidth=scaled(0.15),
        )  # fmt: skip
        axes.set_zlim(low, high)
    axes.set(xlim=x[[0, -1], 0], ylim=y[0, [0, -1]])
    _dress_axes(axes, limits if log_scale else None, shown)
    if shown.star:
        _draw_star(axes, surface, x, y, height)
    if count := int((~np.isfinite(values)).sum()):
        room = room_of(axes)
        share, size = (0.24, scaled(6)) if room.narrow else (0.5, scaled(8))  # of the room, beside the legend
        text = wrapped(f"gaps: {count_text(count, values.size)}", share * min(room.width, room.height), size, most=5)
        axes.text2D(0, 0.97, text, transform=axes.transAxes, fontsize=size, va="top")
    _label(axes, surface, quantity_label(surface, quantity, log_scale, clipped), title_of(surface, quantity), shown)
    fit_labels(axes)
    drawn: Axes = axes
    return drawn


def _label(ax: Axes3D, surface: Surface, values: str, title: str, look: Look) -> None:
    """Set title and labels; narrow axes have short labels of the plane."""
    labels, notes = axis_labels(surface, separator="\n"), [LENGTHS]
    short = axis_labels(surface, lengths=False)
    room = room_of(ax)
    if labels == short or room.height < scaled(LOW):
        labels, notes = short, []
    if room.narrow:
        labels, notes = [label[0] for label in short], []
        values = values.partition(" (")[0] + " (log scale)" * ("log scale" in values)
    label_axes(ax, title, *labels, notes=notes, look=look, size=9)
    if not ax.get_zlabel():
        size = text_size(9, "axes.labelsize")
        length = (0.4 if room.height < scaled(LOW) else 0.65) * room.height
        lines = [wrapped(line, length, size) for line in values.split("\n")]
        ax.set_zlabel(math_free("\n".join(lines)), labelpad=_pad(26) + 1.5 * _long_ticks(ax), fontsize=size)


def _draw_star(ax: Axes3D, surface: Surface, x: np.ndarray, y: np.ndarray, height: np.ndarray) -> None:
    z = value_at(surface, height, 0, 0)
    if not math.isfinite(z):
        return
    # In 3-D matplotlib sorts collections by depth, which would hide a star among them; lines keep their zorder.
    star = Star(z, x, y, height, **star_style(13))
    ax.add_line(star)
    star.set_label(origin_name(surface) + " (behind the surface)" * star.show_from(ax))
    draw_legend(ax, loc="upper right", handlelength=1.4)


def _dress_axes(ax: Axes3D, log_limits: tuple[float, float] | None, look: Look) -> None:
    ax.tick_params(pad=scaled(8) - 8, labelsize=text_size(8, "xtick.labelsize"))  # matplotlib adds 8 points
    ax.xaxis.labelpad = ax.yaxis.labelpad = _pad(20 if room_of(ax).narrow else 29)
    # The lowest label of y is left out: it would touch the highest label of x in the front corner.
    most = 2 if room_of(ax).narrow else 4
    for axis, prune, count in ((ax.xaxis, None, most), (ax.yaxis, "lower", most), (ax.zaxis, None, most + 2)):
        axis.set_major_locator(MaxNLocator(count, steps=ROUND_STEPS, prune=prune))
        axis.set_pane_color(ink(0.03))
    ax.view_init(*look.view)
    if log_limits is not None:
        ticks = log_ticks(log_limits, most=4 if room_of(ax).narrow else 9).tick_values(*log_limits)
        lowest = log_limits[0] * (log_limits[1] / log_limits[0]) ** 0.03  # a lower label would touch that of y
        shown = [tick for tick in ticks if lowest <= tick <= log_limits[1]]
        ax.zaxis.set_major_locator(FixedLocator(np.log10(shown).tolist()))
        ax.zaxis.set_major_formatter(FuncFormatter(lambda height, _: f"{10**height:.4g}"))
    ax.tick_params(axis="z", pad=scaled(8) - 8 + _long_ticks(ax))


def _long_ticks(ax: Axes3D) -> float:
    """How far long numbers at the vertical axis are moved away from it, in points; they are centred at a place."""
    low, high = ax.get_zlim()
    heights = [height for height in ax.zaxis.get_major_locator()() if low <= height <= high]
    size = text_size(8, "xtick.labelsize")
    numbers = ax.zaxis.get_major_formatter().format_ticks(heights)
    return max(0.0, max((text_width(text, size) for text in numbers), default=0.0) - scaled(USUAL_NUMBER)) / 2


def _pad(points: float) -> float:
    """The label pad that puts a label ``points`` from the axis, to which matplotlib adds 21."""
    return scaled(points) - 21
