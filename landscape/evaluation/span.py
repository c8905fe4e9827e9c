"""The span over which the loss rises by a chosen amount."""

import math
from collections.abc import Callable
from typing import Any

import torch

from landscape.checks import check_number
from landscape.errors import InputError
from landscape.evaluation.together import together
from landscape.objective.objectives import Objective, check_objective
from landscape.objective.settling import whole_slice
from landscape.slices.planes import Slice, check_slice

__all__ = ["find_span"]

FARTHEST = 2.0**16
PRECISION = 1.02  # ratio of the ends of the bracket at which bisection stops


@together
def find_span(
    objective: Objective, slice: Slice, *, rise: float = 1.0, samples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The span s for which the mean loss over the points -s and +s along all directions is the origin's plus ``rise``.

    s = 1 is doubled or halved until it brackets the crossing, which is then computed by bisection on a random subset of
    the samples. A loss that is not finite counts as risen. If there are several crossings, one of them is returned.

    Args:
        objective: The losses.
        slice: A line or a plane through the parameters of the objective's network.
        rise: Rise of the loss, in its units, above 0.
        samples: Size of the subset.
        seed: Seed of the subset.

    Returns:
        {"span", "rise", "samples", "seed", "origin_loss", "evaluations"}: plain numbers, for metadata.

    Raises:
        InputError: ``rise`` is not positive, the loss at the origin is not finite, or it never rises so much.
    """
    check_objective(objective, "find_span(objective, plane)")
    check_slice(slice, "find_span(objective, plane)")
    check_number("rise", rise, above=0)
    slice = whole_slice(objective.network, slice)
    objective = objective.for_slice(slice).subset(samples, seed)
    slice, count = objective.network.in_precision(slice), slice.dimension
    evaluations = 0

    def loss(*coordinates: float) -> float:
        nonlocal evaluations
        evaluations += 1
        return float(objective.on(slice, *coordinates).double().mean())

    def risen(span: float) -> bool:
        ends = (torch.eye(count) * span).tolist()
        mean = math.fsum(loss(*(sign * c for c in end)) for end in ends for sign in (1, -1)) / (2 * count)
        return not mean - origin < rise

    origin = loss(*[0.0] * count)
    if not math.isfinite(origin):
        raise InputError(f"the loss at the origin is {origin}, so that no range can be measured from it")
    low, high = _bracket(risen)
    while high / low > PRECISION:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if risen(middle) else (middle, high)
    return {
        "span": float(f"{high:.3g}"),
        "rise": rise,
        "samples": objective.size,
        "seed": seed,
        "origin_loss": origin,
        "evaluations": evaluations,
    }


def _bracket(risen: Callable[[float], bool]) -> tuple[float, float]:
    """(low, 2 low) such that the loss has risen at the upper end only."""
    span = 1.0
    if risen(span):
        while risen(span / 2):
            span /= 2
            if span < 1 / FARTHEST:
                raise InputError("the loss rises immediately in every direction; choose a range by hand")
        return span / 2, span
    while not risen(2 * span):
        span *= 2
        if span > FARTHEST:
            raise InputError(f"the loss does not rise that much within {span:g} units; ask for a smaller rise")
    return span, 2 * span
