"""Bands of colour over a plane, with contour lines and the values at which these lie."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.transforms import Transform

from landscape.plotting.legends import free_corner, legend_entries
from landscape.plotting.room import text_width
from landscape.plotting.scales import Scale, level_text
from landscape.plotting.sizes import scaled

__all__ = ["ORIGIN", "Numbers", "draw_bands"]

LINES = 12  # labelled contour lines at most, so that their labels have room
EDGE = 0.07  # of the frame, that labels keep away from its sides
SIZE = 7  # of the labels
ORIGIN = np.zeros((1, 2))
Grid = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Numbers:
    """Numbers at contour lines, and what they keep clear of."""

    frame: tuple[float, float]  # about the width and height of the frame, in points
    marks: np.ndarray = field(default_factory=lambda: ORIGIN)  # places [n, 2] in the coordinates of the plane
    legend: Sequence[str] | None = ()  # labels that its legend will have beside those drawn; None: it has no legend


def draw_bands(
    ax: Axes,
    axes: tuple[np.ndarray, ...],
    values: np.ndarray,
    scale: Scale,
    levels: int | Sequence[float],
    numbers: Numbers | None,
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
    elif numbers is not None:
        lines = scale.round_levels(_most_lines(numbers.frame))
    else:
        lines = edges[1 : -1 : max(1, levels // 10)]
    crossed = lines[(lines > np.nanmin(values)) & (lines < np.nanmax(values))]
    if len(crossed):
        _draw_lines(ax, grid, crossed, scale, numbers)
    return filled


def _most_lines(frame: tuple[float, float]) -> int:
    """How many labelled lines the frame has room for: one for two lines of text along its shorter side."""
    return int(np.clip(round(min(frame) / scaled(20)), 3, LINES))


def _draw_lines(ax: Axes, grid: Grid, levels: np.ndarray, scale: Scale, numbers: Numbers | None) -> None:
    """Contour lines at ``levels``, light on dark colours and dark on light ones, with their values where asked for."""
    colors = matplotlib.colormaps.get_cmap(scale.colormap)(scale.norm(levels))[:, :3]
    tones = np.where(colors @ (0.299, 0.587, 0.114) < 0.5, 1.0, 0.0)  # luminance of ITU-R BT.601
    width = scaled(0.3 if numbers is None else 0.4)
    lines = ax.contour(
        *grid, levels=levels, colors=[(tone, tone, tone, 0.55) for tone in tones], linewidths=width, linestyles="solid"
    )
    if numbers is None:
        return
    size = scaled(SIZE)
    longest = max(text_width(level_text(level), size) for level in levels)
    ax.clabel(
        lines, levels, manual=_label_positions(ax, lines.allsegs, longest, numbers), fmt=level_text,
        colors=[str(tone) for tone in tones], fontsize=size, inline_spacing=2,
    )  # fmt: skip


def _label_positions(
    ax: Axes, levels: list[list[np.ndarray]], longest: float, numbers: Numbers
) -> list[tuple[float, float]]:
    """At most one position per level: away from frame, legend and marks, and far from the positions before it.

    ``longest`` is the width of the longest label in points; labels nearer to each other than this might overlap.
    """
    to_fraction: Transform = ax.transData + ax.transAxes.inverted()
    frame = np.array(numbers.frame)
    margin = 0.6 * longest / frame
    edge, marks = np.maximum(EDGE, margin), to_fraction.transform(numbers.marks)
    labels = [str(entry.get_label()) for entry in legend_entries(ax)]
    corner = None if numbers.legend is None else free_corner(ax, [*labels, *numbers.legend], marks)
    positions: list[np.ndarray] = []
    for lines in levels:
        # A line shorter than its label would vanish under it.
        lines = [to_fraction.transform(line) for line in lines if len(line)]
        long = [line for line in lines if np.ptp(line * frame, axis=0).max() > max(0.15 * frame[0], 1.5 * longest)]
        if not long:
            continue
        points = np.concatenate(long)
        inside = ((points > edge) & (points < 1 - edge)).all(axis=1)
        points = points[inside if corner is None else inside & ~corner.covers(points, margin)]
        if not len(points):
            continue
        distances = np.linalg.norm((points[:, None] - [*marks, *positions]) * frame, axis=2).min(axis=1)
        if distances.max() > 1.15 * longest:
            positions.append(points[distances.argmax()])
    return [tuple(position) for position in to_fraction.inverted().transform(positions)] if positions else []
