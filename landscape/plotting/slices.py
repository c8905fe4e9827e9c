"""The loss along the axes of a surface, as curves."""

import math

import numpy as np
from matplotlib.axes import Axes

from landscape.checks import check_type
from landscape.escaping import math_free
from landscape.plotting.axes import axes_or_new, label_axes, mark_nonfinite, star_style
from landscape.plotting.captions import (
    axis_labels,
    count_text,
    marked_models,
    quantity_label,
    relative_norm,
    shared_label,
    title_of,
)
from landscape.plotting.scales import on_log_scale
from landscape.plotting.values import finite_or_nan, grid_index, quantity_values, value_at
from landscape.results import Surface

__all__ = ["plot_slices"]

CURVE_COLORS = ("#0072B2", "#E69F00")  # blue and orange of the colour-blind-safe set of Okabe and Ito


def plot_slices(surface: Surface, ax: Axes | None = None, *, log_scale: bool = False, quantity: str = "loss") -> Axes:
    """Draw a quantity along each axis through the grid point nearest the origin.

    A line has one curve. A loss has a band of 2 standard errors; other quantities, named as in `plot_contour`, have
    none. Points whose value is NaN or infinite are gaps in the curve, with a cross at the upper edge. On a log scale,
    values at or below 0 are drawn at the smallest positive one; a warning and the label say so.
    """
    check_type(surface, Surface, "plot_slices(surface)", "a Surface, as ll.evaluate returns it")
    curves = _curves(surface, quantity)
    drawn, log_scale, clipped = on_log_scale([finite_or_nan(curve[1]) for curve in curves], log_scale)
    ax = axes_or_new(ax, (5.6, 3.8))
    if log_scale:
        ax.set_yscale("log", nonpositive="clip")
    ax.axvline(0, color="0.8", linewidth=0.8, zorder=0.5)
    for k, ((axis, _, error, name), loss) in enumerate(zip(curves, drawn, strict=True)):
        _draw_curve(ax, axis, loss, error, name, k)
    # If the origin is not on the grid of a plane, the curves do not pass through it, and a star would not lie on them.
    if surface.betas is None or all(grid_index(axis) is not None for axis in surface.axes):
        _mark_models(ax, surface, quantity, lowest=min(map(_lowest, drawn)) if log_scale else -math.inf)
    if any(np.isfinite(error).any() for _, _, error, _ in curves):
        ax.fill_between([], [], [], color="0.5", alpha=0.3, linewidth=0, label="± 2 standard errors")
    ax.legend(fontsize=8, framealpha=0.85)
    labels = axis_labels(surface)
    x_label = labels[0] if surface.betas is None else shared_label(surface)
    label_axes(ax, title_of(surface), x_label, quantity_label(surface, quantity, log_scale, clipped))
    return ax


def _curves(surface: Surface, quantity: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, str]]:
    """Coordinates, values, their standard error and name of every curve through the grid point nearest the origin."""
    values = surface.loss if quantity == "loss" else quantity_values(surface, quantity)
    errors = surface.standard_error if quantity == "loss" else np.full(values.shape, np.nan)
    if surface.betas is None:
        return [(surface.alphas, values, errors, math_free(f"{quantity.replace('_', ' ')} along α"))]
    i, j = surface.centre
    names = [
        ", ".join(filter(None, [f"along {axis}", f"{other} = {at + 0.0:.3g}", relative_norm(surface, k)]))
        for k, (axis, other, at) in enumerate([("α", "β", surface.betas[j]), ("β", "α", surface.alphas[i])])
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
    ax.plot(axis, shown, color=color, linestyle=style, linewidth=(2.2, 1.5)[k], marker=marker, label=name)
    ax.fill_between(axis, shown - 2 * error, shown + 2 * error, color=color, alpha=0.25, linewidth=0)
    if bad.any():
        mark_nonfinite(ax, axis[bad], color, count_text(int(bad.sum()), bad.size), row=k)


def _lowest(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.min()) if finite.size else math.inf


def _mark_models(ax: Axes, surface: Surface, quantity: str, lowest: float) -> None:
    """Draw a star at the origin; between two models also a diamond at the second, and the losses in the legend."""
    models = marked_models(surface)
    for (at, name), style in zip(models.items(), ({}, {"marker": "D", "markersize": 6.5}), strict=False):
        value = value_at(surface, quantity_values(surface, quantity), *[at] * len(surface.axes))
        if math.isfinite(value):
            label = math_free(f"{name}, {quantity.replace('_', ' ')} {value:.3g}") if len(models) > 1 else name
            ax.plot([at], [max(value, lowest)], label=label, **star_style(11) | style)
