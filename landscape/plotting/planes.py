"""A plane as filled contours or as a heat map."""

from typing import Literal, get_args

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.contour import QuadContourSet
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from landscape.checks import check_choice, check_type
from landscape.errors import InputError
from landscape.plotting.axes import axes_or_new, dress_bar, label_axes, legend_entries, star_style
from landscape.plotting.captions import axis_labels, count_text, origin_name, quantity_label, title_of
from landscape.plotting.scales import Scale, color_scale, level_text, on_log_scale
from landscape.plotting.values import plane_values
from landscape.results import Surface

__all__ = ["Style", "check_style", "draw_plane", "plot_contour"]

Style = Literal["contour", "heatmap"]
LINES = 12  # labelled contour lines at most, so that their labels have room


def plot_contour(
    surface: Surface,
    ax: Axes | None = None,
    *,
    levels: int = 30,
    log_scale: bool = False,
    quantity: str = "loss",
    vmin: float | None = None,
    vmax: float | None = None,
) -> Axes:
    """Draw ``quantity`` over the plane as ``levels`` filled bands, with labelled contour lines at round numbers.

    The first axis runs to the right, the second upwards. A star marks the origin. If some points of the surface are
    interpolated, dots mark those that were evaluated. Cells at a point whose value is NaN or infinite are hatched.

    Args:
        surface: Surface over a plane.
        ax: Axes to draw into; None makes a new figure of pyplot. With a backend that shows no figures, as in a
            script, pyplot keeps only the latest five.
        levels: Number of bands of colour, all of one width, in the logarithm of the values for ``log_scale``.
        log_scale: Logarithmic colours. Values at or below 0 are drawn like the smallest positive value; a warning and
            the label of the colour bar say so.
        quantity: "loss", "accuracy", "standard_error", or one of ``surface.quantities``.
        vmin: Lower end of the colours; None: the smallest finite value.
        vmax: Upper end of the colours; None: the largest finite value.

    Raises:
        InputError: the surface is a line, there are fewer than two levels, the limits are in the wrong order, or the
            quantity is unknown or was not computed.
    """
    check_type(surface, Surface, "plot_contour(surface)", "a Surface, as ll.evaluate returns it")
    (values,), log_scale, clipped = on_log_scale([plane_values(surface, quantity)], log_scale)
    check_style("contour", levels)
    scale = color_scale([values], log_scale, vmin, vmax)
    ax = axes_or_new(ax, (5.4, 4.4))
    filled = draw_plane(ax, surface, values, scale, levels=levels, label_lines=True)
    if filled is not None and scale is not None:
        dress_bar(ax.figure.colorbar(filled, ax=ax), scale, quantity_label(surface, quantity, log_scale, clipped))
    if surface.evaluated is not None and not surface.evaluated.all():
        _draw_evaluated(ax, surface.axes, surface.evaluated)
    if handles := legend_entries(ax):
        ax.legend(handles=handles, loc="upper right", fontsize=8, framealpha=0.85, handlelength=1.4)
    label_axes(ax, title_of(surface), *axis_labels(surface))
    return ax


def check_style(style: Style, levels: int) -> None:
    """Raise InputError if the style is unknown or there are fewer than two levels."""
    check_choice("style", style, get_args(Style))
    if levels < 2:
        raise InputError(f"a contour figure needs at least 2 levels, not {levels}")


def draw_plane(
    ax: Axes,
    surface: Surface,
    values: np.ndarray,
    scale: Scale | None,
    *,
    levels: int = 30,
    style: Style = "contour",
    label_lines: bool = False,
    mark_origin: bool = True,
) -> QuadContourSet | QuadMesh | None:
    """Draw ``values`` [A, B] on the grid of ``surface`` with hatching and star; return the coloured artist.

    None is returned if no value is finite.
    """
    bad = ~np.isfinite(values)
    cells: tuple[np.ndarray, ...] = surface.axes
    if style == "heatmap":
        cells = tuple(_cell_edges(axis) for axis in surface.axes)
    else:  # contours are interpolated inside the cells of the grid, each of which needs its four corners
        bad = bad[:-1, :-1] | bad[1:, :-1] | bad[:-1, 1:] | bad[1:, 1:]
    if bad.any():
        _draw_hatching(ax, cells, bad, count_text(int(np.isnan(values).sum()), values.size))
    ax.locator_params(nbins=6)
    if mark_origin and all(axis[0] <= 0 <= axis[-1] for axis in surface.axes):
        size = 14 if label_lines else 8
        ax.plot([0], [0], label=origin_name(surface), scalex=False, scaley=False, **star_style(size))
    if scale is None or np.isnan(values).all():
        return None
    if style == "heatmap":
        return ax.pcolormesh(*cells, np.ma.masked_invalid(values.T), cmap=scale.colormap, norm=scale.norm)
    return _draw_bands(ax, surface, values, scale, levels, label_lines)


def _draw_bands(
    ax: Axes, surface: Surface, values: np.ndarray, scale: Scale, levels: int, label_lines: bool
) -> QuadContourSet:
    """Filled bands and thin lines: at round numbers if the lines are labelled, else at every third of 30 edges."""
    edges = scale.edges(levels)
    alphas, betas = surface.axes
    grid = (alphas, betas, np.ma.masked_invalid(values.T))
    filled = ax.contourf(
        *grid, levels=edges, cmap=scale.colormap, norm=scale.norm, extend=scale.extension(values)
    )  # fmt: skip
    lines = scale.round_levels(LINES) if label_lines else edges[1 : -1 : max(1, levels // 10)]
    crossed = lines[(lines > np.nanmin(values)) & (lines < np.nanmax(values))]
    if len(crossed):
        _draw_lines(ax, grid, crossed, scale, label_lines)
    return filled


def _draw_lines(
    ax: Axes, grid: tuple[np.ndarray, np.ndarray, np.ndarray], levels: np.ndarray, scale: Scale, label_lines: bool
) -> None:
    """Contour lines at ``levels``, light on dark colours and dark on light ones, with their values where asked for."""
    luminance = matplotlib.colormaps[scale.colormap](scale.norm(levels))[:, :3] @ (0.299, 0.587, 0.114)  # ITU-R BT.601
    tones = np.where(luminance < 0.5, 1.0, 0.0)
    colors = [(tone, tone, tone, 0.55) for tone in tones]
    width = 0.4 if label_lines else 0.3
    lines = ax.contour(*grid, levels=levels, colors=colors, linewidths=width, linestyles="solid")
    if not label_lines:
        return
    ax.clabel(
        lines, levels, manual=_label_positions(ax, lines.allsegs), fmt=level_text,
        colors=[str(tone) for tone in tones], fontsize=7, inline_spacing=2,
    )  # fmt: skip


def _label_positions(ax: Axes, levels: list[list[np.ndarray]]) -> list[tuple[float, float]]:
    """One position per level: away from the frame and the legend, as far as possible from the positions before it."""
    to_fraction = ax.transData + ax.transAxes.inverted()
    taken = [np.array((0.5, 0.5))]  # the star
    for lines in levels:
        # A line shorter than its label would vanish under it.
        lines = [to_fraction.transform(line) for line in lines if len(line)]
        long = [line for line in lines if np.ptp(line, axis=0).max() > 0.15]
        if not long:
            continue
        points = np.concatenate(long)
        inside = ((points > 0.07) & (points < 0.93)).all(axis=1)
        points = points[inside & ~((points[:, 0] > 0.4) & (points[:, 1] > 0.85))]
        if len(points):
            distances = np.linalg.norm(points[:, None] - np.array(taken), axis=2).min(axis=1)
            taken.append(points[distances.argmax()])
    return [tuple(position) for position in to_fraction.inverted().transform(taken[1:])] if taken[1:] else []


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
        marker="o", markersize=1.8, color="white", markeredgecolor="black", markeredgewidth=0.3,
    )  # fmt: skip


def _draw_hatching(ax: Axes, edges: tuple[np.ndarray, ...], bad: np.ndarray, label: str) -> None:
    """Hatch the cells of the mask ``bad`` [n, m], which lie between the edges x [n + 1] and y [m + 1]."""
    x, y = edges
    i, j = np.nonzero(bad)
    corners = [(x[i + di], y[j + dj]) for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))]
    vertices = np.array(corners).transpose(2, 0, 1).reshape(-1, 2)  # five per cell, the last one closes it
    codes = np.tile([Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY], len(i))
    patch = PathPatch(
        Outline(vertices, codes), facecolor="0.92", edgecolor="0.35", hatch="////", linewidth=0, zorder=0.5,
        label=label,
    )  # fmt: skip
    patch.sticky_edges.x[:], patch.sticky_edges.y[:] = x[[0, -1]], y[[0, -1]]
    ax.add_patch(patch)
    ax.autoscale_view()
