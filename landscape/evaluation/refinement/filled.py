"""A surface of which some points are evaluated and the others interpolated: values at all points, and their errors."""

import math

import numpy as np

from landscape.evaluation.refinement.radial_basis import Kind, interpolate, left_out_errors
from landscape.evaluation.refinement.selection import Plan
from landscape.evaluation.refinement.tolerance import LOSS_FLOOR, UNSEEN_FACTOR, error_bound, scale_of
from landscape.evaluation.statistics import Statistics

__all__ = ["FilledStatistics"]

LEFT_OUT_FACTOR = 1.25  # errors may be this multiple of the largest leave-one-out error at the evaluated points


class FilledStatistics:
    """The statistics at all points: evaluated at some, interpolated at the others.

    The mean loss (and the losses of single samples) are the verified values of the plan. Standard error, accuracy and
    quantities are interpolated by the same radial basis functions through their own values, and no tolerance applies to
    them. Their largest error to be expected is recorded instead. It is estimated from the errors at the points of the
    verification and from leave-one-out errors; for the accuracy, which changes in steps, one sample is added.
    """

    def __init__(self, tolerance: float | str, plan: Plan, statistics: Statistics):
        self.evaluated = statistics.finished.numpy()
        self.plan = plan
        self.mean = np.where(self.evaluated, statistics.mean, plan.values[:, 0])
        losses = statistics.losses
        if losses is not None:
            losses = np.where(self.evaluated[:, None], losses, plan.values[:, 1:]).astype(losses.dtype)
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
            "evaluated_points": int(self.evaluated.sum()),
            "verified_points": len(plan.checked),
            "largest_error": float(plan.errors.max(initial=0.0)),
            "percentile_99_error": float(np.percentile(plan.errors, 99)) if len(plan.errors) else 0.0,
            "error_bound": error_bound(tolerance, plan.errors, plan.reached),
            "loss_floor": LOSS_FLOOR * float(scale_of(statistics.values(self.evaluated))[0]),
            "standard_error_and_accuracy": "interpolated" if plan.kind else "evaluated",
            "largest_standard_error_error": error_of_error,
            "largest_accuracy_error": error_of_accuracy,
            **({"largest_quantity_errors": {name: error for name, (_, error) in further.items()}} if further else {}),
            "planning_seconds": 0.0,
        }

    def _companion(self, values: np.ndarray, low: float, high: float, step: float) -> tuple[np.ndarray, float]:
        """Another quantity at all points, and its largest absolute error to be expected.

        Args:
            values: Its values at the evaluated points.
            low: The smallest possible value.
            high: The largest possible value.
            step: The smallest difference between possible values; 0 for a continuous quantity.
        """
        plan, places = self.plan, self.plan.places
        if plan.kind is None or places is None or plan.known is None:
            return values, 0.0
        kind, known, unknown = Kind(plan.kind.kernel, "loss"), plan.known & np.isfinite(values), ~self.evaluated

        def at(points: np.ndarray, usable: np.ndarray) -> np.ndarray:
            interpolated = interpolate(kind, places[usable], values[usable, None], places[points])[:, 0]
            clipped: np.ndarray = np.clip(interpolated, low, high)
            return clipped

        filled, before = values.copy(), known.copy()
        filled[unknown] = at(unknown, known)
        before[plan.checked] = False
        checked = plan.checked[np.isfinite(values[plan.checked])]
        verified = np.abs(at(checked, before) - values[checked]).max(initial=0.0)
        left_out = np.abs(left_out_errors(kind, places[known], values[known, None])).max(initial=0.0)
        return filled, float(
            np.nan_to_num(min(max(UNSEEN_FACTOR * verified, LEFT_OUT_FACTOR * left_out) + step, high - low))
        )
