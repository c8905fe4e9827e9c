"""Figures of surfaces: numpy in, matplotlib out; drawing saves nothing and needs no torch."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from landscape.errors import InputError
from landscape.files import written_whole
from landscape.results import Surface

__all__ = ["plot_contour", "plot_slices", "plot_surface", "plot_tiles", "save_figure"]

COLORMAP = matplotlib.colormaps["viridis"]
# Blue, orange and vermillion of the colour-blind-safe set of Okabe and Ito.
CURVE_COLORS, STAR_COLOR = ("#0072B2", "#E69F00"), "#D55E00"
QUANTITIES = ("loss", "accuracy", "standard_error")
COLOR_SCALES = ("global", "quantile", "individual")
BETWEEN_MODELS = ("interpolation line", "three-point plane")
LOSS_NAMES = {"cross_entropy": "cross-entropy", "mse": "mean squared error"}
UNITS = {
    "filter": "filter-norm units",
    "layer": "units of layer-wise norms",
    "model": "units of the model's norm",
}


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
    """Filled contours of ``quantity`` over the plane, in ``levels`` bands with thin, partly labelled lines.

    The first axis runs to the right, the second upwards; a star marks the origin. Bands are equally wide from
    ``vmin`` to ``vmax`` (default: the extremes of the finite values), in the logarithm for ``log_scale``.
    Cells that touch a NaN or infinite point are hatched. Without ``ax`` a new pyplot figure is made.

    Raises:
        InputError: a line instead of a plane, fewer than two levels, limits in the wrong order, a quantity
            that is unknown or was not computed, or a log scale over values that are not positive.
    """
    values = _values(surface, quantity)
    if levels < 2:
        raise InputError(f"a contour figure needs at least 2 levels, not {levels}")
    limits = _limits(values, log_scale, quantity, vmin, vmax)
    ax = _axes_or_new(ax, (5.4, 4.4))
    filled = _draw_plane(ax, surface, values, limits, levels, log_scale, label_lines=True)
    if filled is not None:
        bar = ax.figure.colorbar(filled, ax=ax)
        _dress_bar(bar, limits, log_scale, _quantity_label(surface, quantity, log_scale))
    if handles := _marks(ax):
        ax.legend(handles=handles, loc="upper right", fontsize=8, framealpha=0.85, handlelength=1.4)
    _label(ax, _title(surface), *_axis_labels(surface))
    return ax


def plot_surface(surface: Surface, ax: Axes | None = None, *, log_scale: bool = False) -> Axes:
    """The loss over the plane as a 3-D surface with a star at the trained model; non-finite points are gaps.

    ``ax`` must be a 3-D axes; without it a new pyplot figure is made. ``log_scale`` draws log10 of the loss.

    Raises:
        InputError: a line instead of a plane, ``ax`` without a third axis, or a log scale over losses that
            are not positive.
    """
    values = _values(surface, "loss")
    limits = _limits(values, log_scale, "loss")
    if ax is not None and ax.name != "3d":
        raise InputError("plot_surface needs 3-D axes: figure.add_subplot(projection='3d')")
    ax = _axes_or_new(ax, (5.6, 4.8), projection="3d")
    height = np.log10(values) if log_scale else values
    x, y = np.meshgrid(surface.alphas, surface.betas, indexing="ij")
    if limits is not None:
        low, high = np.log10(limits) if log_scale else limits
        rows, columns = (min(n, 101) for n in values.shape)  # every cell, up to a size that still draws fast
        ax.plot_surface(
            x, y, height, cmap=COLORMAP, vmin=low, vmax=high, rcount=rows, ccount=columns,
            edgecolor=(0, 0, 0, 0.25), linewidth=0.15,
        )  # fmt: skip
        ax.set_zlim(low, high)
    _draw_star_3d(ax, surface, height)
    ax.set(xlim=surface.alphas[[0, -1]], ylim=surface.betas[[0, -1]])
    _dress_3d(ax, limits if log_scale else None)
    if count := int((~np.isfinite(values)).sum()):
        ax.text2D(0, 0.97, f"gaps: {_count_text(count, values.size)}", transform=ax.transAxes, fontsize=8)
    _label(ax, _title(surface), *_axis_labels(surface, separator="\n"), size=9)
    if not ax.get_zlabel():
        ax.set_zlabel(_quantity_label(surface, "loss", log_scale), labelpad=5, fontsize=9)
    return ax


def plot_slices(surface: Surface, ax: Axes | None = None, *, log_scale: bool = False) -> Axes:
    """The loss along each axis through the grid point nearest the origin, in a band of 2 standard errors.

    A line gives its one curve. NaN and infinite points are gaps in the curve, with a cross at the upper edge.

    Raises:
        InputError: a log scale over losses that are not positive.
    """
    curves = _curves(surface)
    for curve in curves:
        _limits(_finite_or_nan(curve[1]), log_scale, "loss")
    ax = _axes_or_new(ax, (5.6, 3.8))
    if log_scale:
        ax.set_yscale("log", nonpositive="clip")
    ax.axvline(0, color="0.8", linewidth=0.8, zorder=0.5)
    for k, (axis, loss, error, name) in enumerate(curves):
        _draw_curve(ax, axis, loss, error, name, k)
    at_origin = _at_origin(surface, surface.loss)
    # Between the grid points of a plane the curves pass beside the origin, so a star would not lie on them.
    on_curves = surface.betas is None or all(_zero_index(axis) is not None for axis in surface.axes)
    if on_curves and math.isfinite(at_origin):
        ax.plot([0], [at_origin], label=_origin_name(surface), **_star(11))
    if any(np.isfinite(error).any() for _, _, error, _ in curves):
        ax.fill_between([], [], [], color="0.5", alpha=0.3, linewidth=0, label="± 2 standard errors")
    ax.legend(fontsize=8, framealpha=0.85)
    labels = _axis_labels(surface)
    x_label = labels[0] if surface.betas is None else _shared_label(surface)
    _label(ax, _title(surface), x_label, _quantity_label(surface, "loss", log_scale))
    return ax


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
    _check_tiles(surfaces, images, titles, color_scale, columns)
    planes = [_values(surface, "loss") for surface in surfaces]
    limits = _tile_limits(planes, color_scale, log_scale)
    figure, axes = _tile_axes(surfaces, columns, color_scale)
    for k, (ax, surface, values) in enumerate(zip(axes, surfaces, planes, strict=True)):
        filled = _draw_plane(ax, surface, values, limits[k], 30, log_scale)
        if color_scale == "individual" and filled is not None:
            place = ax.inset_axes((1.03, 0, 0.06, 1))  # as high as the tile, which no layout reaches
            _dress_bar(figure.colorbar(filled, cax=place), limits[k], log_scale, "", ticks=4, size=7)
        if titles is not None:
            ax.set_title(titles[k], fontsize=8)
        if images is not None and images[k] is not None:
            _draw_thumbnail(ax, images[k])
    label = _quantity_label(surfaces[0], "loss", log_scale)
    if color_scale == "individual":
        label += ", each tile on its own colour scale"
    elif limits[0] is not None:
        bar = _shared_bar(figure, axes, planes, limits[0], log_scale)
        _dress_bar(bar, limits[0], log_scale, label, size=8)
    figure.suptitle(_title(surfaces[0]), fontsize=10)
    x_label, y_label = _axis_labels(surfaces[0])
    figure.supxlabel(x_label, fontsize=9)
    figure.supylabel(y_label, fontsize=9)
    handles = {handle.get_label().split(" (")[0]: handle for ax in axes for handle in _marks(ax)}
    title = label if color_scale == "individual" else None
    if handles or title:
        figure.legend(
            handles.values(), handles.keys(), loc="outside upper right", ncols=2, title=title,
            fontsize=8, title_fontsize=8, frameon=False, handlelength=1.4,
        )  # fmt: skip
    return figure


def save_figure(figure: Figure | Axes, path: str | Path, dpi: int = 200) -> Path:
    """Write the figure (or that of an axes) to ``path``, whole or not at all; the suffix picks the format.

    A figure drawn and saved again gives the same bytes: no date is stored. The figure stays open and usable;
    one made by pyplot is freed with ``pyplot.close(figure)``.

    Raises:
        InputError: a suffix that matplotlib cannot write, or a path that cannot be written.
    """
    path = Path(path)
    while not isinstance(figure, Figure):  # an axes, perhaps in a subfigure
        figure = figure.figure
    formats = figure.canvas.get_supported_filetypes()
    suffix = path.suffix[1:].lower()
    if suffix not in formats:
        raise InputError(f"cannot write {path}: no figure format {path.suffix!r}; use .png, .pdf or .svg")
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(suffix)
    # Type 42 embeds TrueType outlines, which journals ask for; a fixed salt makes svg names repeatable.
    style = {"pdf.fonttype": 42, "svg.hashsalt": "landscape"}
    with written_whole(path) as temporary, matplotlib.rc_context(style):
        figure.savefig(temporary, dpi=dpi, metadata=undated)
    return path


# --- values and limits ------------------------------------------------------------------------------------


def _values(surface: Surface, quantity: str) -> np.ndarray:
    """The quantity [A, B] over a plane, NaN wherever it or the loss is not finite."""
    if quantity not in QUANTITIES:
        raise InputError(f"unknown quantity {quantity!r}; use one of {', '.join(QUANTITIES)}")
    if surface.betas is None:
        raise InputError("this surface is a line (one axis); draw it with plot_slices")
    if min(surface.shape) < 2:
        raise InputError(f"a plane of {surface.shape[0]} x {surface.shape[1]} points has no area to draw")
    values = getattr(surface, quantity)
    if values is None:
        raise InputError(f"this surface has no {quantity}; draw quantity='loss'")
    return np.where(surface.nonfinite, np.nan, _finite_or_nan(values))


def _finite_or_nan(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _limits(
    values: np.ndarray,
    log_scale: bool,
    quantity: str,
    vmin: float | None = None,
    vmax: float | None = None,
    percentiles: tuple[float, float] = (0, 100),
) -> tuple[float, float] | None:
    """Lower and upper end of the colour scale, apart from each other; None when no value is finite."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return None
    if log_scale and finite.min() <= 0:
        raise InputError(
            f"a log scale needs positive values, but the {quantity.replace('_', ' ')} goes down to "
            f"{finite.min():.3g}; draw it without the log scale"
        )
    low, high = np.percentile(finite, percentiles)
    low, high = float(low if vmin is None else vmin), float(high if vmax is None else vmax)
    narrow = high - low <= 1e-12 * max(abs(low), abs(high))
    if (narrow and vmin is not None and vmax is not None) or (log_scale and low <= 0):
        raise InputError(f"the colour scale cannot run from vmin={low:g} to vmax={high:g}")
    if narrow:  # constant up to rounding, or all values beyond the one limit that was given
        anchor = low if vmin is not None else high
        low = anchor - (abs(anchor) or 1) / 2 if vmin is None else low
        high = anchor + (abs(anchor) or 1) / 2 if vmax is None else high
    return low, high


def _tile_limits(planes: list[np.ndarray], color_scale: str, log_scale: bool) -> list[tuple[float, float] | None]:
    """The colour limits of every tile."""
    if color_scale == "individual":
        return [_limits(values, log_scale, "loss") for values in planes]
    percentiles = (2, 98) if color_scale == "quantile" else (0, 100)
    everything = np.concatenate([values.ravel() for values in planes])
    return [_limits(everything, log_scale, "loss", percentiles=percentiles)] * len(planes)


def _extend(values: np.ndarray, limits: tuple[float, float]) -> str:
    """Which ends of the colour scale the finite values go beyond, in matplotlib's words."""
    below, above = np.nanmin(values) < limits[0], np.nanmax(values) > limits[1]
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get((below, above), "both")


def _zero_index(axis: np.ndarray) -> int | None:
    """Index of the grid point at zero, up to the rounding of linspace; None where there is none."""
    nearest = int(np.abs(axis).argmin())
    return nearest if abs(axis[nearest]) <= 1e-9 * np.ptp(axis) else None


def _at_origin(surface: Surface, values: np.ndarray) -> float:
    """The value at the origin, linear between grid points; NaN outside the axes or beside NaN."""
    for axis in surface.axes:
        if not axis[0] <= 0 <= axis[-1]:
            return math.nan
        # Take the grid point itself where there is one: weights of zero would let a NaN beside it through.
        if (zero := _zero_index(axis)) is not None:
            values = values[zero]
        else:
            k = int(np.searchsorted(axis, 0))
            weight = axis[k] / (axis[k] - axis[k - 1])
            values = weight * values[k - 1] + (1 - weight) * values[k]
    return float(values)


# --- drawing ----------------------------------------------------------------------------------------------


def _axes_or_new(ax: Axes | None, size: tuple[float, float], projection: str | None = None) -> Axes:
    return _new_figure(size).add_subplot(projection=projection) if ax is None else ax


def _new_figure(size: tuple[float, float]) -> Figure:
    import matplotlib.pyplot as plt  # only here, so that drawing into given axes leaves pyplot alone

    return plt.figure(figsize=size, layout="constrained")


def _draw_plane(
    ax: Axes,
    surface: Surface,
    values: np.ndarray,
    limits: tuple[float, float] | None,
    levels: int,
    log_scale: bool,
    label_lines: bool = False,
) -> QuadContourSet | None:
    """Bands, lines, hatching and star; returns the filled contours, None when no value is finite."""
    _draw_hatching(ax, surface, values)
    ax.locator_params(nbins=6)
    if all(axis[0] <= 0 <= axis[-1] for axis in surface.axes):
        size = 14 if label_lines else 8
        ax.plot([0], [0], label=_origin_name(surface), scalex=False, scaley=False, **_star(size))
    if limits is None or np.isnan(values).all():
        return None
    edges = (np.geomspace if log_scale else np.linspace)(*limits, levels + 1)
    norm = (LogNorm if log_scale else Normalize)(*limits)
    grid = (surface.alphas, surface.betas, np.ma.masked_invalid(values.T))
    filled = ax.contourf(*grid, levels=edges, cmap=COLORMAP, norm=norm, extend=_extend(values, limits))
    lines = edges[1:-1] if label_lines else edges[1:-1:3]
    crossed = lines[(lines > np.nanmin(values)) & (lines < np.nanmax(values))]
    if len(crossed):
        _draw_lines(ax, grid, crossed, norm, label_lines)
    return filled


def _draw_lines(ax: Axes, grid: tuple, levels: np.ndarray, norm: Normalize, label_lines: bool) -> None:
    """Thin lines between the bands, light on dark colours and dark on light ones, some with their value."""
    luminance = COLORMAP(norm(levels))[:, :3] @ (0.299, 0.587, 0.114)  # ITU-R BT.601
    tones = np.where(luminance < 0.5, 1.0, 0.0)
    colors = [(tone, tone, tone, 0.55) for tone in tones]
    width = 0.4 if label_lines else 0.3
    lines = ax.contour(*grid, levels=levels, colors=colors, linewidths=width, linestyles="solid")
    if not label_lines:
        return
    every = max(1, round(len(levels) / 8))
    chosen = slice(every // 2, None, every)
    ax.clabel(
        lines, levels[chosen], manual=_label_places(ax, lines.allsegs[chosen]), fmt=_number_format(norm),
        colors=[str(tone) for tone in tones[chosen]], fontsize=7, inline_spacing=2,
    )  # fmt: skip


def _label_places(ax: Axes, levels: list[list[np.ndarray]]) -> list[tuple[float, float]]:
    """One place per level: away from the frame and the legend, as far as can be from the places before it."""
    to_fraction = ax.transData + ax.transAxes.inverted()
    taken = [np.array((0.5, 0.5))]  # the star
    for lines in levels:
        # A line shorter than its own label would be swallowed by it.
        lines = [to_fraction.transform(line) for line in lines if len(line)]
        points = [line for line in lines if np.ptp(line, axis=0).max() > 0.15]
        if not points:
            continue
        points = np.concatenate(points)
        inside = ((points > 0.07) & (points < 0.93)).all(axis=1)
        points = points[inside & ~((points[:, 0] > 0.4) & (points[:, 1] > 0.85))]
        if len(points):
            distances = np.linalg.norm(points[:, None] - np.array(taken), axis=2).min(axis=1)
            taken.append(points[distances.argmax()])
    return [tuple(place) for place in to_fraction.inverted().transform(taken[1:])] if taken[1:] else []


def _draw_hatching(ax: Axes, surface: Surface, values: np.ndarray) -> None:
    """Hatch, beneath the contours, every grid cell with a corner that is not finite."""
    bad = ~np.isfinite(values)
    if not bad.any():
        return
    i, j = np.nonzero(bad[:-1, :-1] | bad[1:, :-1] | bad[:-1, 1:] | bad[1:, 1:])
    x, y = surface.alphas, surface.betas
    corners = [(x[i + di], y[j + dj]) for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))]
    vertices = np.array(corners).transpose(2, 0, 1).reshape(-1, 2)  # five per cell, the last one closes it
    codes = np.tile([Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY], len(i))
    patch = PathPatch(
        Outline(vertices, codes), facecolor="0.92", edgecolor="0.35", hatch="////", linewidth=0, zorder=0.5,
        label=_count_text(int(bad.sum()), bad.size),
    )  # fmt: skip
    patch.sticky_edges.x[:], patch.sticky_edges.y[:] = x[[0, -1]], y[[0, -1]]
    ax.add_patch(patch)
    ax.autoscale_view()


def _draw_star_3d(ax: Axes, surface: Surface, height: np.ndarray) -> None:
    z = _at_origin(surface, height)
    if not math.isfinite(z):
        return
    # A line artist keeps its zorder in 3-D, where collections are re-sorted by depth and would hide the star.
    ax.plot([0], [0], [z], label=_origin_name(surface), **_star(13))
    ax.legend(loc="upper right", fontsize=8, framealpha=0.85, handlelength=1.4)


def _draw_curve(ax: Axes, axis: np.ndarray, loss: np.ndarray, error: np.ndarray, name: str, k: int) -> None:
    """One slice: curve, band, and a cross at the upper edge (a row per curve) for every non-finite point."""
    color, style = CURVE_COLORS[k], ("-", "--")[k]
    bad, shown, error = ~np.isfinite(loss), _finite_or_nan(loss), _finite_or_nan(error)
    marker = "." if len(axis) <= 15 else None
    ax.plot(axis, shown, color=color, linestyle=style, linewidth=(2.2, 1.5)[k], marker=marker, label=name)
    ax.fill_between(axis, shown - 2 * error, shown + 2 * error, color=color, alpha=0.25, linewidth=0)
    if bad.any():
        ax.plot(
            axis[bad], np.full(bad.sum(), 0.975 - 0.035 * k), transform=ax.get_xaxis_transform(), color=color,
            marker="x", markersize=4, linestyle="none", label=_count_text(int(bad.sum()), bad.size),
        )  # fmt: skip


def _draw_thumbnail(ax: Axes, image: np.ndarray) -> None:
    inset = ax.inset_axes((0.03, 0.69, 0.28, 0.28))
    inset.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    inset.set(xticks=[], yticks=[])
    inset.set_in_layout(False)
    inset.spines[:].set(color="white", linewidth=0.8)


def _star(size: float) -> dict:
    return {
        "marker": "*", "markersize": size, "color": STAR_COLOR, "markeredgecolor": "white",
        "markeredgewidth": 0.7, "linestyle": "none", "zorder": 10,
    }  # fmt: skip


def _curves(surface: Surface) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, str]]:
    """Coordinates, loss, standard error and name of every slice through the point nearest the origin."""
    if surface.betas is None:
        return [(surface.alphas, surface.loss, surface.standard_error, "loss along α")]
    i, j = surface.centre
    names = [
        ", ".join(filter(None, [f"along {axis}", f"{other} = {at + 0.0:.3g}", _relative_norm(surface, k)]))
        for k, (axis, other, at) in enumerate([("α", "β", surface.betas[j]), ("β", "α", surface.alphas[i])])
    ]
    return [
        (surface.alphas, surface.loss[:, j], surface.standard_error[:, j], names[0]),
        (surface.betas, surface.loss[i], surface.standard_error[i], names[1]),
    ]


# --- tiles ------------------------------------------------------------------------------------------------


def _check_tiles(surfaces, images, titles, color_scale: str, columns: int) -> None:
    if not len(surfaces):
        raise InputError("plot_tiles got no surfaces")
    for name, items in (("images", images), ("titles", titles)):
        if items is not None and len(items) != len(surfaces):
            raise InputError(f"plot_tiles got {len(surfaces)} surfaces but {len(items)} {name}")
    if color_scale not in COLOR_SCALES:
        raise InputError(f"unknown colour scale {color_scale!r}; use one of {', '.join(COLOR_SCALES)}")
    if columns < 1:
        raise InputError(f"columns must be at least 1, not {columns}")


def _tile_axes(surfaces: Sequence[Surface], columns: int, color_scale: str) -> tuple[Figure, list[Axes]]:
    """A figure with one square axes per surface; tick labels only at the edge where all share one grid."""
    columns = min(columns, len(surfaces))
    rows = math.ceil(len(surfaces) / columns)
    width = 2.35 if color_scale == "individual" else 1.95
    figure = _new_figure((width * columns + 1.2, 2.15 * rows + 0.7))
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
    norm = (LogNorm if log_scale else Normalize)(*limits)
    mappable = ScalarMappable(norm, COLORMAP)
    return figure.colorbar(mappable, ax=axes, extend=_extend(everything, limits), aspect=30, pad=0.01)


# --- words ------------------------------------------------------------------------------------------------


def _section(surface: Surface, key: str) -> dict:
    section = surface.metadata.get(key)
    return section if isinstance(section, dict) else {}


def _axis_labels(surface: Surface, separator: str = ", ") -> list[str]:
    """The labels of the axes: coordinate, unit, and the length of the direction where it is known."""
    labels = []
    for k, name in enumerate("αβ"[: len(surface.axes)]):
        unit, length = _unit(surface, k), _relative_norm(surface, k)
        labels.append(separator.join(filter(None, [f"{name} ({unit})" if unit else name, length])))
    return labels


def _shared_label(surface: Surface) -> str:
    units = dict.fromkeys(unit for k in range(2) if (unit := _unit(surface, k)))
    return f"α, β ({', '.join(units)})" if units else "α, β"


def _unit(surface: Surface, k: int) -> str:
    recipe = _section(surface, "slice")
    kind = recipe.get("kind")
    if kind == "interpolation line":
        return "0 = first model, 1 = second model"
    if kind == "three-point plane":
        return ("1 = second model", "1 = third model")[k]
    if kind == "pca plane":
        return f"principal component {k + 1}"
    normalize = recipe.get("normalize", recipe.get("normalization", ""))
    return "direction not normalised" if normalize is None else UNITS.get(str(normalize), "")


def _relative_norm(surface: Surface, k: int) -> str:
    norms = surface.metadata.get("relative_norms")
    between_models = _section(surface, "slice").get("kind") in BETWEEN_MODELS
    known = isinstance(norms, list | tuple) and len(norms) > k and isinstance(norms[k], int | float)
    known = known and not between_models  # their coordinates are fractions of the way, not lengths
    return f"|d|/|θ| = {norms[k]:.3g}" if known and math.isfinite(norms[k]) else ""


def _title(surface: Surface) -> str:
    """The title in the metadata, or the data, its size and the loss."""
    if surface.metadata.get("title"):
        return str(surface.metadata["title"])
    data, objective = _section(surface, "data"), _section(surface, "objective")
    parts = [" ".join(str(data[key]) for key in ("name", "split") if data.get(key))]
    if isinstance(size := data.get("size"), int):
        parts.append(f"{size:,} sample{'' if size == 1 else 's'}")
    parts.append(_loss_name(surface))
    title = ", ".join(part for part in parts if part)
    if objective.get("batch_norm") is not None:
        title += f"\nBatchNorm: {objective['batch_norm']}"
    return title.strip()


def _loss_name(surface: Surface) -> str:
    name = str(_section(surface, "objective").get("loss") or "")
    return LOSS_NAMES.get(name, name.rsplit("<locals>.", 1)[-1])


def _quantity_label(surface: Surface, quantity: str, log_scale: bool) -> str:
    notes = [_loss_name(surface) if quantity == "loss" else "", "log scale" if log_scale else ""]
    note = ", ".join(note for note in notes if note)
    return quantity.replace("_", " ") + (f" ({note})" if note else "")


def _origin_name(surface: Surface) -> str:
    kind = _section(surface, "slice").get("kind")
    if kind in BETWEEN_MODELS:
        return "first model"
    return "origin" if kind == "pca plane" else "trained model"


def _count_text(count: int, total: int) -> str:
    return f"NaN or infinite ({count:,} of {total:,} points)"


def _label(ax: Axes, title: str, x_label: str, y_label: str, size: float = 10) -> None:
    """Set title and labels that the caller has not set."""
    if not ax.get_title() and title:
        ax.set_title(title, fontsize=10)
    if not ax.get_xlabel():
        ax.set_xlabel(x_label, fontsize=size)
    if not ax.get_ylabel():
        ax.set_ylabel(y_label, fontsize=size)


def _marks(ax: Axes) -> list[Line2D | PathPatch]:
    """The legend entries of a plane: the star and the hatching."""
    artists = [*ax.lines, *ax.patches]
    return [artist for artist in artists if not artist.get_label().startswith("_")]


def _number_format(norm: Normalize) -> Callable[[float], str]:
    """Three digits, or as many as tell neighbouring levels apart."""
    if isinstance(norm, LogNorm):
        return lambda value: f"{value:.3g}"
    size = math.floor(math.log10(max(abs(norm.vmin), abs(norm.vmax))))
    step = math.floor(math.log10((norm.vmax - norm.vmin) / 30))
    if not -3 <= size <= 4:
        return lambda value: f"{value:.{max(3, size - step + 1)}g}"
    decimals = max(0, 2 - size, -step)
    return lambda value: f"{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0: no minus before zero


def _dress_bar(
    bar: Colorbar, limits: tuple[float, float], log_scale: bool, label: str, ticks: int = 7, size: float = 9
) -> None:
    """Ticks at round numbers, few enough to read, and the label."""
    bar.locator = _log_ticks(limits) if log_scale else MaxNLocator(ticks)
    if log_scale:
        bar.formatter = FuncFormatter(lambda value, _: f"{value:.4g}")
    elif hasattr(bar.formatter, "set_useOffset"):
        bar.formatter.set_useOffset(False)
    bar.minorticks_off()
    bar.update_ticks()
    bar.outline.set_linewidth(0.5)
    bar.ax.tick_params(labelsize=size)
    bar.set_label(label, fontsize=size + 1)


def _log_ticks(limits: tuple[float, float]) -> LogLocator | MaxNLocator:
    decades = math.log10(limits[1] / limits[0])
    if decades < 0.7:
        return MaxNLocator(6)
    return LogLocator(subs=(1, 2, 5) if decades < 4 else (1,), numticks=10)


def _dress_3d(ax: Axes, log_limits: tuple[float, float] | None) -> None:
    ax.tick_params(pad=0, labelsize=8)
    ax.xaxis.labelpad = ax.yaxis.labelpad = 8
    # The lower end of y is pruned: its label would meet the upper end of x in the front corner.
    for axis, prune, most in ((ax.xaxis, None, 4), (ax.yaxis, "lower", 4), (ax.zaxis, None, 6)):
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], prune=prune))
        axis.set_pane_color((0.97, 0.97, 0.97))
    ax.view_init(elev=32, azim=-55)
    # Layouts do not see 3-D labels in full, so the box makes room for them itself.
    ax.set_box_aspect(None, zoom=0.9)
    if log_limits is not None:
        ticks = _log_ticks(log_limits).tick_values(*log_limits)
        lowest = log_limits[0] * (log_limits[1] / log_limits[0]) ** 0.03  # lower, the label would meet that of y
        shown = [tick for tick in ticks if lowest <= tick <= log_limits[1]]
        ax.set_zticks(np.log10(shown), [f"{tick:.4g}" for tick in shown])
