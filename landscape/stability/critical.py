"""Sharpness along the steps of training: the smallest step that raises the loss, and curvature along gradients."""

import math
import statistics
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from landscape.curvature.products import hessian_product
from landscape.errors import InputError
from landscape.objective.gradients import MeanLoss
from landscape.objective.objectives import Objective
from landscape.points import Point, as_float64, inner

__all__ = ["CriticalStep", "batch_sharpness", "critical_step"]

# Doublings or halvings of the step in the search for a bracket; after them the loss counts as rising nowhere (after
# doublings) or everywhere (after halvings).
DOUBLINGS = 40
REFINEMENTS = 40  # evaluations inside the bracket, at most; a quadratic needs one or two
TOLERANCE = 1e-4  # relative distance between the next step and one that was tried, at which the search ends


class CriticalStep(NamedTuple):
    """The result of `critical_step`."""

    multiple: float  # s; 0 if the loss rises along every step, infinite if it falls along every step
    loss: float  # L(theta)
    passes: int  # forward passes over all data


def critical_step(objective: Objective, point: Point, update: Point, *, start: float = 1.0) -> CriticalStep:
    """The smallest s > 0 with L(theta - s u) > L(theta) for the update u.

    With the learning rate lr of the optimizer that made the update, 2 / (s lr) is the critical sharpness: for a
    quadratic loss with gradient g and Hessian H it is d^T H d / (d^T g), where u = lr d, and thus g^T H g / g^T g for
    gradient descent, where d = g. The step s is doubled or halved until two steps enclose the result. The search then
    follows the secant of (L(theta - s u) - L(theta)) / s, which is a straight line in s for a quadratic loss.
    If the loss rises at a shorter step and falls again, the search may miss that step. Source: Kalra et al. 2026,
    "A Scalable Measure of Loss Landscape Curvature for Analyzing the Training Dynamics of LLMs".

    Args:
        objective: The loss L and its data.
        point: theta.
        update: u, keyed like ``point``; parameters that do not move may be absent.
        start: The step that is tried first, such as the result at an earlier point.

    The multiple is NaN if the loss at the point is not finite or nothing moves.
    """
    settled = objective.for_slice(None)
    losses = as_float64(settled(point))
    loss = float(losses.mean())
    if not math.isfinite(loss) or not any(step.any() for step in update.values()):
        return CriticalStep(math.nan, loss, 1)

    def rise(step: float) -> float:
        moved = {name: value - step * update[name] if name in update else value for name, value in point.items()}
        change = float((as_float64(settled(moved)) - losses).mean())
        return math.inf if math.isnan(change) else change

    multiple, evaluations = _crossing(rise, start)
    return CriticalStep(multiple, loss, 1 + evaluations)


def _crossing(rise: Callable[[float], float], start: float) -> tuple[float, int]:
    """The step at which ``rise`` goes from negative to positive, and the number of its evaluations."""
    below = above = None  # the nearest steps on both sides, with rise / step
    step, count = start, 0
    while below is None or above is None:
        if count > DOUBLINGS:
            return (math.inf if above is None else 0.0), count
        value, count = rise(step), count + 1
        if value > 0:
            above, step = (step, value / step), step / 2
        else:
            below, step = (step, value / step), step * 2
    for _ in range(REFINEMENTS):
        width = above[0] - below[0]
        finite = math.isfinite(above[1])  # the loss at the upper end of the bracket may be infinite
        step = below[0] + width * (below[1] / (below[1] - above[1]) if finite else 0.5)
        if min(step - below[0], above[0] - step) <= TOLERANCE * below[0]:
            break
        value, count = rise(step), count + 1
        if value > 0:
            above = (step, value / step)
        else:
            below = (step, value / step)
    return step, count


def batch_sharpness(
    objective: Objective, point: Point, *, batch_size: int, batches: int = 10, seed: int = 0
) -> tuple[float, float]:
    """E[g^T H g / |g|^2] over mini-batches with gradients g and Hessians H, and its standard error.

    Source: Andreyev and Beneventano 2024, "Edge of Stochastic Stability: Revisiting the Edge of Stability for SGD",
    section 3. Every mini-batch is drawn from all samples, without replacement inside it; with all samples as one batch
    the result is g^T H g / |g|^2 of the whole loss. The standard error of a single mini-batch is NaN.

    Raises:
        InputError: the batches of the data are fixed, or the loss has no second derivatives.
    """
    if objective.batches_fixed:
        raise InputError("batch sharpness draws mini-batches, but the batches of these data are fixed; pass tensors")
    values = []
    for number in range(batches):
        part = objective.subset(batch_size, seed + number)
        _, gradient = MeanLoss(part).with_gradient(point)
        square = inner(gradient, gradient)
        product = hessian_product(part, point)
        direction = {name: value.to(point[name]) for name, value in gradient.items()}
        values.append(inner(gradient, _double(product(direction))) / square if square else math.nan)
        if batch_size >= objective.size:
            return values[0], 0.0
    error = statistics.stdev(values) / math.sqrt(batches) if batches > 1 else math.nan
    return statistics.fmean(values), error


def _double(point: Point) -> dict[str, Tensor]:
    return {name: as_float64(value) for name, value in point.items()}
