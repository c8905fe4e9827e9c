"""A plane as a 3-D surface."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from mpl_toolkits.mplot3d import Axes3D

from landscape.checks import check_type
from landscape.errors import InputError
from landscape.escaping import math_free
from landscape.plotting.axes import axes_or_new, label_axes, star_style
from landscape.plotting.captions import axis_labels, count_text, origin_name, quantity_label, title_of
from landscape.plotting.hidden import Star
from landscape.plotting.scales import COLORMAP, ROUND_STEPS, color_limits, log_ticks, on_log_scale
from landscape.plotting.values import plane_values, value_at
from landscape.results import Surface

__all__ = ["plot_surface"]


def plot_surface(surface: Surface, ax: Axes | None = None, *, log_scale: bool = False, quantity: str = "loss") -> Axes:
    """Draw a quantity over the plane as a 3-D surface with a star at the model; non-finite points are gaps.

    The star is hollow if the surface hides it. ``ax`` must have three dimensions; None makes a new figure of pyplot.
    With ``log_scale`` the height is log10 of the values; those at or below 0 are drawn at the smallest positive one,
    and a warning and the label say so. ``quantity`` is as in `plot_contour`.

    Raises:
        InputError: the surface is a line, or ``ax`` has no third axis.
    """
    check_type(surface, Surface, "plot_surface(surface)", "a Surface, as ll.evaluate returns it")
    (values,), log_scale, clipped = on_log_scale([plane_values(surface, quantity)], log_scale)
    limits = color_limits(values, log_scale)
    if ax is not None and ax.name != "3d":
        raise InputError("plot_surface needs 3-D axes: figure.add_subplot(projection='3d')")
    axes: Axes3D = axes_or_new(ax, (5.6, 4.8), projection="3d")
    height = np.log10(values) if log_scale else values
    x, y = np.meshgrid(*surface.axes, indexing="ij")
    if limits is not None:
        low, high = np.log10(limits) if log_scale else limits
        rows, columns = (min(n, 101) for n in values.shape)  # every cell, up to a size that still draws fast
        axes.plot_surface(
            x, y, height, cmap=COLORMAP, vmin=low, vmax=high, rcount=rows, ccount=columns,
            edgecolor=(0, 0, 0, 0.25), linewidth=0.15,
        )  # fmt: skip
        axes.set_zlim(low, high)
    axes.set(xlim=x[[0, -1], 0], ylim=y[0, [0, -1]])
    _dress_axes(axes, limits if log_scale else None)
    _draw_star(axes, surface, x, y, height)
    if count := int((~np.isfinite(values)).sum()):
        axes.text2D(0, 0.97, f"gaps: {count_text(count, values.size)}", transform=axes.transAxes, fontsize=8)
    label_axes(axes, title_of(surface), *axis_labels(surface, separator="\n"), size=9)
    if not axes.get_zlabel():
        axes.set_zlabel(math_free(quantity_label(surface, quantity, log_scale, clipped)), labelpad=5, fontsize=9)
    drawn: Axes = axes
    return drawn


def _draw_star(ax: Axes3D, surface: Surface, x: np.ndarray, y: np.ndarray, height: np.ndarray) -> None:
    z = value_at(surface, height, 0, 0)
    if not math.isfinite(z):
        return
    # In 3-D matplotlib sorts collections by depth, which would hide a star among them; lines keep their zorder.
    star = Star(z, x, y, height, **star_style(13))
    ax.add_line(star)
    star.set_label(origin_name(surface) + " (behind the surface)" * star.show_from(ax))
    ax.legend(loc="upper right", fontsize=8, framealpha=0.85, handlelength=1.4)


def _dress_axes(ax: Axes3D, log_limits: tuple[float, float] | None) -> None:
    ax.tick_params(pad=0, labelsize=8)
    ax.xaxis.labelpad = ax.yaxis.labelpad = 8
    # The lowest label of y is left out: it would touch the highest label of x in the front corner.
    for axis, prune, most in ((ax.xaxis, None, 4), (ax.yaxis, "lower", 4), (ax.zaxis, None, 6)):
        axis.set_major_locator(MaxNLocator(most, steps=ROUND_STEPS, prune=prune))
        axis.set_pane_color((0.97, 0.97, 0.97))
    ax.view_init(elev=38, azim=-55)
    # Layout engines do not reserve enough space for 3-D labels, so the box is drawn smaller.
    ax.set_box_aspect(None, zoom=0.9)
    if log_limits is not None:
        ticks = log_ticks(log_limits).tick_values(*log_limits)
        lowest = log_limits[0] * (log_limits[1] / log_limits[0]) ** 0.03  # a lower label would touch that of y
        shown = [tick for tick in ticks if lowest <= tick <= log_limits[1]]
        ax.zaxis.set_major_locator(FixedLocator(np.log10(shown).tolist()))
        ax.zaxis.set_major_formatter(FuncFormatter(lambda height, _: f"{10**height:.4g}"))
