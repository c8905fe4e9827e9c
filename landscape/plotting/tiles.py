"""Many planes as small tiles in one figure."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.checks import check_choice
from landscape.errors import InputError
from landscape.escaping import math_free
from landscape.plotting.captions import common_title, quantity_label
from landscape.plotting.panels import (
    check_counts,
    draw_bar_beside,
    draw_head,
    draw_shared_bar,
    label_panels,
    panel_axes,
)
from landscape.plotting.planes import draw_plane
from landscape.plotting.scales import Scale, color_scale, on_log_scale
from landscape.plotting.values import plane_values
from landscape.results import Surface

__all__ = ["plot_tiles"]

ColorScale = Literal["global", "quantile", "individual"]


def plot_tiles(
    surfaces: Sequence[Surface],
    *,
    images: Sequence[np.ndarray | None] | None = None,
    titles: Sequence[str] | None = None,
    color_scale: ColorScale = "global",
    columns: int = 5,
    log_scale: bool = False,
) -> Figure:
    """Draw one contour tile for each plane, row by row, with an optional image in its corner.

    Args:
        surfaces: Surfaces over planes.
        images: Image of each tile, [H, W] or [H, W, 3] in [0, 1], or None.
        titles: Title of each tile.
        color_scale: Range of the colours: "global" (the finite losses of all tiles), "quantile" (the 2nd to 98th
            percentile of all; the ends of the bar are arrows) or "individual" (each tile has its own range and bar).
        columns: Number of tiles in a row.
        log_scale: Logarithmic colours. Losses at or below 0 are drawn like the smallest positive one of all tiles; a
            warning and the label say so.

    Raises:
        InputError: there are no surfaces, lists of different lengths, an unknown colour scale, fewer than one column,
            or a line among the planes.
    """
    check_counts("plot_tiles", surfaces, images=images, titles=titles)
    if columns < 1:
        raise InputError(f"columns must be at least 1, not {columns}")
    losses = [plane_values(surface, "loss") for surface in surfaces]
    planes, log_scale, clipped = on_log_scale(losses, log_scale)
    scales = _tile_scales(planes, color_scale, log_scale)
    size = (2.35 if color_scale == "individual" else 1.95, 2.15)
    figure, axes = panel_axes(surfaces, min(columns, len(surfaces)), size, margin=(1.2, 1.15), tick_size=7)
    for k, (ax, surface, values) in enumerate(zip(axes, surfaces, planes, strict=True)):
        scale = scales[k]
        filled = draw_plane(ax, surface, values, scale)
        if color_scale == "individual" and filled is not None and scale is not None:
            draw_bar_beside(filled, scale, "", ticks=4, size=7)
        if titles is not None:
            ax.set_title(math_free(titles[k]), fontsize=8)
        image = None if images is None else images[k]
        if image is not None:
            _draw_thumbnail(ax, image)
    label = quantity_label(surfaces, "loss", log_scale, clipped)
    note = None
    if color_scale == "individual":
        note = f"{label}, each tile on its own colour scale"
    elif (shared := scales[0]) is not None:
        draw_shared_bar(figure, axes, planes, shared, label)
    label_panels(figure, axes, surfaces)
    draw_head(figure, axes, common_title(surfaces), note)
    return figure


def _tile_scales(planes: list[np.ndarray], kind: ColorScale, log_scale: bool) -> list[Scale | None]:
    """The colour scale of every tile."""
    check_choice("colour scale", kind, get_args(ColorScale))
    if kind == "individual":
        return [color_scale([values], log_scale) for values in planes]
    percentiles = (2, 98) if kind == "quantile" else (0, 100)
    return [color_scale(planes, log_scale, percentiles=percentiles)] * len(planes)


def _draw_thumbnail(ax: Axes, image: np.ndarray) -> None:
    inset = ax.inset_axes((0.03, 0.69, 0.28, 0.28))
    inset.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    inset.set(xticks=[], yticks=[])
    inset.set_in_layout(False)
    inset.spines[:].set(color="white", linewidth=0.8)
