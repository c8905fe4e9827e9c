"""Several planes on one colour scale, their difference, and their mean and spread."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from typing_extensions import Unpack

from landscape.checks import check_texts, check_type
from landscape.plotting.axes import whole
from landscape.plotting.bands import Numbers
from landscape.plotting.captions import LENGTHS, numbers_text, quantity_label, relative_norms
from landscape.plotting.looks import Look, PlaneLook, look_of
from landscape.plotting.panels import (
    NOTE_SIZE,
    TITLE_SIZE,
    Frames,
    check_counts,
    check_same_grid,
    draw_bar_beside,
    draw_head,
    draw_shared_bar,
    draw_title,
    head_of,
    label_panels,
    panel_axes,
    room_for_panels,
)
from landscape.plotting.planes import SMALL_STAR, Style, check_style, draw_plane
from landscape.plotting.room import wrapped
from landscape.plotting.scales import Scale, color_scale, diverging_scale, on_log_scale
from landscape.plotting.sizes import scaled
from landscape.plotting.values import plane_values
from landscape.results import Surface
from landscape.results.comparability import check_same_plane_kind, differences

__all__ = ["plot_comparison", "plot_difference", "plot_spread"]

NUMBERED = 90  # points at a font size of 10: contour lines of smaller panels have no numbers
PANEL = 2.5  # inches: the width of a panel and of the space beside it


def plot_comparison(
    surfaces: Sequence[Surface] | Mapping[str, Surface],
    *,
    figure: Figure | SubFigure | None = None,
    titles: Sequence[str] | None = None,
    log_scale: bool = False,
    style: Style = "contour",
    quantity: str = "loss",
    **look: Unpack[PlaneLook],
) -> Figure:
    """Draw one panel per plane, all with the same colours, the same levels and one colour bar.

    The text above each panel is its title, its value at the centre, its range and, if it differs between panels,
    |d|/|θ|. If the planes differ in their data, loss or BatchNorm policy, the head of the figure says so. Points whose
    value is NaN or infinite are hatched. Contour lines lie at round numbers, which label them where there is room.

    Args:
        surfaces: Surfaces over planes, or a mapping title -> surface.
        figure: Figure or subfigure to draw into; None makes a new figure of pyplot.
        titles: Title of each panel; default: the keys of the mapping, or none.
        log_scale: Logarithmic colours. Values at or below 0 are drawn like the smallest positive one of all planes; a
            warning and the label say so.
        style: "contour", or "heatmap" for one cell around each grid point.
        quantity: "loss", "accuracy", "standard_error", or one that all surfaces have beside these.
        look: ``cmap``, ``levels`` (of the style "contour"), ``vmin``, ``vmax``, ``title`` (of the figure) and ``star``;
            see `PlaneLook`. Without ``vmin`` and ``vmax`` the colours have the range of all planes; arrows on the bar
            show that values exceed the limits.

    Returns:
        The whole figure.

    Raises:
        InputError: there are no surfaces, a number of titles that is not theirs, a line among the planes, an unknown
            style, a quantity that is unknown or not computed, or a look that cannot be drawn.
    """
    if isinstance(surfaces, Mapping):
        titles, surfaces = [*map(str, surfaces)] if titles is None else titles, list(surfaces.values())
    check_texts("titles", titles)
    check_counts("plot_comparison", surfaces, titles=titles)
    shown = look_of("plot_comparison", PlaneLook, look, log_scale)
    check_style(style, shown.levels)
    exact = [plane_values(surface, quantity) for surface in surfaces]
    planes, log_scale, clipped = on_log_scale(exact, log_scale)
    scale = color_scale(planes, log_scale, shown)
    rows = max(1, round(math.sqrt(len(surfaces) / 1.4)))
    frames = room_for_panels(math.ceil(len(surfaces) / rows), PANEL, 1.2, figure)
    heads = _heads(titles or [""] * len(surfaces), _notes(surfaces, exact), frames)
    canvas, axes = _panels(surfaces, frames, heads, head_of(surfaces, shown, frames, figure), figure)
    numbers = _numbers(frames)
    for ax, surface, values in zip(axes, surfaces, planes, strict=True):
        draw_plane(
            ax, surface, values, scale, levels=shown.levels, style=style, star=SMALL_STAR * shown.star, numbers=numbers
        )  # fmt: skip
    if scale is not None:
        draw_shared_bar(canvas, axes, planes, scale, quantity_label(surfaces, quantity, log_scale, clipped))
    _dress(canvas, axes, surfaces, heads, head_of(surfaces, shown, frames, figure))
    return whole(canvas)


def plot_difference(
    first: Surface,
    second: Surface,
    *,
    figure: Figure | SubFigure | None = None,
    titles: Sequence[str] | None = None,
    log_scale: bool = False,
    style: Style = "contour",
    quantity: str = "loss",
    **look: Unpack[PlaneLook],
) -> Figure:
    """Draw two planes on one colour scale, and beside them the second minus the first.

    The third panel has its own diverging colours, centred at zero: red where the second plane is higher, blue where it
    is lower. With ``log_scale`` it shows the second divided by the first, in logarithmic colours centred at one. Points
    whose value is NaN or infinite in either plane are hatched. The other arguments are those of `plot_comparison`; the
    look is that of the two planes.

    Raises:
        InputError: the planes have different grids; they belong to different networks or random directions, so that
            their points do not correspond; or `plot_comparison` would refuse the arguments.
    """
    for surface in (first, second):
        check_type(surface, Surface, "plot_difference(first, second)", "a Surface, as ll.evaluate returns it")
    surfaces = [first, second]
    check_texts("titles", titles)
    check_counts("plot_difference", surfaces, titles=titles)
    shown = look_of("plot_difference", PlaneLook, look, log_scale)
    check_style(style, shown.levels)
    check_same_grid(surfaces)
    check_same_plane_kind(surfaces)
    exact = [plane_values(surface, quantity) for surface in surfaces]
    planes, log_scale, clipped = on_log_scale(exact, log_scale)
    scale = color_scale(planes, log_scale, shown)
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
    notes = [*_notes(surfaces, exact), numbers_text(second, contrast)]
    return _row(surfaces, [*planes, contrast], scales, bars, titles, notes, style, shown, figure)


def plot_spread(
    surfaces: Sequence[Surface],
    *,
    figure: Figure | SubFigure | None = None,
    log_scale: bool = False,
    style: Style = "contour",
    quantity: str = "loss",
    **look: Unpack[PlaneLook],
) -> Figure:
    """Draw the mean of P planes on one grid, such as random planes of several seeds, and their standard deviation.

    The standard deviation is that of a sample (division by P - 1). With ``log_scale`` the mean has logarithmic colours
    and the second panel shows the standard deviation divided by the mean. Every panel has its own colour bar. Points
    whose value is NaN or infinite in any plane are hatched. Limits and several levels of the look are those of the
    mean.

    Raises:
        InputError: there are fewer than two planes, they have different grids, or `plot_comparison` would refuse the
            arguments.
    """
    check_counts("plot_spread", surfaces, least=2)
    shown = look_of("plot_spread", PlaneLook, look, log_scale)
    check_style(style, shown.levels)
    check_same_grid(surfaces)
    planes = [plane_values(surface, quantity) for surface in surfaces]
    exact, deviation = np.mean(planes, 0), np.std(planes, 0, ddof=1)
    (mean,), log_scale, clipped = on_log_scale([exact], log_scale)
    scale = color_scale([mean], log_scale, shown)
    spread = deviation / mean if log_scale else deviation
    scales = [scale, color_scale([spread], False, Look(cmap=shown.cmap))]
    share = " / mean" * log_scale
    titles = [f"mean over {len(surfaces)} planes", f"standard deviation{share}"]
    bars = [quantity_label(surfaces, quantity, log_scale, clipped), f"standard deviation{share}"]
    notes = [numbers_text(surfaces[0], values) for values in (exact, spread)]
    return _row(surfaces, [mean, spread], scales, bars, titles, notes, style, shown, figure)


def _row(
    surfaces: Sequence[Surface],
    planes: Sequence[np.ndarray],
    scales: Sequence[Scale | None],
    bars: Sequence[str],
    titles: Sequence[str],
    notes: list[str],
    style: Style,
    look: Look,
    figure: Figure | SubFigure | None,
) -> Figure:
    """One panel for each of ``planes``, computed from ``surfaces``; each has its scale and, if labelled, its bar."""
    surface, own, star = surfaces[0], Look().levels, SMALL_STAR * look.star
    frames = room_for_panels(len(planes), PANEL, 1.6, figure)
    heads, head = _heads(titles, notes, frames), head_of(surfaces, look, frames, figure)
    canvas, axes = _panels([surface] * len(planes), frames, heads, head, figure, margin=1.6)
    for ax, values, scale, label in zip(axes, planes, scales, bars, strict=True):
        levels = look.levels if isinstance(look.levels, int) or scale is scales[0] else own
        filled = draw_plane(
            ax, surface, values, scale, levels=levels, style=style, star=star, numbers=_numbers(frames)
        )  # fmt: skip
        if filled is not None and scale is not None and label:
            draw_bar_beside(filled, scale, label)
    _dress(canvas, axes, surfaces, heads, head)
    return whole(canvas)


def _numbers(frames: Frames) -> Numbers | None:
    """Numbers at the contour lines of panels that have room for them; the legend stands above all panels."""
    return Numbers((frames.side, frames.side), legend=None) if frames.side > scaled(NUMBERED) else None


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


def _heads(titles: Sequence[str], notes: list[str], frames: Frames) -> list[tuple[str, str]]:
    """Title and notes of every panel, wrapped to its width."""
    width = 0.9 * frames.width
    return [
        (
            wrapped(title, width, scaled(TITLE_SIZE)),
            "\n".join(wrapped(line, width, scaled(NOTE_SIZE)) for line in text.splitlines()),
        )
        for title, text in zip(titles, notes, strict=True)
    ]


def _panels(
    surfaces: Sequence[Surface],
    frames: Frames,
    heads: list[tuple[str, str]],
    head: str,
    figure: Figure | SubFigure | None,
    margin: float = 1.2,
) -> tuple[Figure | SubFigure, list[Axes]]:
    """A figure of axes with their titles and notes."""
    lines = [max(text.count("\n") + 1 if text else 0 for text in texts) for texts in zip(*heads, strict=True)]
    above = scaled(1.3 * (lines[0] * TITLE_SIZE + lines[1] * NOTE_SIZE))
    canvas, axes = panel_axes(surfaces, frames, above, (margin, 0.95), 8, figure, head)
    if figure is None and isinstance(engine := whole(canvas).get_layout_engine(), ConstrainedLayoutEngine):
        engine.set(
            w_pad=scaled(0.07), h_pad=scaled(0.09)
        )  # keeps the last tick label of a panel apart from the first of the next
    for ax, texts in zip(axes, heads, strict=True):
        draw_title(ax, *texts)
    return canvas, axes


def _dress(
    figure: Figure | SubFigure, axes: list[Axes], surfaces: Sequence[Surface], heads: list[tuple[str, str]], head: str
) -> None:
    """Draw the axis labels and the head, which warns if the losses of the panels are not comparable."""
    lengths = label_panels(figure, axes, surfaces) or any(relative_norms(surfaces[0]) in note for _, note in heads)
    aspects = differences([surface.metadata for surface in surfaces])
    notes = [f"Caution: the panels differ in {' and '.join(aspects)}"] if aspects else []
    draw_head(figure, axes, head, [*notes, LENGTHS] if lengths else notes)
