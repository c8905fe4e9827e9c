"""Acceptable interpolation errors: relative to the loss, their bound, and the quality of stored surfaces."""

import math
from typing import Any, Literal

import numpy as np

from landscape.errors import InputError
from landscape.evaluation.statistics import Statistics
from landscape.objective.objectives import Objective

__all__ = [
    "LOSS_FLOOR",
    "UNSEEN_FACTOR",
    "Tolerance",
    "allowed_error",
    "check_tolerance",
    "error_bound",
    "floored",
    "relative_error",
    "scale_of",
    "shortfall",
]

LOSS_FLOOR = 0.01  # share of the median loss; errors of smaller losses are relative to this value
Tolerance = float | Literal["noise"] | None
NOISE_SHARE = 1 / 3  # share of the standard error that tolerance="noise" accepts
UNSEEN_FACTOR = 2.0  # the error at other points may be this multiple of the largest error at the verified points


def check_tolerance(tolerance: Tolerance, objective: Objective | None = None, per_sample: bool = False) -> None:
    """Raise InputError if ``tolerance`` is not valid, or not valid for ``objective``, if that is known."""
    if tolerance is None:
        return
    if (isinstance(tolerance, str) and tolerance != "noise") or not isinstance(tolerance, str | int | float):
        raise InputError(f"tolerance must be None, a number such as 0.01, or 'noise', not {tolerance!r}")
    if not isinstance(tolerance, str) and not 0 <= tolerance < 1:
        raise InputError(f"tolerance is a share of the loss, from 0 to below 1, not {tolerance}")
    if tolerance != "noise" or objective is None:
        return
    if per_sample or not objective.independent or objective.size < 2:
        raise InputError("tolerance 'noise' needs the standard error of a mean over samples; use a number")


def allowed_error(tolerance: float | str, statistics: Statistics, values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The largest acceptable |error| [K, M] of ``values`` [K, M] at ``points`` [K].

    For a number t it is t |loss|; losses below a hundredth of the median over the evaluated points (for instance near
    zero) are replaced by that value. So the result does not depend on the units of the loss.
    """
    evaluated = statistics.finished.numpy()
    scale = scale_of(statistics.values(evaluated))
    if not isinstance(tolerance, str):
        return tolerance * floored(values, scale)
    error, mean = statistics.standard_error, statistics.mean
    usable = evaluated & np.isfinite(error) & np.isfinite(mean)
    typical = np.median(error[usable] / floored(mean[usable], scale)) if usable.any() else math.inf
    guess = typical * floored(values, scale)
    return NOISE_SHARE * np.where(evaluated[points, None], error[points, None], guess)


def error_bound(tolerance: float | str, errors: np.ndarray, reached: bool) -> float:
    """Estimated bound of the relative error at all points: twice the largest of ``errors``, or the tolerance if met.

    It is not proved; `benchmarks/refinement.py` counts the random surfaces on which the error exceeds it.
    """
    doubled = UNSEEN_FACTOR * float(errors.max(initial=0.0))
    return min(doubled, float(tolerance)) if reached and tolerance != "noise" else doubled


def shortfall(stored: dict[str, Any] | None, tolerance: float | str | None, budget: float | None) -> str | None:
    """Why a surface with the interpolation metadata ``stored`` is not accurate enough; None if it is.

    A surface whose points are all evaluated is always accurate enough. An interpolated one is, if it has reached a
    tolerance at least as small, or if it was ended by a budget at least as large as the present one.
    """
    if stored is None or (stored.get("method") is None and stored.get("reached")):
        return None
    if tolerance in (None, 0):
        return "its points are interpolated, not all evaluated"
    reached, stored_budget = stored.get("reached", False), stored.get("budget")
    same_budget = budget is not None and stored_budget is not None and budget <= stored_budget
    if not reached and same_budget and stored["tolerance"] == tolerance:
        return None
    if "noise" in (tolerance, stored["tolerance"]):
        if reached and stored["tolerance"] == tolerance:
            return None
        return f"its tolerance is {stored['tolerance']}{'' if reached else ', which it did not reach'}, not {tolerance}"
    bound = stored["tolerance"] if reached else stored.get("error_bound", math.inf)
    return None if bound <= tolerance else f"its error is up to {bound:.2g} of the loss, not {tolerance}"


def relative_error(interpolated: np.ndarray, values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """|interpolated - value| / max(|value|, ``LOSS_FLOOR`` of the ``scale`` of all values)."""
    error: np.ndarray = np.abs(interpolated - values) / floored(values, scale)
    return error


def floored(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """max(|value|, `LOSS_FLOOR` scale), or 1 if both are 0."""
    sizes = np.maximum(np.abs(values), LOSS_FLOOR * scale)
    return np.where(sizes > 0, sizes, 1.0)


def scale_of(values: np.ndarray) -> np.ndarray:
    """The median size [M] of the finite values among [P, M]; 0 if there are none."""
    sizes = np.where(np.isfinite(values), np.abs(values), np.nan)
    some = np.isfinite(sizes).any(0)
    return np.where(some, np.nanmedian(np.where(some, sizes, 0.0), axis=0), 0.0)
