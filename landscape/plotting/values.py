"""The numbers to draw, with every value that is not finite as NaN."""

import math

import numpy as np

from landscape.errors import InputError
from landscape.results import Surface

__all__ = ["finite_or_nan", "plane_values", "value_at_origin", "zero_index"]

QUANTITIES = ("loss", "accuracy", "standard_error")


def plane_values(surface: Surface, quantity: str) -> np.ndarray:
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
    return np.where(surface.nonfinite, np.nan, finite_or_nan(values))


def finite_or_nan(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def value_at_origin(surface: Surface, values: np.ndarray) -> float:
    """The value at the origin, linear between grid points; NaN outside the axes or beside NaN."""
    for axis in surface.axes:
        if not axis[0] <= 0 <= axis[-1]:
            return math.nan
        # Take the grid point itself where there is one: weights of zero would let a NaN beside it through.
        if (zero := zero_index(axis)) is not None:
            values = values[zero]
        else:
            k = int(np.searchsorted(axis, 0))
            weight = axis[k] / (axis[k] - axis[k - 1])
            values = weight * values[k - 1] + (1 - weight) * values[k]
    return float(values)


def zero_index(axis: np.ndarray) -> int | None:
    """Index of the grid point at zero, up to the rounding of linspace; None where there is none."""
    nearest = int(np.abs(axis).argmin())
    return nearest if abs(axis[nearest]) <= 1e-9 * np.ptp(axis) else None
