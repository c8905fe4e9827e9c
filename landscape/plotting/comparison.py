"""Several planes on one colour scale, their difference, and their mean and spread."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from landscape.checks import check_type
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
from landscape.plotting.planes import Style, check_style, draw_plane
from landscape.plotting.scales import Scale, color_scale, diverging_scale, on_log_scale
from landscape.plotting.values import plane_values
from landscape.results import Surface
from landscape.results.comparability import check_same_plane_kind, differences

__all__ = ["plot_comparison", "plot_difference", "plot_spread"]

PANEL = 2.5  # inches: the width of a panel and of the space beside it
TITLE_WIDTH = 0.9 * 72 * PANEL  # points


def plot_comparison(
    surfaces: Sequence[Surface],
    *,
    titles: Sequence[str] | None = None,
    levels: int = 30,
    log_scale: bool = False,
    style: Style = "contour",
    quantity: str = "loss",
    vmin: float | None = None,
    vmax: float | None = None,
) -> Figure:
    """Draw one panel per plane, all with the same colours, the same levels and one colour bar.

    The text above each panel is its title, its value at the centre, its range and, if it differs between panels,
    |d|/|θ|. If the planes differ in their data, loss or BatchNorm policy, the head of the figure says so. Points whose
    value is NaN or infinite are hatched. The figure belongs to pyplot.

    Args:
        surfaces: Surfaces over planes.
        titles: Title of each panel.
        levels: Number of bands of colour for the style "contour".
        log_scale: Logarithmic colours. Values at or below 0 are drawn like the smallest positive one of all planes; a
            warning and the label say so.
        style: "contour", or "heatmap" for one cell around each grid point.
        quantity: "loss", "accuracy", "standard_error", or one that all surfaces have beside these.
        vmin: Lower end of the colours; None: the smallest finite value of all planes.
        vmax: Upper end of the colours; None: the largest. Arrows on the bar show that values exceed the limits.

    Raises:
        InputError: there are no surfaces, a number of titles that is not theirs, a line among the planes, fewer than
            two levels, limits in the wrong order, an unknown style, or a quantity that is unknown or not computed.
    """
    check_counts("plot_comparison", surfaces, titles=titles)
    check_style(style, levels)
    exact = [plane_values(surface, quantity) for surface in surfaces]
    planes, log_scale, clipped = on_log_scale(exact, log_scale)
    scale = color_scale(planes, log_scale, vmin, vmax)
    rows = max(1, round(math.sqrt(len(surfaces) / 1.4)))
    heads = _heads(titles or [""] * len(surfaces), _notes(surfaces, exact))
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
    style: Style = "contour",
    quantity: str = "loss",
) -> Figure:
    """Draw two planes on one colour scale, and beside them the second minus the first.

    The third panel has its own diverging colours, centred at zero: red where the second plane is higher, blue where it
    is lower. With ``log_scale`` it shows the second divided by the first, in logarithmic colours centred at one. Points
    whose value is NaN or infinite in either plane are hatched. The other arguments are those of `plot_comparison`.

    Raises:
        InputError: the planes have different grids; they belong to different networks or random directions, so that
            their points do not correspond; or `plot_comparison` would refuse the arguments.
    """
    for surface in (first, second):
        check_type(surface, Surface, "plot_difference(first, second)", "a Surface, as ll.evaluate returns it")
    surfaces = [first, second]
    check_counts("plot_difference", surfaces, titles=titles)
    check_style(style, levels)
    check_same_grid(surfaces)
    check_same_plane_kind(surfaces)
    exact = [plane_values(surface, quantity) for surface in surfaces]
    planes, log_scale, clipped = on_log_scale(exact, log_scale)
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
    heads = _heads(titles, [*_notes(surfaces, exact), numbers_text(second, contrast)])
    return _row(surfaces, [*planes, contrast], scales, bars, heads, levels, style)


def plot_spread(
    surfaces: Sequence[Surface],
    *,
    levels: int = 30,
    log_scale: bool = False,
    style: Style = "contour",
    quantity: str = "loss",
) -> Figure:
    """Draw the mean of P planes on one grid, such as random planes of several seeds, and their standard deviation.

    The standard deviation is that of a sample (division by P - 1). With ``log_scale`` the mean has logarithmic colours
    and the second panel shows the standard deviation divided by the mean. Every panel has its own colour bar. Points
    whose value is NaN or infinite in any plane are hatched.

    Raises:
        InputError: there are fewer than two planes, they have different grids, or `plot_comparison` would refuse the
            arguments.
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
    style: Style,
) -> Figure:
    """One panel for each of ``planes``, computed from ``surfaces``; each has its scale and, if labelled, its bar."""
    surface = surfaces[0]
    figure, axes = _panels([surface] * len(planes), len(planes), heads, margin=1.6)
    for ax, values, scale, label in zip(axes, planes, scales, bars, strict=True):
        filled = draw_plane(ax, surface, values, scale, levels=levels, style=style)
        if filled is not None and scale is not None and label:
            draw_bar_beside(filled, scale, label)
    _dress(figure, axes, surfaces)
    return figure


def _ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``first`` / ``second``, NaN where that overflows, underflows or is not positive."""
    with np.errstate(over="ignore", under="ignore"):
        ratio = first / second
    return np.where(np.isfinite(ratio) & (ratio > 0), ratio, np.nan)


def _notes(surfaces: Sequence[Surface], planes: list[np.ndarray]) -> list[str]:
    """The numbers above each panel and, in a second line, the lengths of its directions if these differ."""
    notes = [numbers_text(surface, values) for surface, values in zip(surfaces, planes, strict=True)]
    lengths = [relative_norms(surface) for surface in surfaces]
    return notes if len(set(lengths)) == 1 else [f"{a}\n{b}" for a, b in zip(notes, lengths, strict=True)]


def _heads(titles: Sequence[str], notes: list[str]) -> list[tuple[str, str]]:
    """Title and notes of every panel, wrapped to the width of a panel."""
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
    """A figure of axes with their titles and notes."""
    lines = [max(text.count("\n") + 1 if text else 0 for text in texts) for texts in zip(*heads, strict=True)]
    height = PANEL + (lines[0] * TITLE_SIZE + lines[1] * NOTE_SIZE) * 1.3 / 72
    figure, axes = panel_axes(surfaces, columns, (PANEL, height), margin=(margin, 0.95), tick_size=8)
    if isinstance(engine := figure.get_layout_engine(), ConstrainedLayoutEngine):
        engine.set(w_pad=0.07)  # keeps the last tick label of a panel apart from the first of the next
    for ax, head in zip(axes, heads, strict=True):
        draw_title(ax, *head)
    return figure, axes


def _dress(figure: Figure, axes: list[Axes], surfaces: Sequence[Surface]) -> None:
    """Draw the axis labels and the head, which warns if the losses of the panels are not comparable."""
    label_panels(figure, axes, surfaces)
    aspects = differences([surface.metadata for surface in surfaces])
    warning = f"Caution: the panels differ in {' and '.join(aspects)}" if aspects else None
    draw_head(figure, axes, common_title(surfaces), warning)
