"""Many planes as small tiles in one figure."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from typing_extensions import Unpack

from landscape.checks import check_choice, check_texts, is_whole
from landscape.errors import InputError
from landscape.escaping import math_free
from landscape.plotting.axes import whole
from landscape.plotting.captions import LENGTHS, quantity_label
from landscape.plotting.looks import Look, PlaneLook, look_of
from landscape.plotting.panels import (
    check_counts,
    draw_bar_beside,
    draw_head,
    draw_shared_bar,
    head_of,
    label_panels,
    panel_axes,
    room_for_panels,
)
from landscape.plotting.planes import SMALL_STAR, draw_plane
from landscape.plotting.room import wrapped
from landscape.plotting.scales import Scale, on_log_scale
from landscape.plotting.scales import color_scale as shared_scale
from landscape.plotting.sizes import is_set, scaled
from landscape.plotting.values import plane_values
from landscape.results import Surface

__all__ = ["plot_tiles"]

ColorScale = Literal["global", "quantile", "individual"]


def plot_tiles(
    surfaces: Sequence[Surface],
    *,
    figure: Figure | SubFigure | None = None,
    images: Sequence[np.ndarray | None] | None = None,
    titles: Sequence[str] | None = None,
    color_scale: ColorScale = "global",
    columns: int = 5,
    log_scale: bool = False,
    quantity: str = "loss",
    **look: Unpack[PlaneLook],
) -> Figure:
    """Draw one contour tile for each plane, row by row, with an optional image in its corner.

    Args:
        surfaces: Surfaces over planes.
        figure: Figure or subfigure to draw into; None makes a new figure of pyplot.
        images: Image of each tile, [H, W] or [H, W, 3] in [0, 1], or None.
        titles: Title of each tile.
        color_scale: Range of the colours: "global" (the finite losses of all tiles), "quantile" (the 2nd to 98th
            percentile of all; the ends of the bar are arrows) or "individual" (each tile has its own range and bar).
        columns: Number of tiles in a row; fewer where the figure is narrow.
        log_scale: Logarithmic colours. Losses at or below 0 are drawn like the smallest positive one of all tiles; a
            warning and the label say so.
        quantity: As in `plot_comparison`.
        look: ``cmap``, ``levels``, ``vmin``, ``vmax``, ``title`` (of the figure) and ``star``, see `PlaneLook`; limits
            hold for all tiles, whatever their colour scale.

    Returns:
        The whole figure.

    Raises:
        InputError: there are no surfaces, lists of different lengths, an unknown colour scale, fewer than one column,
            or a line among the planes.
    """
    check_texts("titles", titles)
    check_counts("plot_tiles", surfaces, images=images, titles=titles)
    for image in () if images is None else images:
        _check_image(image)
    if not is_whole(columns) or columns < 1:
        raise InputError(f"columns must be a whole number of at least 1, not {columns!r}")
    shown = look_of("plot_tiles", PlaneLook, look, log_scale)
    exact = [plane_values(surface, quantity) for surface in surfaces]
    planes, log_scale, clipped = on_log_scale(exact, log_scale)
    scales = _tile_scales(planes, color_scale, log_scale, shown)
    frames = room_for_panels(min(columns, len(surfaces)), 2.35 if color_scale == "individual" else 1.95, 1.2, figure)
    head = head_of(surfaces, shown, frames, figure)
    above = scaled(30) if figure is not None or is_set("figure.figsize") else 72 * scaled(2.15) - frames.side
    canvas, axes = panel_axes(surfaces, frames, above, (1.2, 1.15), 7, figure, head)
    for k, (ax, surface, values) in enumerate(zip(axes, surfaces, planes, strict=True)):
        scale = scales[k]
        filled = draw_plane(ax, surface, values, scale, levels=shown.levels, star=SMALL_STAR * shown.star)
        if color_scale == "individual" and filled is not None and scale is not None:
            draw_bar_beside(filled, scale, "", ticks=4, size=7)
        if titles is not None:
            lines = [wrapped(line, 0.95 * frames.width, scaled(8)) for line in titles[k].split("\n")]
            ax.set_title(math_free("\n".join(lines)), fontsize=scaled(8))
        image = None if images is None else images[k]
        if image is not None:
            _draw_thumbnail(ax, image)
    label, notes = quantity_label(surfaces, quantity, log_scale, clipped), []
    if color_scale == "individual":
        notes = [f"{label}, each tile on its own colour scale"]
    elif (shared := scales[0]) is not None:
        draw_shared_bar(canvas, axes, planes, shared, label)
    if label_panels(canvas, axes, surfaces):
        notes.append(LENGTHS)
    draw_head(canvas, axes, head, notes)
    return whole(canvas)


def _tile_scales(planes: list[np.ndarray], kind: ColorScale, log_scale: bool, look: Look) -> list[Scale | None]:
    """The colour scale of every tile."""
    check_choice("colour scale", kind, get_args(ColorScale))
    if kind == "individual":
        return [shared_scale([values], log_scale, look) for values in planes]
    percentiles = (2, 98) if kind == "quantile" else (0, 100)
    return [shared_scale(planes, log_scale, look, percentiles)] * len(planes)


def _check_image(image: object) -> None:
    """Raise InputError unless ``image`` is None or an image."""
    values = np.asarray(0.0 if image is None else image)
    numbers = values.dtype.kind in "biuf"
    shaped = image is None or values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))
    if not numbers or not shaped or not values.size:
        what = f"of shape {list(values.shape)}" if numbers else repr(image)[:60]
        raise InputError(f"one of the images is {what}; it must be an array [H, W] or [H, W, 3], or None")


def _draw_thumbnail(ax: Axes, image: np.ndarray) -> None:
    inset = ax.inset_axes((0.03, 0.69, 0.28, 0.28))
    inset.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    inset.set(xticks=[], yticks=[])
    inset.set_in_layout(False)
    inset.spines[:].set(color="white", linewidth=0.8)
