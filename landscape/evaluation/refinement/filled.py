"""A surface of which some points are evaluated and the others interpolated: values at all points, and their errors."""

import math

import numpy as np

from landscape.evaluation.refinement.radial_basis import Kind, interpolate, left_out_errors
from landscape.evaluation.refinement.selection import Plan
from landscape.evaluation.refinement.tolerance import LOSS_FLOOR, UNSEEN_FACTOR, error_bound, scale_of
from landscape.evaluation.statistics import Statistics

__all__ = ["FilledStatistics"]

LEFT_OUT_FACTOR = 1.25  # times the largest error of a value left out among the evaluated ones, which others may be off


class FilledStatistics:
    """`Statistics` of all points: evaluated where that is done, interpolated elsewhere.

    The loss of the mean (and of single samples) is what the plan verified. Standard error, accuracy and quantities come
    from the same radial basis functions through their own values. No tolerance holds for them; how far off they are to
    be expected at most is recorded: from what the points of the verification show, from what evaluated values show of
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
        further = {
            name: self._companion(mean, -math.inf, math.inf, 0.0) for name, mean in statistics.quantities.items()
        }
        self.quantities = {name: values for name, (values, _) in further.items()}
        self.description = {
            "tolerance": tolerance,
            "reached": plan.reached,
            "method": str(plan.kind) if plan.kind else None,
            "evaluated_points": int(self.done.sum()),
            "verified_points": len(plan.checked),
            "largest_error": float(plan.errors.max(initial=0.0)),
            "percentile_99_error": float(np.percentile(plan.errors, 99)) if len(plan.errors) else 0.0,
            "error_bound": error_bound(tolerance, plan.errors, plan.reached),
            "loss_floor": LOSS_FLOOR * float(scale_of(statistics.values(statistics.done.numpy()))[0]),
            "standard_error_and_accuracy": "interpolated" if plan.kind else "evaluated",
            "largest_standard_error_error": error_of_error,
            "largest_accuracy_error": error_of_accuracy,
            **({"largest_quantity_errors": {name: error for name, (_, error) in further.items()}} if further else {}),
            "planning_seconds": 0.0,
        }

    def _companion(self, values: np.ndarray, low: float, high: float, step: float) -> tuple[np.ndarray, float]:
        """Another quantity, which goes by a ``step``, at all points, and the largest absolute error to be expected."""
        plan, places = self.plan, self.plan.places
        if plan.kind is None or places is None or plan.known is None:
            return values, 0.0
        kind, known, unknown = Kind(plan.kind.kernel, "loss"), plan.known & np.isfinite(values), ~self.done

        def at(points: np.ndarray, usable: np.ndarray) -> np.ndarray:
            interpolated = interpolate(kind, places[usable], values[usable, None], places[points])[:, 0]
            clipped: np.ndarray = np.clip(interpolated, low, high)
            return clipped

        filled, before = values.copy(), known.copy()
        filled[unknown] = at(unknown, known)
        before[plan.checked] = False
        checked = plan.checked[np.isfinite(values[plan.checked])]
        seen = np.abs(at(checked, before) - values[checked]).max(initial=0.0)
        left_out = np.abs(left_out_errors(kind, places[known], values[known, None])).max(initial=0.0)
        return filled, float(
            np.nan_to_num(min(max(UNSEEN_FACTOR * seen, LEFT_OUT_FACTOR * left_out) + step, high - low))
        )
