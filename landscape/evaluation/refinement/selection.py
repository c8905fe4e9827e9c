"""Which points of a grid are evaluated: few where the loss is smooth, all where it is rough, the error verified.

A coarse lattice comes first, its points closer about the trained network, where a loss bends most for its size. Then,
round by round, the points where the interpolation is expected to be worst (`expect`), as long as that is more than the
tolerance; what is found there tells how far to trust the expectation. Then points that no interpolation has seen are
evaluated: either they confirm it, or they join the others, and the rounds go on. Values that are not finite are never
interpolated across: all points about them are evaluated.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import binary_dilation
from scipy.spatial import cKDTree

from landscape.evaluation.refinement.expected_error import NOT_FINITE, Expectation, expect, shares
from landscape.evaluation.refinement.radial_basis import Kind, interpolate
from landscape.evaluation.refinement.tolerance import relative_error, scale_of
from landscape.runtime import ranks

__all__ = ["Plan", "Refinement"]

FIRST_CELLS = 9  # cells along an axis of the first lattice, or as many as there are points
GRADING = 1.0  # how much further apart the first points are far out than about the centre: cosh(1), 1.5 times
ROUND_POINTS = 16  # points of one round
ROUND_SHARE = 1 / 8  # of the known points, which make a round where they are more
VERIFICATION_POINTS = 88  # fresh points of one verification
RANDOM_POINTS = 16  # of them, at the least
BORDER_POINTS = 24  # of them, at most, on the border of the grid, where points have neighbours on one side only
REMEMBERED_ERRORS = 64  # points whose errors tell how far to trust what was expected there
VERIFIABLE = 0.8  # of the tolerance that may be expected before a verification is worth its points
FILLING = 0.5  # of that, above which points fill up a round
FAR_OFF = 4.0  # times the tolerance, beyond which one round will not do: there every gap takes a point
CANDIDATE_POINTS = 2600  # fresh points, drawn at random, that a round chooses from
WORTH_ALL = 0.6  # share of the grid from which on the rest is evaluated as well
NEGLIGIBLE = 1e-12  # expected errors, as shares of the tolerance, below which nothing follows from them


@dataclass
class Plan:
    """What a refinement found: values at all points, and how far they can be trusted."""

    values: np.ndarray  # [P, M]
    places: np.ndarray | None = None  # [P, axes] in the unit square
    kind: Kind | None = None  # None: every point is evaluated
    known: np.ndarray | None = None  # [P] bool: the points that the interpolation goes through
    checked: np.ndarray = field(default_factory=lambda: np.empty(0, int))  # those that verified it before they joined
    errors: np.ndarray = field(default_factory=lambda: np.empty(0))  # relative errors there
    reached: bool = True  # whether all of them are allowed


@dataclass
class Step:
    """Points to evaluate, and what is expected there."""

    points: np.ndarray  # [K]
    expected: Expectation | None = None  # None: nothing
    verifies: bool = False


class Refinement:
    """Drives ``evaluate(indices) -> values [K, M]`` over the points of a grid of ``shape`` until the error is small.

    Args:
        shape: points along each axis; points are numbered in C order.
        evaluate: called with increasing numbers of points, each of them once.
        allowed: largest acceptable |error| [K, M] for values [K, M] at points [K].
        seed: draws the points of the verifications.
        affords: whether as many more points can be paid for.
        worthwhile: whether to plan on is cheaper than to evaluate as many points as are left.
        centre: where along each axis, from 0 to 1, the loss bends most for its size: the first points are closer there.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        evaluate: Callable[[np.ndarray], np.ndarray],
        allowed: Callable[[np.ndarray, np.ndarray], np.ndarray],
        seed: int = 0,
        affords: Callable[[int], bool] = lambda _: True,
        worthwhile: Callable[[int], bool] = lambda _: True,
        centre: tuple[float, ...] | None = None,
    ):
        self.shape, self.size = shape, math.prod(shape)
        self.centre = centre or (0.5,) * len(shape)
        self.evaluate, self.allowed, self.affords, self.worthwhile = evaluate, allowed, affords, worthwhile
        self.generator = np.random.default_rng(seed)
        axes = np.meshgrid(*(np.linspace(0, 1, count) for count in shape), indexing="ij")
        self.places = np.stack(axes, -1).reshape(-1, len(shape))
        self.known = np.zeros(self.size, bool)
        self.values = np.empty((self.size, 0))  # as many columns as `evaluate` gives
        self.trust = np.empty(0)  # errors found, as multiples of those expected

    def run(self) -> Plan:
        """Refine until a verification succeeds, everything is evaluated, or no further points can be afforded."""
        self._learn(self._lattice())
        while not self.known.all():
            # One rank decides: in the last digits, machines may differ.
            step = ranks.from_first(self._next)
            self._learn(step.points)
            if step.expected is None:
                continue
            ratios = self._surprises(step.points, step.expected)
            reached = bool(ratios.max() <= 1)
            if step.verifies and (
                reached or not ranks.from_first(lambda: self.affords(VERIFICATION_POINTS + ROUND_POINTS))
            ):
                return self._filled(step.points, step.expected, reached)
        return Plan(self.values)

    def _lattice(self) -> np.ndarray:
        """The first points: a graded lattice, and the corners of the cell about the centre, where minima are narrow."""
        axes = [_graded(count, centre) for count, centre in zip(self.shape, self.centre, strict=True)]
        middle = np.array(self.centre) * (np.array(self.shape) - 1)
        cell = [np.unique(ends) for ends in zip(np.floor(middle).astype(int), np.ceil(middle).astype(int), strict=True)]
        grids = (np.meshgrid(*lines, indexing="ij") for lines in (axes, cell))
        return np.unique(np.concatenate([np.ravel_multi_index(grid, self.shape).ravel() for grid in grids]))

    def _next(self) -> Step:
        """A round where the error is expected to be too large, else a verification; the rest where that is enough."""
        fresh = np.flatnonzero(~self.known)
        few = len(fresh) < (1 - WORTH_ALL) * self.size or not self.worthwhile(len(fresh))
        few = few and self.affords(len(fresh))
        if len(fresh) <= VERIFICATION_POINTS or few:
            return Step(fresh)
        if len(broken := self._affordable(fresh[self._beside_broken(fresh)])):
            return Step(broken)
        if len(fresh) > CANDIDATE_POINTS:
            some = np.sort(self.generator.choice(fresh, CANDIDATE_POINTS, replace=False))
            expected = self._expected(some)
            if len(chosen := self._affordable(self._worst(some, expected.errors))):
                return _step(some, expected, chosen)
        expected = self._expected(fresh)
        if len(chosen := self._affordable(self._worst(fresh, expected.errors))):
            return _step(fresh, expected, chosen)
        return _step(fresh, expected, self._verification(fresh, expected.errors), verifies=True)

    def _expected(self, points: np.ndarray) -> Expectation:
        """What the known values let expect at fresh ``points``."""
        usable = np.flatnonzero(self._usable())
        return expect(
            self.places[usable],
            self.values[usable],
            self.places[points],
            self.allowed(self.values[usable], usable),
            lambda values, numbers: self.allowed(values, points[numbers]),
        )

    def _affordable(self, chosen: np.ndarray) -> np.ndarray:
        """As many of the first as can be paid for, with a verification after them."""
        while len(chosen) and not self.affords(VERIFICATION_POINTS + len(chosen)):
            chosen = chosen[: len(chosen) // 2]
        return chosen

    def _worst(self, fresh: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """The ``fresh`` points of the next round, as indices, the worst first; none where all errors are small."""
        errors = errors * (np.percentile(self.trust, 97) if len(self.trust) else 1.0)
        if errors.max() <= VERIFIABLE:
            return np.empty(0, int)
        chosen = self._spread(fresh, np.where(errors > FILLING * VERIFIABLE, errors, 0), len(fresh))
        return chosen[: max(ROUND_POINTS, int(ROUND_SHARE * self.known.sum()), (errors[chosen] > FAR_OFF).sum())]

    def _verification(self, fresh: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """Points of a verification, as indices: in the gaps of the border, the worst that are expected, and random."""
        reach, _ = cKDTree(self.places[self.known]).query(self.places[fresh])
        border = ((self.places[fresh] == 0) | (self.places[fresh] == 1)).any(1)
        gaps = reach * border * self.generator.uniform(0.8, 1.0, len(fresh))
        chosen = self._spread(fresh, gaps, BORDER_POINTS)
        rest = errors.copy()
        rest[chosen] = 0
        chosen = np.append(chosen, self._spread(fresh, rest, VERIFICATION_POINTS - RANDOM_POINTS - len(chosen)))
        others = np.setdiff1d(np.arange(len(fresh)), chosen)
        return np.append(chosen, self.generator.choice(others, VERIFICATION_POINTS - len(chosen), replace=False))

    def _spread(self, fresh: np.ndarray, errors: np.ndarray, most: int) -> np.ndarray:
        """The ``most`` largest ``errors`` above 0, as indices, none nearer to a larger one than to a known point."""
        reach, _ = cKDTree(self.places[self.known]).query(self.places[fresh])
        left, chosen = errors.copy(), list[np.intp]()
        while len(chosen) < most and left.max() > 0:
            worst = left.argmax()
            chosen.append(worst)
            left[np.linalg.norm(self.places[fresh] - self.places[fresh[worst]], axis=1) <= reach[worst]] = 0
        return np.array(chosen, int)

    def _beside_broken(self, fresh: np.ndarray) -> np.ndarray:
        """Whether each of the ``fresh`` points [Q] is next to a value that is not finite, or nearest to one."""
        broken = self.known & ~self._usable()
        beside = binary_dilation(broken.reshape(self.shape), np.ones((3,) * len(self.shape))).ravel()
        nearest = cKDTree(self.places[self.known]).query(self.places[fresh])[1]
        found: np.ndarray = beside[fresh] | broken[self.known][nearest]
        return found

    def _surprises(self, points: np.ndarray, expected: Expectation) -> np.ndarray:
        """The errors [K] of what was ``expected`` at ``points``, in units of what is allowed."""
        values = self.values[points]
        ratios = shares(expected.values - values, self.allowed(values, points))
        tell = (ratios < NOT_FINITE) & (expected.errors > NEGLIGIBLE)
        self.trust = np.append(self.trust, ratios[tell] / expected.errors[tell])[-REMEMBERED_ERRORS:]
        return ratios

    def _usable(self) -> np.ndarray:
        """Whether each point [P] is known, and finite."""
        return self.known & np.isfinite(self.values).all(1)

    def _learn(self, new: np.ndarray) -> None:
        values = self.evaluate(new)
        if not self.values.shape[1]:
            self.values = np.full((self.size, values.shape[1]), np.nan)
        self.values[new], self.known[new] = values, True

    def _filled(self, points: np.ndarray, expected: Expectation, reached: bool) -> Plan:
        """The interpolation that was verified, now also through the points that verified it: they were the worst."""
        scale = scale_of(self.values[self.known])
        errors = relative_error(expected.values, self.values[points], scale).max(1)
        kind, usable, unknown = expected.kind, self._usable(), np.flatnonzero(~self.known)
        if not kind.allows(self.values[usable]):  # a point of the verification is 0
            usable[points] = False
        self.values[unknown] = interpolate(kind, self.places[usable], self.values[usable], self.places[unknown])
        return Plan(self.values, self.places, kind, self.known, points, errors, reached)


def _step(points: np.ndarray, expected: Expectation, chosen: np.ndarray, verifies: bool = False) -> Step:
    chosen = np.sort(chosen)
    return Step(points[chosen], Expectation(expected.kind, expected.values[chosen], expected.errors[chosen]), verifies)


def _graded(count: int, centre: float) -> np.ndarray:
    """Indices of the first points along an axis of ``count``: centre + L sinh(u) / sinh(GRADING), u in even steps."""
    reach = max(centre, 1 - centre)
    ends = np.arcsinh(np.sinh(GRADING) * np.array([-centre, 1 - centre]) / reach)
    places = centre + reach * np.sinh(np.linspace(ends[0], ends[1], min(FIRST_CELLS, count - 1) + 1)) / np.sinh(GRADING)
    return np.unique((places * (count - 1)).round().astype(int))
