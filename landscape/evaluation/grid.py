"""The coordinates of a grid on a slice."""

import math

import numpy as np

from landscape.errors import InputError

__all__ = ["grid_axes"]


def grid_axes(
    dimension: int,
    alpha_range: tuple[float, float],
    beta_range: tuple[float, float],
    resolution: int | tuple[int, int],
) -> tuple[np.ndarray, ...]:
    """Equally spaced coordinates along every axis of a slice of this ``dimension``, including both ends.

    Raises:
        InputError: a range is reversed, empty or infinite, a number of points is not a whole number of two or more, or
            the number of sizes is not the dimension.
    """
    sizes = tuple(resolution) if isinstance(resolution, tuple | list | np.ndarray) else (resolution,) * dimension
    if len(sizes) != dimension:
        raise InputError(f"resolution {resolution!r} does not fit a slice of {dimension} direction(s)")
    return tuple(
        _axis(name, limits, size)
        for name, limits, size in zip(("alpha", "beta"), (alpha_range, beta_range), sizes, strict=False)
    )


def _axis(name: str, limits: tuple[float, float], size: int) -> np.ndarray:
    try:
        low, high = map(float, () if isinstance(limits, str) else limits)
    except (TypeError, ValueError):
        raise InputError(f"{name}_range is {limits!r}; it must be two numbers, such as (-1, 1)") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"{name}_range must go from a smaller to a larger finite number, not from {low:g} to {high:g}")
    if not isinstance(size, int | np.integer) or size < 2:
        raise InputError(f"resolution must be a whole number of at least 2 points an axis, not {size!r}")
    axis = np.linspace(low, high, size)
    axis[np.abs(axis) < 1e-12 * (high - low)] = (
        0.0  # remove rounding errors, so that the grid contains the origin exactly
    )
    return axis
