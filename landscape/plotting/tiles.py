"""Many planes side by side."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure

from landscape.errors import InputError
from landscape.plotting.axes import COLORMAP, dress_bar, legend_entries, new_figure
from landscape.plotting.captions import axis_labels, quantity_label, title_of
from landscape.plotting.planes import draw_plane
from landscape.plotting.scales import color_limits, color_norm, extension
from landscape.plotting.values import plane_values
from landscape.results import Surface

__all__ = ["plot_tiles"]

COLOR_SCALES = ("global", "quantile", "individual")


def plot_tiles(
    surfaces: Sequence[Surface],
    *,
    images: Sequence[np.ndarray | None] | None = None,
    titles: Sequence[str] | None = None,
    color_scale: str = "global",
    columns: int = 5,
    log_scale: bool = False,
) -> Figure:
    """One contour tile per plane, row by row, with an image [H, W] or [H, W, 3] in [0, 1] in its corner.

    Colours run from the smallest to the largest finite loss of all tiles ("global"), over the 2nd to 98th
    percentile of all ("quantile", the bar ends in arrows), or over each tile's own range with a bar beside it
    ("individual"). The figure is made through pyplot.

    Raises:
        InputError: no surfaces, lists of different lengths, an unknown colour scale, fewer than one column,
            a line among the planes, or a log scale over losses that are not positive.
    """
    _check(surfaces, images, titles, color_scale, columns)
    planes = [plane_values(surface, "loss") for surface in surfaces]
    limits = _tile_limits(planes, color_scale, log_scale)
    figure, axes = _tile_axes(surfaces, columns, color_scale)
    for k, (ax, surface, values) in enumerate(zip(axes, surfaces, planes, strict=True)):
        filled = draw_plane(ax, surface, values, limits[k], 30, log_scale)
        if color_scale == "individual" and filled is not None:
            place = ax.inset_axes((1.03, 0, 0.06, 1))  # as high as the tile, which no layout reaches
            dress_bar(figure.colorbar(filled, cax=place), limits[k], log_scale, "", ticks=4, size=7)
        if titles is not None:
            ax.set_title(titles[k], fontsize=8)
        if images is not None and images[k] is not None:
            _draw_thumbnail(ax, images[k])
    label = quantity_label(surfaces[0], "loss", log_scale)
    note = None
    if color_scale == "individual":
        note = f"{label}, each tile on its own colour scale"
    elif limits[0] is not None:
        bar = _shared_bar(figure, axes, planes, limits[0], log_scale)
        dress_bar(bar, limits[0], log_scale, label, size=8)
    x_label, y_label = axis_labels(surfaces[0])
    figure.supxlabel(x_label, fontsize=9)
    figure.supylabel(y_label, fontsize=9)
    _draw_head(figure, axes, title_of(surfaces[0]), note)
    return figure


def _check(surfaces, images, titles, color_scale: str, columns: int) -> None:
    if not len(surfaces):
        raise InputError("plot_tiles got no surfaces")
    for name, items in (("images", images), ("titles", titles)):
        if items is not None and len(items) != len(surfaces):
            raise InputError(f"plot_tiles got {len(surfaces)} surfaces but {len(items)} {name}")
    if color_scale not in COLOR_SCALES:
        raise InputError(f"unknown colour scale {color_scale!r}; use one of {', '.join(COLOR_SCALES)}")
    if columns < 1:
        raise InputError(f"columns must be at least 1, not {columns}")


def _tile_limits(planes: list[np.ndarray], color_scale: str, log_scale: bool) -> list[tuple[float, float] | None]:
    """The colour limits of every tile."""
    if color_scale == "individual":
        return [color_limits(values, log_scale, "loss") for values in planes]
    percentiles = (2, 98) if color_scale == "quantile" else (0, 100)
    everything = np.concatenate([values.ravel() for values in planes])
    return [color_limits(everything, log_scale, "loss", percentiles=percentiles)] * len(planes)


def _tile_axes(surfaces: Sequence[Surface], columns: int, color_scale: str) -> tuple[Figure, list[Axes]]:
    """A figure with one square axes per surface; tick labels only at the edge where all share one grid."""
    columns = min(columns, len(surfaces))
    rows = math.ceil(len(surfaces) / columns)
    width = 2.35 if color_scale == "individual" else 1.95
    # The head (title, note, legend) needs 4 inches even above a single tile.
    figure = new_figure((max(4, width * columns + 1.2), 2.15 * rows + 1))
    first = surfaces[0]
    shared = all(np.array_equal(a, b) for s in surfaces for a, b in zip(s.axes, first.axes, strict=True))
    grid = figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared).ravel().tolist()
    for ax in grid[len(surfaces) :]:
        ax.remove()
    axes = grid[: len(surfaces)]
    for k, ax in enumerate(axes):
        ax.set_box_aspect(1)
        ax.tick_params(labelsize=7)
        # The lowest tile of a column may stand above a place that the last row leaves empty.
        ax.tick_params(labelbottom=not shared or k + columns >= len(axes))
    return figure, axes


def _shared_bar(
    figure: Figure, axes: list[Axes], planes: list[np.ndarray], limits: tuple[float, float], log_scale: bool
) -> Colorbar:
    everything = np.concatenate([values.ravel() for values in planes])
    mappable = ScalarMappable(color_norm(limits, log_scale), COLORMAP)
    return figure.colorbar(mappable, ax=axes, extend=extension(everything, limits), aspect=30, pad=0.01)


def _draw_head(figure: Figure, axes: list[Axes], title: str, note: str | None) -> None:
    """The title, and below it the legend under its note."""
    figure.suptitle(title, fontsize=10)
    handles = {handle.get_label().split(" (")[0]: handle for ax in axes for handle in legend_entries(ax)}
    if not handles and not note:
        return
    # Layouts put title and legend into the same place at the top; blank lines in the legend, as high as those of
    # the title (8 x 1.5 = 10 x 1.2 points), keep them apart.
    lines = [" "] * len(title.splitlines()) + ([note] if note else [])
    legend = figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=2, title="\n".join(lines),
        fontsize=8, title_fontsize=8, frameon=False, handlelength=1.4,
    )  # fmt: skip
    legend.get_title().set_linespacing(1.5)


def _draw_thumbnail(ax: Axes, image: np.ndarray) -> None:
    inset = ax.inset_axes((0.03, 0.69, 0.28, 0.28))
    inset.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    inset.set(xticks=[], yticks=[])
    inset.set_in_layout(False)
    inset.spines[:].set(color="white", linewidth=0.8)
