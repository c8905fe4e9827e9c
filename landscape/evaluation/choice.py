"""Which method evaluates a slice: the fastest that applies by structure and agrees with plain forward passes."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.evaluation.affine import Affine
from landscape.evaluation.direct import Direct
from landscape.evaluation.first_layer import NotApplicable
from landscape.objective import Objective
from landscape.slices import Slice

__all__ = ["METHODS", "Choice", "agree", "choose_method"]

METHODS = {
    "affine": Affine,
    "prefix": lambda objective, slice_: Direct(objective, slice_, prefix=True),
    "direct": lambda objective, slice_: Direct(objective, slice_, prefix=False),
}
# Largest difference to a plain forward pass, relative to the loss: the rounding of a deep network far from its
# minimum stays well below, a wrong shortcut far above.
TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3}
FLOOR = 0.01  # loss below which the difference counts as absolute: a confident network's loss is all rounding


@dataclass(frozen=True, eq=False)
class Choice:
    """An evaluation method and the reasons for it."""

    evaluator: Affine | Direct
    deviation: float  # largest difference to plain forward passes in full precision, relative to a sample's loss
    precision_error: float | None  # largest relative error of the mean loss that a lower precision causes
    rejected: dict[str, str] = field(default_factory=dict)  # faster methods, and why they do not apply


def choose_method(objective: Objective, slice_: Slice, axes: tuple[np.ndarray, ...], method: str) -> Choice:
    """The first of all methods ("auto"), or the named one, that applies and agrees with plain forward passes.

    Raises:
        InputError: the named method does not fit this network and slice.
    """
    rejected: dict[str, str] = {}
    for name in METHODS if method == "auto" else [method]:
        full, points = objective.in_full_precision(), _sample_points(objective, axes)
        try:
            evaluator = METHODS[name](full, slice_)
        except NotApplicable as reason:
            rejected[name] = str(reason)
            continue
        with full.arithmetic():
            found, expected = _evaluator_losses(evaluator, points), _plain_losses(full, slice_, points)
        deviation = _deviation(found, expected)
        if agree(found, expected, objective.dtype):
            error = None
            if objective.precision != "full":
                evaluator = METHODS[name](objective, slice_)
                error = _deviation(_evaluator_losses(evaluator, points).mean(1)[:, None], expected.mean(1)[:, None])
            return Choice(evaluator, deviation, error, rejected)
        rejected[name] = f"differs from a plain forward pass by {deviation:.2g} of the loss"
    reasons = "; ".join(f"{name}: {reason}" for name, reason in rejected.items())
    if method in ("affine", "prefix"):
        raise InputError(f"method {method!r} does not fit: {rejected[method]}; use method='auto'")
    raise RuntimeError(f"no method agrees with plain forward passes ({reasons})")


def agree(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Whether losses [K, n] agree up to rounding: not finite (or beyond 1e30) in both, or close."""
    finite = found.isfinite() & expected.isfinite()
    huge = [~value.isfinite() | (value.abs() > 1e30) for value in (found, expected)]
    return bool((finite | (huge[0] & huge[1])).all()) and _deviation(found, expected) <= TOLERANCES[dtype]


def _deviation(found: Tensor, expected: Tensor) -> float:
    """max |found - expected| / (|expected| + mean |expected| + FLOOR) over the finite pairs, means by row."""
    finite = found.isfinite() & expected.isfinite()
    expected, found = (torch.where(finite, value, 0.0).cpu().double() for value in (expected, found))
    scale = expected.abs() + expected.abs().mean(-1, keepdim=True) + FLOOR
    return float(((found - expected).abs() / scale).max())


def _evaluator_losses(evaluator: Affine | Direct, points: Tensor) -> Tensor:
    """Losses [K, n] of the first batch at ``points``, by the evaluator."""
    batch = evaluator.objective.few_samples()
    found = []
    for block in points.split(evaluator.largest_block):
        evaluator.prepare(block)
        evaluator.load(batch)
        found.append(torch.cat([losses.clone() for losses, _ in evaluator.run()], dim=1))
    return torch.cat(found)


def _plain_losses(objective: Objective, slice_: Slice, points: Tensor) -> Tensor:
    """The same by plain forward passes."""
    batch = objective.few_samples()
    expected = []
    for point in points.tolist():
        objective.move_to(slice_(*point), slice_.weights_at(*point))
        expected.append(objective.evaluate(batch)[0])
    objective.move_to(slice_.origin)
    return torch.stack(expected)


def _sample_points(objective: Objective, axes: tuple[np.ndarray, ...]) -> Tensor:
    """The corners of the grid and three points inside; one point where each costs a walk through all data."""
    generator = torch.Generator().manual_seed(0)
    low, high = (torch.tensor([axis[end] for axis in axes], dtype=torch.float64) for end in (0, -1))
    inside = low + torch.rand(3, len(axes), generator=generator, dtype=torch.float64) * (high - low)
    if objective.batch_norm == "recalibrate":
        return inside[:1]
    corners = list(itertools.product(*[(axis[0], axis[-1]) for axis in axes]))
    return torch.cat([torch.tensor(corners, dtype=torch.float64), inside])
