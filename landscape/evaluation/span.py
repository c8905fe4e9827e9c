"""How far to look: the span at which the loss has risen by a chosen amount."""

import math
from collections.abc import Callable
from typing import Any

import torch

from landscape.errors import InputError
from landscape.objective.objectives import Objective
from landscape.objective.settling import whole_slice
from landscape.slices.planes import Slice

__all__ = ["find_span"]

FARTHEST = 2.0**16
PRECISION = 1.02  # ratio of the ends of the last bracket


def find_span(
    objective: Objective, slice_: Slice, *, rise: float = 1.0, samples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The span s at which the mean loss of the points -s and +s along every direction is ``rise`` above the origin's.

    The first bracket comes from doubling or halving s = 1, the rest from bisection, on a random subset of the
    samples; a loss that is not finite counts as risen. Of several crossings one is found.

    Args:
        objective: what to evaluate.
        slice_: a line or a plane through the parameters of its network.
        rise: in units of the loss, above 0.
        samples: size of the subset.
        seed: draws the subset.

    Returns:
        {"span", "rise", "samples", "seed", "origin_loss", "evaluations"}: plain numbers, for the metadata.

    Raises:
        InputError: ``rise`` is not positive, the loss at the origin is not finite, or never rises that much.
    """
    if not 0 < rise < math.inf:
        raise InputError(f"rise must be a positive number, not {rise}")
    slice_ = whole_slice(objective.network, slice_)
    objective = objective.for_slice(slice_).subset(samples, seed)
    slice_, count = slice_.to(objective.dtype), slice_.dimension
    evaluations = 0

    def loss(*coordinates: float) -> float:
        nonlocal evaluations
        evaluations += 1
        return float(objective.on(slice_, *coordinates).double().mean())

    def risen(span: float) -> bool:
        ends = (torch.eye(count) * span).tolist()
        mean = math.fsum(loss(*(sign * c for c in end)) for end in ends for sign in (1, -1)) / (2 * count)
        return not mean - origin < rise

    origin = loss(*[0.0] * count)
    if not math.isfinite(origin):
        raise InputError(f"the loss at the origin is {origin}; no range can be found from there")
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
    """(low, 2 low) with the loss risen at the upper end only."""
    span = 1.0
    if risen(span):
        while risen(span / 2):
            span /= 2
            if span < 1 / FARTHEST:
                raise InputError("the loss rises at once in every direction; choose a range by hand")
        return span / 2, span
    while not risen(2 * span):
        span *= 2
        if span > FARTHEST:
            raise InputError(f"the loss does not rise that much within {span:g} units; ask for a smaller rise")
    return span, 2 * span
