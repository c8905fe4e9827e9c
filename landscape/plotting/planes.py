"""A plane as filled contours or as a heat map."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.contour import QuadContourSet
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator
from typing_extensions import Unpack

from landscape.checks import check_choice, check_type
from landscape.plotting.axes import axes_or_new, draw_legend, dress_bar, label_slice, star_style
from landscape.plotting.bands import ORIGIN, Numbers, draw_bands
from landscape.plotting.captions import count_text, origin_name, quantity_label, title_of
from landscape.plotting.legends import fitted_labels, free_corner, legend_entries, plane_frame
from landscape.plotting.looks import PlaneLook, check_levels, look_of
from landscape.plotting.room import room_of
from landscape.plotting.scales import ROUND_STEPS, Scale, color_scale, on_log_scale
from landscape.plotting.sizes import ink, scaled
from landscape.plotting.values import plane_values
from landscape.results import Surface

__all__ = ["SMALL_STAR", "Style", "check_style", "draw_plane", "plot_contour"]

Style = Literal["contour", "heatmap"]
SMALL_STAR, LARGE_STAR = 8.0, 14.0  # points
MOST_LINES = 2  # of an entry of the legend; frames in which it would take more are too narrow for one
STAR_SHARE = 0.1  # of the shorter side of the frame, for a size between these


def plot_contour(
    surface: Surface,
    ax: Axes | None = None,
    *,
    log_scale: bool = False,
    quantity: str = "loss",
    **look: Unpack[PlaneLook],
) -> Axes:
    """Draw ``quantity`` over the plane as filled bands, with labelled contour lines at round numbers.

    The first axis runs to the right, the second upwards. A star marks the origin. If some points of the surface are
    interpolated, dots mark those that were evaluated. Cells at a point whose value is NaN or infinite are hatched.
    The legend stands in a corner where it does not cover the star; it is left out where there is none, or no room for
    its words.

    Args:
        surface: Surface over a plane.
        ax: Axes to draw into; None makes a new figure of pyplot. With a backend that shows no figures, as in a
            script, pyplot keeps only the latest five.
        log_scale: Logarithmic colours. Values at or below 0 are drawn like the smallest positive value; a warning and
            the label of the colour bar say so.
        quantity: "loss", "accuracy", "standard_error", or one of ``surface.quantities``.
        look: ``cmap``, ``levels`` (the number of bands, all of one width, in the logarithm of the values for
            ``log_scale``, or their edges), ``vmin``, ``vmax``, ``title`` and ``star``; see `PlaneLook`.

    Raises:
        InputError: the surface is a line, there are fewer than two levels, the limits are in the wrong order, or the
            quantity or the colour map is unknown, or the quantity was not computed.
    """
    check_type(surface, Surface, "plot_contour(surface)", "a Surface, as ll.evaluate returns it")
    shown = look_of("plot_contour", PlaneLook, look, log_scale)
    (values,), log_scale, clipped = on_log_scale([plane_values(surface, quantity)], log_scale)
    scale = color_scale([values], log_scale, shown)
    ax = axes_or_new(ax, (5.4, 4.4))
    if surface.evaluated is not None and not surface.evaluated.all():
        _draw_evaluated(ax, surface.axes, surface.evaluated)
    frame = plane_frame(ax)
    star = float(np.clip(STAR_SHARE * min(frame) / scaled(1), SMALL_STAR, LARGE_STAR)) * shown.star
    filled = draw_plane(ax, surface, values, scale, levels=shown.levels, numbers=Numbers(frame), star=star)
    if filled is not None and scale is not None:
        dress_bar(ax.figure.colorbar(filled, ax=ax), scale, quantity_label(surface, quantity, log_scale, clipped))
    _draw_legend(ax, star)
    label_slice(ax, surface, title=title_of(surface, quantity), look=shown)
    return ax


def check_style(style: Style, levels: int | Sequence[float]) -> None:
    """Raise InputError if the style is unknown or the levels cannot be drawn."""
    check_choice("style", style, get_args(Style))
    check_levels(levels)


def draw_plane(
    ax: Axes,
    surface: Surface,
    values: np.ndarray,
    scale: Scale | None,
    *,
    levels: int | Sequence[float] = 30,
    style: Style = "contour",
    numbers: Numbers | None = None,
    star: float = SMALL_STAR,
) -> QuadContourSet | QuadMesh | None:
    """Draw ``values`` [A, B] on the grid of ``surface`` with hatching and star; return the coloured artist.

    ``star`` is its size in points, 0 for none. None is returned if no value is finite.
    """
    bad = ~np.isfinite(values)
    cells: tuple[np.ndarray, ...] = surface.axes
    if style == "heatmap":
        cells = tuple(_cell_edges(axis) for axis in surface.axes)
    else:  # contours are interpolated inside the cells of the grid, each of which needs its four corners
        bad = bad[:-1, :-1] | bad[1:, :-1] | bad[:-1, 1:] | bad[1:, 1:]
    if bad.any():
        _draw_hatching(ax, cells, bad, count_text(int(np.isnan(values).sum()), values.size))
    for axis, side in zip((ax.xaxis, ax.yaxis), room_of(ax).inside, strict=True):
        axis.set_major_locator(MaxNLocator(int(np.clip(side / scaled(30), 2, 6)), steps=ROUND_STEPS))
    if star and all(axis[0] <= 0 <= axis[-1] for axis in surface.axes):
        ax.plot([0], [0], label=origin_name(surface), scalex=False, scaley=False, **star_style(star))
    if scale is None or np.isnan(values).all():
        return None
    if style == "heatmap":
        return ax.pcolormesh(*cells, np.ma.masked_invalid(values.T), cmap=scale.colormap, norm=scale.norm)
    return draw_bands(ax, surface.axes, values, scale, levels, numbers)


def _draw_legend(ax: Axes, star: float) -> None:
    """Draw the legend in the corner where it covers least, if it can be read and leaves the ``star`` free."""
    handles, frame = legend_entries(ax), np.array(plane_frame(ax))
    labels = [str(handle.get_label()) for handle in handles]
    origin = (ax.transData + ax.transAxes.inverted()).transform(ORIGIN)
    corner = free_corner(ax, labels, origin)
    readable = all(text.count("\n") < MOST_LINES for text in fitted_labels(room_of(ax), labels)[0])
    if corner is not None and readable and not (star and corner.covers(origin, scaled(star / 2) / frame).any()):
        draw_legend(ax, handles, loc=corner.name, handlelength=1.4)


def _cell_edges(axis: np.ndarray) -> np.ndarray:
    """The edges [n + 1] of cells around the n grid points."""
    middles = (axis[:-1] + axis[1:]) / 2
    return np.concatenate([[2 * axis[0] - middles[0]], middles, [2 * axis[-1] - middles[-1]]])


def _draw_evaluated(ax: Axes, axes: tuple[np.ndarray, ...], evaluated: np.ndarray) -> None:
    """Draw a dot at every evaluated point; the others are interpolated."""
    i, j = np.nonzero(evaluated)
    alphas, betas = axes
    ax.plot(
        alphas[i], betas[j], label="evaluated", scalex=False, scaley=False, linestyle="none",
        marker="o", markersize=scaled(1.8), color="white", markeredgecolor="black", markeredgewidth=scaled(0.3),
    )  # fmt: skip


def _draw_hatching(ax: Axes, edges: tuple[np.ndarray, ...], bad: np.ndarray, label: str) -> None:
    """Hatch the cells of the mask ``bad`` [n, m], which lie between the edges x [n + 1] and y [m + 1]."""
    x, y = edges
    i, j = np.nonzero(bad)
    corners = [(x[i + di], y[j + dj]) for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))]
    vertices = np.array(corners).transpose(2, 0, 1).reshape(-1, 2)  # five per cell, the last one closes it
    codes = np.tile([Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY], len(i))
    patch = PathPatch(
        Outline(vertices, codes), facecolor=ink(0.08), edgecolor=ink(0.65), hatch="////", linewidth=0, zorder=0.5,
        label=label,
    )  # fmt: skip
    patch.sticky_edges.x[:], patch.sticky_edges.y[:] = x[[0, -1]], y[[0, -1]]
    ax.add_patch(patch)
    ax.autoscale_view()
