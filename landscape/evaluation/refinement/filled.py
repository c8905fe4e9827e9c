"""A surface of which some points are evaluated and the others interpolated: tolerance, values, errors."""

import math
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.evaluation.refinement.radial_basis import Kind, interpolate, left_out_errors
from landscape.evaluation.refinement.selection import FLOOR, Plan, floored, scale_of
from landscape.evaluation.statistics import Statistics
from landscape.objective.objectives import Objective

__all__ = ["Interpolation", "allowed_error", "check_tolerance", "error_bound", "serves"]

NOISE_SHARE = 1 / 3  # of the standard error, for tolerance="noise"
LEFT_OUT = 1.25  # times the largest error of a value left out among the evaluated ones, which others may be off
BEYOND = 2.0  # times the largest error seen, which the many points not seen may well be off


def check_tolerance(
    tolerance: float | str | None, objective: Objective | None = None, per_sample: bool = False
) -> None:
    """Raise InputError where ``tolerance`` means nothing, or nothing for ``objective``, if that is known."""
    if tolerance is None:
        return
    if (isinstance(tolerance, str) and tolerance != "noise") or not isinstance(tolerance, str | int | float):
        raise InputError(f"tolerance must be None, a number such as 0.01, or 'noise', not {tolerance!r}")
    if not isinstance(tolerance, str) and not 0 <= tolerance < 1:
        raise InputError(f"tolerance is a share of the loss, from 0 to below 1, not {tolerance}")
    if tolerance != "noise" or objective is None:
        return
    if per_sample or not objective.independent or objective.size < 2:
        raise InputError("tolerance 'noise' needs the standard error of a mean over samples; give a number")


def allowed_error(tolerance: float | str, statistics: Statistics, values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Largest acceptable |error| [K, M] of ``values`` [K, M] at ``points`` [K].

    A tolerance t allows t |loss|, and where the loss is less than a hundredth of its median over the evaluated points
    (near a zero, say) as much as there: the units of the loss do not matter.
    """
    done = statistics.done.numpy()
    scale = scale_of(statistics.values(done))
    if not isinstance(tolerance, str):
        return tolerance * floored(values, scale)
    error, mean = statistics.standard_error, statistics.mean
    usable = done & np.isfinite(error) & np.isfinite(mean)
    typical = np.median(error[usable] / floored(mean[usable], scale)) if usable.any() else math.inf
    guess = typical * floored(values, scale)
    return NOISE_SHARE * np.where(done[points, None], error[points, None], guess)


def error_bound(tolerance: float | str, plan: Plan) -> float:
    """Bound of the relative error at all points: twice the largest error seen, or the tolerance where that is met.

    No proof: `benchmarks/refinement.py` counts the random surfaces on which the error goes beyond.
    """
    doubled = BEYOND * float(plan.errors.max(initial=0.0))
    return min(doubled, float(tolerance)) if plan.reached and tolerance != "noise" else doubled


def serves(found: dict[str, Any] | None, tolerance: float | str | None, budget: float | None) -> bool:
    """Whether a surface whose ``interpolation`` metadata are ``found`` is as good as is asked.

    One of which every point is evaluated serves any call. Another one does where it has reached a tolerance as small,
    or was cut short by a budget no smaller than that which is asked now.
    """
    if found is None or (found.get("method") is None and found.get("reached")):
        return True
    if tolerance in (None, 0):
        return False
    reached, spent = found.get("reached", False), found.get("budget")
    paid = budget is not None and spent is not None and budget <= spent
    if not reached and paid and found["tolerance"] == tolerance:
        return True
    if "noise" in (tolerance, found["tolerance"]):
        return bool(reached and found["tolerance"] == tolerance)
    return bool((found["tolerance"] if reached else found.get("error_bound", math.inf)) <= tolerance)


class Interpolation:
    """`Statistics` of all points: evaluated where that is done, interpolated elsewhere.

    The loss of the mean (and of single samples) is what the plan verified. Standard error and accuracy come from the
    same radial basis functions through their own values. No tolerance holds for them; how far off they are to be
    expected at most is recorded: from what the points of the verification show, from what evaluated values show of
    which each is left out, and, for the accuracy, which goes by steps, one sample more.
    """

    def __init__(self, tolerance: float | str, plan: Plan, statistics: Statistics):
        self.done = statistics.done.numpy()
        self.plan = plan
        self.mean = np.where(self.done, statistics.mean, plan.values[:, 0])
        losses = statistics.losses
        if losses is not None:
            losses = np.where(self.done[:, None], losses, plan.values[:, 1:]).astype(losses.dtype)
        self.losses = losses
        self.standard_error, error_of_error = self._companion(statistics.standard_error, 0.0, math.inf, 0.0)
        self.accuracy, error_of_accuracy = self._companion(statistics.accuracy, 0.0, 1.0, 1 / statistics.samples)
        self.description = {
            "tolerance": tolerance,
            "reached": plan.reached,
            "method": str(plan.kind) if plan.kind else None,
            "evaluated_points": int(self.done.sum()),
            "verified_points": len(plan.checked),
            "largest_error": float(plan.errors.max(initial=0.0)),
            "percentile_99_error": float(np.percentile(plan.errors, 99)) if len(plan.errors) else 0.0,
            "error_bound": error_bound(tolerance, plan),
            "loss_floor": FLOOR * float(scale_of(statistics.values(statistics.done.numpy()))[0]),
            "standard_error_and_accuracy": "interpolated" if plan.kind else "evaluated",
            "largest_standard_error_error": error_of_error,
            "largest_accuracy_error": error_of_accuracy,
            "planning_seconds": 0.0,
        }

    def _companion(self, values: np.ndarray, low: float, high: float, step: float) -> tuple[np.ndarray, float]:
        """Another quantity, which goes by a ``step``, at all points, and the largest absolute error to be expected."""
        plan, places = self.plan, self.plan.places
        if plan.kind is None or places is None or plan.known is None:
            return values, 0.0
        kind, known, unknown = Kind(plan.kind.kernel, "loss"), plan.known & np.isfinite(values), ~self.done

        def at(points: np.ndarray, usable: np.ndarray) -> np.ndarray:
            found = interpolate(kind, places[usable], values[usable, None], places[points])[:, 0]
            clipped: np.ndarray = np.clip(found, low, high)
            return clipped

        filled, before = values.copy(), known.copy()
        filled[unknown] = at(unknown, known)
        before[plan.checked] = False
        seen = np.abs(at(plan.checked, before) - values[plan.checked]).max(initial=0.0)
        left_out = np.abs(left_out_errors(kind, places[known], values[known, None])).max(initial=0.0)
        return filled, float(np.nan_to_num(min(max(BEYOND * seen, LEFT_OUT * left_out) + step, high - low)))
