"""Bands of colour over a plane, with contour lines and the values at which these lie."""

from collections.abc import Sequence
from dataclasses import replace

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.font_manager import FontProperties
from matplotlib.transforms import Transform

from landscape.plotting.axes import legend_entries
from landscape.plotting.room import room_of, text_width
from landscape.plotting.scales import Scale, level_text
from landscape.plotting.sizes import scaled, text_size

__all__ = ["draw_bands"]

LINES = 12  # labelled contour lines at most, so that their labels have room
EDGE = 0.07  # of the frame, that labels keep away from its sides
SIZE = 7  # of the labels
Grid = tuple[np.ndarray, np.ndarray, np.ndarray]


def draw_bands(
    ax: Axes,
    axes: tuple[np.ndarray, ...],
    values: np.ndarray,
    scale: Scale,
    levels: int | Sequence[float],
    label_lines: bool,
) -> QuadContourSet:
    """Filled bands between ``levels``, and thin lines: at every third of 30 edges, or labelled ones at round numbers.

    Labelled lines lie at the ``levels`` where these are given as numbers.
    """
    edges = scale.edges(levels)
    alphas, betas = axes
    grid = (alphas, betas, np.ma.masked_invalid(values.T))
    filled = ax.contourf(
        *grid, levels=edges, cmap=scale.colormap, norm=scale.norm, extend=scale.extension(values)
    )  # fmt: skip
    if not isinstance(levels, int):
        lines = edges
    elif label_lines:
        lines = scale.round_levels(_most_lines(ax))
    else:
        lines = edges[1 : -1 : max(1, levels // 10)]
    crossed = lines[(lines > np.nanmin(values)) & (lines < np.nanmax(values))]
    if len(crossed):
        _draw_lines(ax, grid, crossed, scale, label_lines)
    return filled


def _most_lines(ax: Axes) -> int:
    """How many labelled lines the frame has room for: one for two lines of text along its shorter side."""
    return int(np.clip(round(min(_frame(ax)) / scaled(20)), 3, LINES))


def _frame(ax: Axes) -> tuple[float, float]:
    """About the width and height of the frame beside the colour bar that it will get, in points."""
    return replace(room_of(ax), bar=True).inside


def _draw_lines(ax: Axes, grid: Grid, levels: np.ndarray, scale: Scale, label_lines: bool) -> None:
    """Contour lines at ``levels``, light on dark colours and dark on light ones, with their values where asked for."""
    colors = matplotlib.colormaps.get_cmap(scale.colormap)(scale.norm(levels))[:, :3]
    tones = np.where(colors @ (0.299, 0.587, 0.114) < 0.5, 1.0, 0.0)  # luminance of ITU-R BT.601
    width = scaled(0.4 if label_lines else 0.3)
    lines = ax.contour(
        *grid, levels=levels, colors=[(tone, tone, tone, 0.55) for tone in tones], linewidths=width, linestyles="solid"
    )
    if not label_lines:
        return
    size = scaled(SIZE)
    longest = max(text_width(level_text(level), size) for level in levels)
    ax.clabel(
        lines, levels, manual=_label_positions(ax, lines.allsegs, longest), fmt=level_text,
        colors=[str(tone) for tone in tones], fontsize=size, inline_spacing=2,
    )  # fmt: skip


def _label_positions(ax: Axes, levels: list[list[np.ndarray]], longest: float) -> list[tuple[float, float]]:
    """At most one position per level: away from the frame and the legend, far from the positions before it.

    ``longest`` is the width of the longest label in points; labels nearer to each other than this might overlap.
    """
    to_fraction: Transform = ax.transData + ax.transAxes.inverted()
    frame = np.array(_frame(ax))
    edge, clear = np.maximum(EDGE, 0.6 * longest / frame), 1 - (_legend_size(ax) + 0.6 * longest) / frame
    taken = [to_fraction.transform((0.0, 0.0))]  # the star
    for lines in levels:
        # A line shorter than its label would vanish under it.
        lines = [to_fraction.transform(line) for line in lines if len(line)]
        long = [line for line in lines if np.ptp(line * frame, axis=0).max() > max(0.15 * frame[0], 1.5 * longest)]
        if not long:
            continue
        points = np.concatenate(long)
        inside = ((points > edge) & (points < 1 - edge)).all(axis=1) & (points < clear).any(axis=1)
        points = points[inside]
        if not len(points):
            continue
        distances = np.linalg.norm((points[:, None] - np.array(taken)) * frame, axis=2).min(axis=1)
        if distances.max() > 1.15 * longest:
            taken.append(points[distances.argmax()])
    return [tuple(position) for position in to_fraction.inverted().transform(taken[1:])] if taken[1:] else []


def _legend_size(ax: Axes) -> np.ndarray:
    """About the width and height of the legend at the upper right, in points."""
    size = text_size(8, "legend.fontsize")
    widths = [text_width(str(entry.get_label()), size) for entry in legend_entries(ax)]
    line = FontProperties(size=size).get_size_in_points()
    return np.array((max(widths) + 5 * line, (1.7 * len(widths) + 2) * line) if widths else (0.0, 0.0))
