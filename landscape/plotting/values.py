"""The values of a surface to draw; those that are not finite become NaN."""

import math

import numpy as np

from landscape.errors import InputError, InputTypeError
from landscape.results import Surface

__all__ = ["QUANTITIES", "finite_or_nan", "grid_index", "line_values", "plane_values", "quantity_values", "value_at"]

QUANTITIES = ("loss", "accuracy", "standard_error")


def plane_values(surface: Surface, quantity: str) -> np.ndarray:
    """The quantity [A, B] over a plane, see `quantity_values`."""
    if surface.betas is None:
        raise InputError("this surface is a line (one axis); draw it with plot_slices")
    if min(surface.shape) < 2:
        raise InputError(f"a plane of {surface.shape[0]} x {surface.shape[1]} points has no area to draw")
    return quantity_values(surface, quantity)


def line_values(surface: Surface, quantity: str) -> np.ndarray:
    """The quantity [A] along a line, see `quantity_values`."""
    if surface.betas is not None:
        raise InputError("this surface is a plane (two axes); draw it with plot_contour or plot_spread")
    return quantity_values(surface, quantity)


def finite_or_nan(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def value_at(surface: Surface, values: np.ndarray, *coordinates: float) -> float:
    """The value at ``coordinates``, linear between grid points; NaN outside the axes or next to a NaN."""
    for axis, at in zip(surface.axes, coordinates, strict=True):
        if not axis[0] <= at <= axis[-1]:
            return math.nan
        # At a grid point its value is used alone: a NaN next to it would make the sum NaN even with a weight of zero.
        if (index := grid_index(axis, at)) is not None:
            values = values[index]
        else:
            k = int(np.searchsorted(axis, at))
            weight = (axis[k] - at) / (axis[k] - axis[k - 1])
            values = weight * values[k - 1] + (1 - weight) * values[k]
    return float(values)


def grid_index(axis: np.ndarray, at: float = 0.0) -> int | None:
    """Index of the grid point at ``at``, up to the rounding of linspace; None if there is none."""
    nearest = int(np.abs(axis - at).argmin())
    return nearest if abs(axis[nearest] - at) <= 1e-9 * np.ptp(axis) else None


def quantity_values(surface: Surface, quantity: str) -> np.ndarray:
    """The quantity at all points, NaN where it is not finite; what belongs to the loss also where the loss is not."""
    if not isinstance(quantity, str):
        raise InputTypeError(f"quantity is {quantity!r}; it must be a text, such as 'loss'")
    if quantity in surface.quantities:
        return finite_or_nan(surface.quantities[quantity])
    if quantity not in QUANTITIES:
        raise InputError(f"unknown quantity {quantity!r}; use one of {', '.join((*QUANTITIES, *surface.quantities))}")
    values = getattr(surface, quantity)
    if values is None:
        raise InputError(f"this surface has no {quantity}; draw quantity='loss'")
    return np.where(surface.nonfinite, np.nan, finite_or_nan(values))
