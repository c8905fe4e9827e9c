"""The loss along the axes of a surface, as curves."""

import math

import numpy as np
from matplotlib.axes import Axes
from typing_extensions import Unpack

from landscape.checks import check_type
from landscape.escaping import math_free
from landscape.plotting.axes import (
    axes_or_new,
    draw_legend,
    label_axes,
    label_slice,
    limit_values,
    mark_nonfinite,
    mark_zero,
    star_style,
)
from landscape.plotting.captions import (
    LENGTHS,
    count_text,
    marked_models,
    quantity_label,
    relative_norm,
    relative_norms,
    shared_label,
    title_of,
)
from landscape.plotting.looks import CurveLook, look_of
from landscape.plotting.palette import BLUE, ORANGE
from landscape.plotting.room import room_of
from landscape.plotting.scales import on_log_scale
from landscape.plotting.sizes import ink, scaled
from landscape.plotting.values import finite_or_nan, grid_index, quantity_values, value_at
from landscape.results import Surface

__all__ = ["plot_slices"]

CURVE_COLORS = (BLUE, ORANGE)


def plot_slices(
    surface: Surface,
    ax: Axes | None = None,
    *,
    log_scale: bool = False,
    quantity: str = "loss",
    **look: Unpack[CurveLook],
) -> Axes:
    """Draw a quantity along each axis through the grid point nearest the origin.

    A line has one curve. A loss has a band of 2 standard errors; other quantities, named as in `plot_contour`, have
    none. Points whose value is NaN or infinite are gaps in the curve, with a cross at the upper edge. On a log scale,
    values at or below 0 are drawn at the smallest positive one; a warning and the label say so. The ``look`` has
    ``title``, ``vmin``, ``vmax`` and ``star``, see `CurveLook`.
    """
    check_type(surface, Surface, "plot_slices(surface)", "a Surface, as ll.evaluate returns it")
    shown = look_of("plot_slices", CurveLook, look, log_scale)
    curves = _curves(surface, quantity)
    drawn, log_scale, clipped = on_log_scale([finite_or_nan(curve[1]) for curve in curves], log_scale)
    ax = axes_or_new(ax, (5.6, 3.8))
    if log_scale:
        ax.set_yscale("log", nonpositive="clip")
    mark_zero(ax)
    lengths = surface.betas is not None and relative_norms(surface) and not room_of(ax).narrow
    for k, ((axis, _, error, name), loss) in enumerate(zip(curves, drawn, strict=True)):
        _draw_curve(ax, axis, loss, error, f"{name}, {relative_norm(surface, k)}" if lengths else name, k)
    # If the origin is not on the grid of a plane, the curves do not pass through it, and a star would not lie on them.
    if shown.star and (surface.betas is None or all(grid_index(axis) is not None for axis in surface.axes)):
        _mark_models(ax, surface, quantity, lowest=min(map(_lowest, drawn)) if log_scale else -math.inf)
    if any(np.isfinite(error).any() for _, _, error, _ in curves):
        ax.fill_between([], [], [], color=ink(0.5), alpha=0.3, linewidth=0, label="± 2 standard errors")
    limit_values(ax, shown)
    draw_legend(ax)
    values, title = quantity_label(surface, quantity, log_scale, clipped), title_of(surface, quantity)
    ax.locator_params(axis="x", nbins=6)  # the numbers of small ranges are long
    if surface.betas is None:
        label_slice(ax, surface, title=title, values=values, look=shown)
    else:
        notes = [LENGTHS] if lengths else []
        label_axes(ax, title, shared_label(surface), values, notes=notes, look=shown)
    return ax


def _curves(surface: Surface, quantity: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, str]]:
    """Coordinates, values, their standard error and name of every curve through the grid point nearest the origin."""
    values = surface.loss if quantity == "loss" else quantity_values(surface, quantity)
    errors = surface.standard_error if quantity == "loss" else np.full(values.shape, np.nan)
    if surface.betas is None:
        return [(surface.alphas, values, errors, math_free(f"{quantity.replace('_', ' ')} along α"))]
    i, j = surface.centre
    names = [
        f"along {axis}, {other} = {at + 0.0:.3g}"
        for axis, other, at in (("α", "β", surface.betas[j]), ("β", "α", surface.alphas[i]))
    ]
    return [
        (surface.alphas, values[:, j], errors[:, j], names[0]),
        (surface.betas, values[i], errors[i], names[1]),
    ]


def _draw_curve(ax: Axes, axis: np.ndarray, loss: np.ndarray, error: np.ndarray, name: str, k: int) -> None:
    """Draw one curve with its band, and for every non-finite point a cross at the upper edge, in a row per curve."""
    color, style = CURVE_COLORS[k], ("-", "--")[k]
    bad, shown, error = ~np.isfinite(loss), finite_or_nan(loss), finite_or_nan(error)
    marker = "." if len(axis) <= 15 else None
    ax.plot(axis, shown, color=color, linestyle=style, linewidth=scaled((2.2, 1.5)[k]), marker=marker, label=name)
    ax.fill_between(axis, shown - 2 * error, shown + 2 * error, color=color, alpha=0.25, linewidth=0)
    if bad.any():
        mark_nonfinite(ax, axis[bad], color, count_text(int(bad.sum()), bad.size), row=k)


def _lowest(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.min()) if finite.size else math.inf


def _mark_models(ax: Axes, surface: Surface, quantity: str, lowest: float) -> None:
    """Draw a star at the origin; between two models also a diamond at the second, and the losses in the legend."""
    models = marked_models(surface)
    for (at, name), style in zip(models.items(), ({}, {"marker": "D", "markersize": scaled(6.5)}), strict=False):
        value = value_at(surface, quantity_values(surface, quantity), *[at] * len(surface.axes))
        if math.isfinite(value):
            label = math_free(f"{name}, {quantity.replace('_', ' ')} {value:.3g}") if len(models) > 1 else name
            ax.plot([at], [max(value, lowest)], label=label, **star_style(11) | style)
