"""Colour scales: limits, colours, levels and ticks."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.ticker import LogLocator, MaxNLocator

from landscape.errors import InputError
from landscape.plotting.looks import Look
from landscape.plotting.values import quantity_values
from landscape.results import Surface

__all__ = [
    "Scale",
    "color_limits",
    "color_scale",
    "diverging_scale",
    "level_text",
    "log_ticks",
    "on_log_scale",
    "shared_colors",
    "shared_limits",
]

DIVERGING = "RdBu_r"
LEAST_SHARE = 0.1  # of shared colours that every plane must keep: three of the 30 bands, with fewer it looks flat
LARGEST = 300.0  # logarithm of a ratio whose square is still finite
ROUND_STEPS = (1, 2, 2.5, 5, 10)  # of linear axes: a power of ten times one of these
# Round numbers within every decade of a logarithmic axis, from many to few.
ROUND_FACTORS = ((1, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))


@dataclass(frozen=True)
class Scale:
    """A mapping of values to colours, which several panels can share."""

    limits: tuple[float, float]
    log_scale: bool = False
    colormap: str | Colormap = "viridis"

    @property
    def norm(self) -> Normalize:
        return (LogNorm if self.log_scale else Normalize)(*self.limits)

    def edges(self, levels: int | Sequence[float]) -> np.ndarray:
        """The edges of ``levels`` bands, [levels + 1], or those that are given."""
        if not isinstance(levels, int):
            return np.asarray(levels, dtype=np.float64)
        return (np.geomspace if self.log_scale else np.linspace)(*self.limits, levels + 1)

    def round_levels(self, most: int) -> np.ndarray:
        """At most ``most`` round numbers inside the limits, equally spaced, or in every decade on a log scale."""
        low, high = self.limits
        if not self.log_scale or high < 5 * low:
            ticks = np.asarray(MaxNLocator(most, steps=ROUND_STEPS).tick_values(low, high))
            step = ticks[1] - ticks[0]
            levels = np.round(ticks / step) * step + 0.0  # an exact zero without a sign, not 1e-17
            inside: np.ndarray = levels[(levels > low) & (levels < high)]
            return inside
        decades = 10.0 ** np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factors in ROUND_FACTORS:
            levels = np.outer(decades, factors).ravel()
            levels = levels[(levels > low) & (levels < high)]
            if len(levels) <= most:
                break
        thinned: np.ndarray = levels[:: math.ceil(len(levels) / most)]
        return thinned

    def extension(self, values: np.ndarray) -> str:
        """Which ends of the scale the finite values exceed: matplotlib's "neither", "min", "max" or "both"."""
        below, above = np.nanmin(values) < self.limits[0], np.nanmax(values) > self.limits[1]
        return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get((below, above), "both")


def on_log_scale(planes: Sequence[np.ndarray], log_scale: bool) -> tuple[list[np.ndarray], bool, str]:
    """The values to draw, whether the scale is logarithmic, and a note for the label.

    If a log scale is requested, values at or below 0 are replaced by the smallest positive value of all planes; if no
    value is positive, the scale is linear. Both cases are warned of and not refused, because a drawing must not end
    the program after a long computation.
    """
    everything = np.concatenate([np.ravel(values) for values in planes]) if planes else np.empty(0)
    finite = everything[np.isfinite(everything)]
    low = int((finite <= 0).sum())
    if not log_scale or not low:
        return list(planes), log_scale, ""
    if low == finite.size:
        warnings.warn("no value is positive, as a log scale needs; the scale is linear", stacklevel=3)
        return list(planes), False, "linear scale, as no value is positive"
    floor = finite[finite > 0].min()
    note = f"{low:,} of {everything.size:,} points at or below 0 drawn at {floor:.3g}"
    warnings.warn(f"values at or below 0 have no place on a log scale: {note}", stacklevel=3)
    return [np.where(np.isfinite(values) & (values <= 0), floor, values) for values in planes], True, note


def color_scale(
    planes: Sequence[np.ndarray],
    log_scale: bool,
    look: Look = Look(),  # noqa: B008 (frozen)
    percentiles: tuple[float, float] = (0, 100),
) -> Scale | None:
    """One scale over the finite values of all ``planes``, in the colours and limits of the ``look``; None if there are
    none.
    """
    everything = np.concatenate([values.ravel() for values in planes])
    limits = color_limits(everything, log_scale, *look.limits, percentiles)
    return Scale(limits, log_scale, look.colormap) if limits else None


def shared_limits(surfaces: Sequence[Surface], quantity: str = "loss", log_scale: bool = False) -> dict[str, float]:
    """The options ``vmin`` and ``vmax`` with which figures of all ``surfaces`` have the same colours.

    They are the ends of the finite values (on a log scale, of the positive ones) of all; empty where there is no range.

    Example:
        >>> import numpy as np
        >>> x = np.linspace(0, 1, 3)
        >>> first, second = (Surface(x, None, k + x, 0 * x, None, None, {}) for k in (1, 4))
        >>> shared_limits([first, second])
        {'vmin': 1.0, 'vmax': 5.0}
    """
    values = np.concatenate([quantity_values(surface, quantity).ravel() for surface in surfaces])
    values = values[np.isfinite(values) & ((values > 0) | (not log_scale))]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    return {"vmin": low, "vmax": high} if high - low > 1e-12 * max(abs(low), abs(high)) else {}


def shared_colors(
    surfaces: Mapping[str, Surface], log_scale: bool = False
) -> tuple[dict[str, Surface], dict[str, float]]:
    """The ``surfaces``, and the options with which figures of all have the same colours, see `shared_limits`.

    Where that would leave less than a tenth of the colours to one of them, there are no such options, and the titles of
    the surfaces say so.
    """
    limits = shared_limits([*surfaces.values()], log_scale=log_scale)
    own = [shared_limits([surface], log_scale=log_scale) for surface in surfaces.values()]
    if all(_extent(each, log_scale) >= LEAST_SHARE * _extent(limits, log_scale) for each in own if each):
        return dict(surfaces), limits
    note = {"colors": f"colours of its own: one scale for {' and '.join(surfaces)} would hide its shape"}
    return {name: replace(surface, metadata=surface.metadata | note) for name, surface in surfaces.items()}, {}


def _extent(limits: Mapping[str, float], log_scale: bool) -> float:
    """The length of a scale, on which ``log_scale`` makes equal ratios equally long."""
    low, high = limits["vmin"], limits["vmax"]
    return math.log(high / low) if log_scale else high - low


def diverging_scale(values: np.ndarray, log_scale: bool) -> Scale | None:
    """A scale centred at 0, or for ratios (``log_scale``) at 1; None if no value is finite."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return None
    if log_scale:
        factor = math.exp(min(np.abs(np.log(finite)).max(), LARGEST))
        factor = factor if factor > 1 + 1e-12 else 2.0
        return Scale((1 / factor, factor), True, DIVERGING)
    size = float(np.abs(finite).max()) or 1.0
    return Scale((-size, size), False, DIVERGING)


def color_limits(
    values: np.ndarray,
    log_scale: bool,
    vmin: float | None = None,
    vmax: float | None = None,
    percentiles: tuple[float, float] = (0, 100),
) -> tuple[float, float] | None:
    """Lower and upper end of the colour scale, which always differ; None if no value is finite."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return None
    low, high = np.percentile(finite, percentiles)
    low, high = float(low if vmin is None else vmin), float(high if vmax is None else vmax)
    narrow = high - low <= 1e-12 * max(abs(low), abs(high))
    if (narrow and vmin is not None and vmax is not None) or (log_scale and low <= 0):
        raise InputError(f"the colour scale cannot run from vmin={low:g} to vmax={high:g}")
    if narrow:  # the values are constant up to rounding, or all lie beyond vmin or vmax
        anchor = low if vmin is not None else high
        low = anchor - (abs(anchor) or 1) / 2 if vmin is None else low
        high = anchor + (abs(anchor) or 1) / 2 if vmax is None else high
    return low, high


def level_text(level: float) -> str:
    """A round level with all its digits, without those that rounding has added."""
    return f"{level:.10g}"


def log_ticks(limits: tuple[float, float], most: int = 9) -> LogLocator | MaxNLocator:
    """Ticks of a logarithmic axis at round numbers, about ``most``."""
    decades = math.log10(limits[1] / limits[0])
    if decades < 0.7:
        return MaxNLocator(min(6, most))
    factors: tuple[int, ...] = (1, 2, 5) if decades < most / 2.25 else (1, 3) if decades < most / 2 else (1,)
    return LogLocator(subs=factors, numticks=most + 1)
