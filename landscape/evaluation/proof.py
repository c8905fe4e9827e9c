"""Plain forward passes on few samples at few points, with which every faster way must agree."""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from landscape.objective.objectives import Objective
from landscape.objective.terms import LOSS
from landscape.points import Point
from landscape.runtime.shards import in_shards_of
from landscape.slices.planes import Slice

__all__ = [
    "HUGE",
    "Proof",
    "agree",
    "agree_as_moved",
    "allowed_difference",
    "deviation",
    "mean_error",
    "rounded_otherwise",
]

Values = TypeVar("Values", float, Tensor)
# Largest difference, as a share of how far the losses have moved from those at the origin: a wrong shortcut misses
# some of that way, whatever the size of the losses themselves.
TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-4}
UNITS = 64  # units in the last place by which sums in another order may differ, of losses and of parameters
HUGE = 1e30  # as good as infinite
PATTERN = 65521  # random signs, repeated over all parameters


class Proof:
    """What losses and quantities are at the corners of a grid, at points inside and at the origin of the slice.

    How much of a difference is rounding follows from passes with every parameter moved by one unit in the last place:
    a network so sure of itself that its loss is nothing but rounding may differ by that, any other may not. These
    passes are run at the corner of the largest loss, and at all points once a difference is beyond the usual rounding.
    """

    def __init__(self, objective: Objective, slice_: Slice, axes: tuple[np.ndarray, ...]):
        self.objective, self.slice, self.dtype = objective, slice_, objective.dtype
        self.points = _sample_points(objective, axes)
        self.batch = objective.batches.few()
        self.expected = self._values(self.points)  # [K, n] each, by name
        self.walks = objective.batch_norm == "recalibrate"  # each pass walks through all data
        if self.walks:
            self.moved = {name: values.abs() for name, values in self.expected.items()}
        else:
            origin = self._values(torch.zeros(1, slice_.dimension))
            self.moved = {name: (values - origin[name]).abs() for name, values in self.expected.items()}
        self.rounding_share = 0.0 if self.walks else self._share(2**slice_.dimension)
        objective.move_to(slice_.origin)

    def holds(self, values: Mapping[str, Tensor]) -> bool:
        """Whether ``values`` [K, n] of losses and all quantities agree."""
        return values.keys() == self.expected.keys() and all(map(self._holds, values, values.values()))

    def deviation(self, losses: Tensor) -> float:
        """The largest difference of ``losses`` [K, n], see `deviation`."""
        return deviation(losses, self.expected[LOSS])

    def precision_error(self, losses: Tensor) -> float:
        """The largest relative error of the mean of ``losses`` [K, n] at a point."""
        return mean_error(losses, self.expected[LOSS])

    def _holds(self, name: str, values: Tensor) -> bool:
        expected, moved = self.expected[name], self.moved[name]
        usual = _allowed(self.dtype, expected, moved, torch.zeros_like(expected))
        return _within(usual, values, expected) or _within(
            _allowed(self.dtype, expected, moved, self.rounding[name]), values, expected
        )

    @functools.cached_property
    def rounding(self) -> dict[str, Tensor]:
        """How much rounding changes the values [K, n]."""
        if self.walks:
            return {name: torch.zeros_like(values) for name, values in self.expected.items()}
        with self.objective.arithmetic(), torch.no_grad():
            nearby = self._values(self.points, rounded_otherwise)
            self.objective.move_to(self.slice.origin)
        return {name: (values - nearby[name]).abs() for name, values in self.expected.items()}

    def _share(self, corners: int) -> float:
        """How much rounding changes the largest mean loss at the ``corners``, as a share of the largest of all."""
        sizes = _finite(self.expected[LOSS].mean(1)).abs()
        if not sizes.max():
            return 0.0
        corner = slice(start := int(sizes[:corners].argmax()), start + 1)
        nearby = self._values(self.points[corner], rounded_otherwise)[LOSS]
        return float(_finite((self.expected[LOSS][corner] - nearby).abs()).mean() / sizes.max())

    def _values(self, points: Tensor, alter: Callable[[Point], Point] = lambda point: point) -> dict[str, Tensor]:
        """Losses and quantities [K, n] at ``points`` [K, axes], by plain passes."""
        rows = [self._row(place, alter) for place in points.tolist()]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _row(self, place: list[float], alter: Callable[[Point], Point]) -> dict[str, Tensor]:
        weights = self.slice.weights_at(*place) if self.objective.renews else []
        self.objective.move_to(alter(self.slice(*place)), weights)
        measured = self.objective.measure(self.batch)
        return {name: values.cpu().double() for name, values in {LOSS: measured.losses, **measured.quantities}.items()}


def allowed_difference(dtype: torch.dtype, moved: Values, size: Values, rounding: Values) -> Values:
    """The largest difference between equal losses of ``size``, which changed by ``moved`` and ``rounding``."""
    return TOLERANCES[dtype] * moved + UNITS * (torch.finfo(dtype).eps * size + rounding)


def agree(losses: Tensor, expected: Tensor, rounding: Tensor, dtype: torch.dtype) -> bool:
    """Whether losses [n] at one point, which rounding changes by ``rounding``, agree with those ``expected``."""
    return _within(_allowed(dtype, expected, torch.zeros_like(expected), rounding), losses, expected)


def agree_as_moved(values: Tensor, expected: Tensor, origin: Tensor, dtype: torch.dtype) -> bool:
    """Whether ``values`` [K, n], losses or a quantity, agree with those ``expected`` beside those at the origin."""
    expected, origin = (part.cpu().double() for part in (expected, origin))
    return _within(_allowed(dtype, expected, (expected - origin).abs(), torch.zeros_like(expected)), values, expected)


def mean_error(losses: Tensor, expected: Tensor) -> float:
    """The largest relative error of the mean of ``losses`` [K, n] at a point."""
    return deviation(*(values.cpu().double().mean(1)[:, None] for values in (losses, expected)))


def _allowed(dtype: torch.dtype, expected: Tensor, moved: Tensor, rounding: Tensor) -> Tensor:
    """The largest allowed difference [..., n] of each sample: its own, plus the mean over all samples."""
    own = allowed_difference(dtype, *map(_finite, (moved, expected.abs(), rounding)))
    return own + own.mean(-1, keepdim=True)


def _within(allowed: Tensor, losses: Tensor, expected: Tensor) -> bool:
    """Whether losses differ by at most ``allowed``; those not finite, or beyond `HUGE`, in both also agree."""
    losses = losses.cpu().double()
    finite = losses.isfinite() & expected.isfinite()
    huge = [~value.isfinite() | (value.abs() > HUGE) for value in (losses, expected)]
    return bool(((huge[0] & huge[1]) | (finite & ((losses - expected).abs() <= allowed))).all())


def deviation(losses: Tensor, expected: Tensor) -> float:
    """The largest |losses - expected| among finite pairs [K, n], relative to the mean |expected| of its row."""
    finite = losses.cpu().isfinite() & expected.cpu().isfinite()
    expected, losses = (torch.where(finite, value.cpu().double(), 0.0) for value in (expected, losses))
    errors = (losses - expected).abs().amax(-1)
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
        pattern = in_shards_of(pattern.to(value.dtype), value).to(value)
        moved[name] = torch.addcmul(value, value, pattern, value=torch.finfo(value.dtype).eps)
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
