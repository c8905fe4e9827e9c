"""Plain forward passes on few samples at few points, with which every faster way must agree."""

import functools
import itertools
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from landscape.objective.objectives import Objective
from landscape.points import Point
from landscape.slices.planes import Slice

__all__ = ["HUGE", "Proof", "agree", "allowed_difference", "deviation", "rounded_otherwise"]

Values = TypeVar("Values", float, Tensor)
# Largest difference, as a share of how far the losses have moved from those at the origin: a wrong shortcut misses
# some of that way, whatever the size of the losses themselves.
TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-4}
UNITS = 64  # units in the last place by which sums in another order may differ, of losses and of parameters
HUGE = 1e30  # as good as infinite
PATTERN = 65521  # random signs, repeated over all parameters


class Proof:
    """What the losses are at the corners of a grid, at points inside and at the origin of the slice.

    How much of a difference is rounding follows from passes with every parameter moved by one unit in the last place:
    a network so sure of itself that its loss is nothing but rounding may differ by that, any other may not. These
    passes are run at the corner of the largest loss, and at all points once a difference is beyond the usual rounding.
    """

    def __init__(self, objective: Objective, slice_: Slice, axes: tuple[np.ndarray, ...]):
        self.objective, self.slice, self.dtype = objective, slice_, objective.dtype
        self.points = _sample_points(objective, axes)
        self.batch = objective.batches.few()
        self.expected = torch.stack([self._losses(place) for place in self.points.tolist()])
        self.walks = objective.batch_norm == "recalibrate"  # each pass walks through all data
        if self.walks:
            self.moved = self.expected.abs()
        else:
            self.moved = (self.expected - self._losses([0.0] * slice_.dimension)).abs()
        self.rounding_share = 0.0 if self.walks else self._share(2**slice_.dimension)
        objective.move_to(slice_.origin)

    def holds(self, found: Tensor) -> bool:
        """Whether ``found`` [K, n] agrees."""
        usual = _allowed(self.dtype, self.expected, self.moved, torch.zeros_like(self.expected))
        return _within(usual, found, self.expected) or _within(self.allowed, found, self.expected)

    @property
    def allowed(self) -> Tensor:
        """The largest difference [K, n] that counts as rounding."""
        return _allowed(self.dtype, self.expected, self.moved, self.rounding)

    @functools.cached_property
    def rounding(self) -> Tensor:
        """How much rounding changes the losses [K, n]."""
        if self.walks:
            return torch.zeros_like(self.expected)
        with self.objective.arithmetic(), torch.no_grad():
            found = self._rounding(self.points, self.expected)
            self.objective.move_to(self.slice.origin)
        return found

    def _share(self, corners: int) -> float:
        """How much rounding changes the largest mean loss at the ``corners``, as a share of the largest of all."""
        sizes = _finite(self.expected.mean(1)).abs()
        if not sizes.max():
            return 0.0
        corner = slice(start := int(sizes[:corners].argmax()), start + 1)
        return float(_finite(self._rounding(self.points[corner], self.expected[corner])).mean() / sizes.max())

    def _rounding(self, points: Tensor, expected: Tensor) -> Tensor:
        nearby = torch.stack([self._losses(place, rounded_otherwise) for place in points.tolist()])
        return (expected - nearby).abs()

    def _losses(self, place: list[float], alter: Callable[[Point], Point] = lambda point: point) -> Tensor:
        weights = self.slice.weights_at(*place) if self.objective.renews else []
        self.objective.move_to(alter(self.slice(*place)), weights)
        return self.objective.measure(self.batch).losses.cpu().double()


def allowed_difference(dtype: torch.dtype, moved: Values, size: Values, rounding: Values) -> Values:
    """Largest difference that is none, for losses of ``size`` that ``moved`` so far and change so much by rounding."""
    return TOLERANCES[dtype] * moved + UNITS * (torch.finfo(dtype).eps * size + rounding)


def agree(found: Tensor, expected: Tensor, rounding: Tensor, dtype: torch.dtype) -> bool:
    """Whether losses [n] at one point, which change so much by ``rounding``, agree."""
    return _within(_allowed(dtype, expected, torch.zeros_like(expected), rounding), found, expected)


def _allowed(dtype: torch.dtype, expected: Tensor, moved: Tensor, rounding: Tensor) -> Tensor:
    """The largest difference [..., n] that counts as none: for each sample, and as much again as on average."""
    own = allowed_difference(dtype, *map(_finite, (moved, expected.abs(), rounding)))
    return own + own.mean(-1, keepdim=True)


def _within(allowed: Tensor, found: Tensor, expected: Tensor) -> bool:
    """Whether losses are not finite (or beyond ``HUGE``) in both, or differ by no more than is ``allowed``."""
    found = found.cpu().double()
    finite = found.isfinite() & expected.isfinite()
    huge = [~value.isfinite() | (value.abs() > HUGE) for value in (found, expected)]
    return bool(((huge[0] & huge[1]) | (finite & ((found - expected).abs() <= allowed))).all())


def deviation(found: Tensor, expected: Tensor) -> float:
    """max |found - expected| over the finite pairs [K, n], as a share of the mean |expected| of a row."""
    finite = found.cpu().isfinite() & expected.cpu().isfinite()
    expected, found = (torch.where(finite, value.cpu().double(), 0.0) for value in (expected, found))
    errors = (found - expected).abs().amax(-1)
    return float(torch.where(errors > 0, errors / expected.abs().mean(-1), 0.0).max())


def _finite(values: Tensor) -> Tensor:
    return torch.where(values.isfinite(), values, 0.0)


def rounded_otherwise(point: Point) -> Point:
    """``point`` with every parameter moved up or down by one unit in the last place, at random."""
    signs = _signs()
    moved = {}
    for name, value in point.items():
        if not (value.is_floating_point() or value.is_complex()):
            moved[name] = value
            continue
        pattern = signs.repeat(-(-value.numel() // PATTERN))[: value.numel()].view(value.shape)
        moved[name] = torch.addcmul(value, value, pattern.to(value), value=torch.finfo(value.dtype).eps)
    return moved


@functools.cache
def _signs() -> Tensor:
    return 2.0 * torch.randint(0, 2, (PATTERN,), generator=torch.Generator().manual_seed(0)) - 1


def _sample_points(objective: Objective, axes: tuple[np.ndarray, ...]) -> Tensor:
    """The corners of the grid and three points inside; one point where each costs a walk through all data."""
    generator = torch.Generator().manual_seed(0)
    low, high = (torch.tensor([axis[end] for axis in axes], dtype=torch.float64) for end in (0, -1))
    inside = low + torch.rand(3, len(axes), generator=generator, dtype=torch.float64) * (high - low)
    if objective.batch_norm == "recalibrate":
        return inside[:1]
    corners = list(itertools.product(*[(axis[0], axis[-1]) for axis in axes]))
    return torch.cat([torch.tensor(corners, dtype=torch.float64), inside])
