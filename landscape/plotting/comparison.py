"""Several planes on one colour scale, and what tells them apart."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from landscape.plotting.captions import common_title, numbers_text, quantity_label, relative_norms
from landscape.plotting.panels import (
    NOTE_SIZE,
    TITLE_SIZE,
    check_counts,
    check_same_grid,
    draw_bar_beside,
    draw_head,
    draw_shared_bar,
    draw_title,
    label_panels,
    panel_axes,
    wrapped,
)
from landscape.plotting.planes import check_style, draw_plane
from landscape.plotting.scales import Scale, color_scale, diverging_scale, on_log_scale
from landscape.plotting.values import plane_values
from landscape.results import Surface
from landscape.results.comparability import check_same_plane_kind, differences

__all__ = ["plot_comparison", "plot_difference", "plot_spread"]

PANEL = 2.5  # inches, the width of a panel with the space beside it
TITLE_WIDTH = 0.9 * 72 * PANEL  # points


def plot_comparison(
    surfaces: Sequence[Surface],
    *,
    titles: Sequence[str] | None = None,
    levels: int = 30,
    log_scale: bool = False,
    style: str = "contour",
    quantity: str = "loss",
    vmin: float | None = None,
    vmax: float | None = None,
) -> Figure:
    """One panel per plane, all on one colour scale with the same levels and one colour bar.

    The scale runs from ``vmin`` to ``vmax`` (default: the extremes of the finite values of all planes); where values
    go beyond it, the bar ends in arrows. Above each panel stand its title, its own value at the centre and range, and
    |d|/|θ| where that differs between panels. Networks on other data, with another loss or BatchNorm policy are drawn,
    but the head says so. ``style`` is "contour" (``levels`` bands) or "heatmap" (cells whose middles are the grid
    points); points that are NaN or infinite are hatched. On a log scale, values at or below 0 are drawn at the
    smallest positive one of all planes, which a warning and the label say. The figure is made through pyplot.

    Raises:
        InputError: no surfaces, titles of another number, a line among the planes, fewer than two levels, limits in
            the wrong order, an unknown style, or a quantity that is unknown or was not computed.
    """
    check_counts("plot_comparison", surfaces, titles=titles)
    check_style(style, levels)
    found = [plane_values(surface, quantity) for surface in surfaces]
    planes, log_scale, clipped = on_log_scale(found, log_scale)
    scale = color_scale(planes, log_scale, vmin, vmax)
    rows = max(1, round(math.sqrt(len(surfaces) / 1.4)))
    heads = _heads(titles or [""] * len(surfaces), _notes(surfaces, found))
    figure, axes = _panels(surfaces, math.ceil(len(surfaces) / rows), heads)
    for ax, surface, values in zip(axes, surfaces, planes, strict=True):
        draw_plane(ax, surface, values, scale, levels=levels, style=style)
    if scale is not None:
        draw_shared_bar(figure, axes, planes, scale, quantity_label(surfaces, quantity, log_scale, clipped))
    _dress(figure, axes, surfaces)
    return figure


def plot_difference(
    first: Surface,
    second: Surface,
    *,
    titles: Sequence[str] | None = None,
    levels: int = 30,
    log_scale: bool = False,
    style: str = "contour",
    quantity: str = "loss",
) -> Figure:
    """Two planes on one colour scale, and beside them the second minus the first.

    The third panel has its own diverging scale, centred at zero: red where the second is higher, blue where it is
    lower. With ``log_scale`` it is the ratio, second divided by first, on a log scale centred at one. A point that is
    NaN or infinite in either plane is hatched. The other arguments are as in `plot_comparison`.

    Raises:
        InputError: planes on different grids, of other networks or along other random directions, where no point of
            one belongs to a point of the other; and what `plot_comparison` refuses.
    """
    surfaces = [first, second]
    check_counts("plot_difference", surfaces, titles=titles)
    check_style(style, levels)
    check_same_grid(surfaces)
    check_same_plane_kind(surfaces)
    found = [plane_values(surface, quantity) for surface in surfaces]
    planes, log_scale, clipped = on_log_scale(found, log_scale)
    scale = color_scale(planes, log_scale)
    contrast = _ratio(planes[1], planes[0]) if log_scale else planes[1] - planes[0]
    names = titles or ("first", "second")
    titles = [*names, f"{names[1]} {'divided by' if log_scale else 'minus'} {names[0]}"]
    name = quantity.replace("_", " ")
    bars = [
        "",
        quantity_label(surfaces, quantity, log_scale, clipped),
        f"{name}, second ÷ first (log scale)" if log_scale else f"{name}, second − first",
    ]
    scales = [scale, scale, diverging_scale(contrast, log_scale)]
    heads = _heads(titles, [*_notes(surfaces, found), numbers_text(second, contrast)])
    return _row(surfaces, [*planes, contrast], scales, bars, heads, levels, style)


def plot_spread(
    surfaces: Sequence[Surface],
    *,
    levels: int = 30,
    log_scale: bool = False,
    style: str = "contour",
    quantity: str = "loss",
) -> Figure:
    """Mean over several planes on one grid, such as random planes of several seeds, and their standard deviation.

    The standard deviation over P planes is that of a sample (division by P - 1). With ``log_scale`` the mean has a
    log scale and the second panel shows the standard deviation divided by the mean. Every panel has its own bar. A
    point that is NaN or infinite in any plane is hatched.

    Raises:
        InputError: fewer than two planes, planes on different grids, and what `plot_comparison` refuses.
    """
    check_counts("plot_spread", surfaces, least=2)
    check_style(style, levels)
    check_same_grid(surfaces)
    planes = [plane_values(surface, quantity) for surface in surfaces]
    exact, deviation = np.mean(planes, 0), np.std(planes, 0, ddof=1)
    (mean,), log_scale, clipped = on_log_scale([exact], log_scale)
    scale = color_scale([mean], log_scale)
    spread = deviation / mean if log_scale else deviation
    scales = [scale, color_scale([spread], False)]
    share = " / mean" * log_scale
    titles = [f"mean over {len(surfaces)} planes", f"standard deviation{share}"]
    bars = [quantity_label(surfaces, quantity, log_scale, clipped), f"standard deviation{share}"]
    heads = _heads(titles, [numbers_text(surfaces[0], values) for values in (exact, spread)])
    return _row(surfaces, [mean, spread], scales, bars, heads, levels, style)


def _row(
    surfaces: Sequence[Surface],
    planes: Sequence[np.ndarray],
    scales: Sequence[Scale | None],
    bars: Sequence[str],
    heads: list[tuple[str, str]],
    levels: int,
    style: str,
) -> Figure:
    """Panels of what was computed from ``surfaces`` on one grid, each with its own scale and, where named, bar."""
    surface = surfaces[0]
    figure, axes = _panels([surface] * len(planes), len(planes), heads, margin=1.6)
    for ax, values, scale, label in zip(axes, planes, scales, bars, strict=True):
        filled = draw_plane(ax, surface, values, scale, levels=levels, style=style)
        if filled is not None and scale is not None and label:
            draw_bar_beside(filled, scale, label)
    _dress(figure, axes, surfaces)
    return figure


def _ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """NaN where it is too large or too small for a number."""
    with np.errstate(over="ignore", under="ignore"):
        ratio = first / second
    return np.where(np.isfinite(ratio) & (ratio > 0), ratio, np.nan)


def _notes(surfaces: Sequence[Surface], planes: list[np.ndarray]) -> list[str]:
    """The numbers of each panel, and in a second line the lengths of its directions where these differ."""
    notes = [numbers_text(surface, values) for surface, values in zip(surfaces, planes, strict=True)]
    lengths = [relative_norms(surface) for surface in surfaces]
    return notes if len(set(lengths)) == 1 else [f"{a}\n{b}" for a, b in zip(notes, lengths, strict=True)]


def _heads(titles: Sequence[str], notes: list[str]) -> list[tuple[str, str]]:
    """Title and notes of every panel, wrapped to its width."""
    return [
        (
            wrapped(title, TITLE_WIDTH, TITLE_SIZE),
            "\n".join(wrapped(line, TITLE_WIDTH, NOTE_SIZE) for line in text.splitlines()),
        )
        for title, text in zip(titles, notes, strict=True)
    ]


def _panels(
    surfaces: Sequence[Surface], columns: int, heads: list[tuple[str, str]], margin: float = 1.2
) -> tuple[Figure, list[Axes]]:
    """Axes under their titles and notes."""
    lines = [max(text.count("\n") + 1 if text else 0 for text in texts) for texts in zip(*heads, strict=True)]
    height = PANEL + (lines[0] * TITLE_SIZE + lines[1] * NOTE_SIZE) * 1.3 / 72
    figure, axes = panel_axes(surfaces, columns, (PANEL, height), margin=(margin, 0.95), tick_size=8)
    if isinstance(engine := figure.get_layout_engine(), ConstrainedLayoutEngine):
        engine.set(w_pad=0.07)  # or the last tick label of a panel would meet the first of the next
    for ax, head in zip(axes, heads, strict=True):
        draw_title(ax, *head)
    return figure, axes


def _dress(figure: Figure, axes: list[Axes], surfaces: Sequence[Surface]) -> None:
    """Labels and the head, which warns where the losses are not of one kind."""
    label_panels(figure, axes, surfaces)
    aspects = differences([surface.metadata for surface in surfaces])
    warning = f"Caution: the panels differ in {' and '.join(aspects)}" if aspects else None
    draw_head(figure, axes, common_title(surfaces), warning)
