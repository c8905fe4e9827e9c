"""Limits, norm, ticks and number format of a scale."""

import math
from collections.abc import Callable

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import LogLocator, MaxNLocator

from landscape.errors import InputError

__all__ = ["color_limits", "color_norm", "extension", "log_ticks", "number_format"]


def color_limits(
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


def color_norm(limits: tuple[float, float], log_scale: bool) -> Normalize:
    return (LogNorm if log_scale else Normalize)(*limits)


def extension(values: np.ndarray, limits: tuple[float, float]) -> str:
    """Which ends of the colour scale the finite values go beyond, in matplotlib's words."""
    below, above = np.nanmin(values) < limits[0], np.nanmax(values) > limits[1]
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get((below, above), "both")


def number_format(norm: Normalize) -> Callable[[float], str]:
    """Three digits, or as many as tell neighbouring levels apart."""
    if isinstance(norm, LogNorm):
        return lambda value: f"{value:.3g}"
    size = math.floor(math.log10(max(abs(norm.vmin), abs(norm.vmax))))
    step = math.floor(math.log10((norm.vmax - norm.vmin) / 30))
    if not -3 <= size <= 4:
        return lambda value: f"{value:.{max(3, size - step + 1)}g}"
    decimals = max(0, 2 - size, -step)
    return lambda value: f"{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0: no minus before zero


def log_ticks(limits: tuple[float, float]) -> LogLocator | MaxNLocator:
    decades = math.log10(limits[1] / limits[0])
    if decades < 0.7:
        return MaxNLocator(6)
    return LogLocator(subs=(1, 2, 5) if decades < 4 else (1,), numticks=10)
