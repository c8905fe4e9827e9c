"""The choice of the points of a grid to evaluate: few if the loss is smooth, all if it is rough.

First a coarse lattice is evaluated, denser around the trained network, where the curvature is largest relative to the
loss. Then points are added in rounds, where the largest interpolation error is expected (`expect`), as long as that
exceeds the tolerance; the errors at these points show how reliable the expectation is. Then points that no
interpolation has used are evaluated for verification. If they do not confirm that the error is small enough, they join
the others and the rounds continue. Values are not interpolated next to values that are not finite: all points around
those are evaluated.
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

FIRST_CELLS = 9  # cells along an axis of the first lattice, or fewer if there are fewer points
GRADING = 1.0  # points of the first lattice are cosh(1) = 1.5 times further apart at its edge than at its centre
ROUND_POINTS = 16  # points of one round, at least
ROUND_SHARE = 1 / 8  # share of the evaluated points that one round may add
VERIFICATION_POINTS = 88  # unused points of one verification
RANDOM_POINTS = 16  # random points among them, at least
BORDER_POINTS = 24  # points among them on the border of the grid, at most; these have neighbours on one side only
REMEMBERED_ERRORS = 64  # latest points from whose errors the reliability of the expectation is estimated
VERIFIABLE = 0.8  # share of the tolerance below which expected errors must be before a verification
FILLING = 0.5  # share of that limit above which points are added to fill a round
FAR_OFF = 4.0  # multiple of the tolerance above which a round includes a point in every gap
CANDIDATE_POINTS = 2600  # unused points, drawn at random, from which a round chooses
WORTH_ALL = 0.6  # share of evaluated points above which all others are evaluated as well
NEGLIGIBLE = 1e-12  # share of the tolerance below which expected errors are not compared with errors


@dataclass
class Plan:
    """The result of a refinement: values at all points, and the errors of its verification."""

    values: np.ndarray  # [P, M]
    places: np.ndarray | None = None  # [P, axes] coordinates in the unit square
    kind: Kind | None = None  # kind of interpolation; None: every point is evaluated
    known: np.ndarray | None = None  # [P] mask of the evaluated points
    checked: np.ndarray = field(default_factory=lambda: np.empty(0, int))  # indices of the points of the verification
    errors: np.ndarray = field(default_factory=lambda: np.empty(0))  # relative errors at these points
    reached: bool = True  # whether all of these errors are acceptable


@dataclass
class Step:
    """Points to evaluate next, and the values and errors expected there."""

    points: np.ndarray  # [K] indices
    expected: Expectation | None = None  # None if nothing is expected
    verifies: bool = False  # whether the points are those of a verification


class Refinement:
    """Chooses the points of a grid of ``shape`` at which ``evaluate`` is called, until the error is small enough.

    Args:
        shape: Number of points along each axis; points are numbered in C order.
        evaluate: Function that returns values [K, M] at points [K]; it is called once for every point.
        allowed: Function that returns the largest acceptable |error| [K, M] of values [K, M] at points [K].
        seed: Seed of the random points of the verifications.
        affords: Function that says whether the budget allows so many further points.
        worthwhile: Function that says whether planning is cheaper than evaluating so many remaining points.
        centre: Position along each axis, from 0 to 1, around which the first points are denser.
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
        self.values = np.empty((self.size, 0))  # with the columns of `evaluate`, once it has been called
        self.trust = np.empty(0)  # ratios of errors to expected errors

    def run(self) -> Plan:
        """Refine until a verification succeeds, everything is evaluated, or no further points can be afforded."""
        self._learn(self._lattice())
        while not self.known.all():
            # Rank 0 decides for all, because the results of different machines may differ in the last digits.
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
        """The first points: a graded lattice, and the corners of the cell around the centre, for narrow minima."""
        axes = [_graded(count, centre) for count, centre in zip(self.shape, self.centre, strict=True)]
        middle = np.array(self.centre) * (np.array(self.shape) - 1)
        cell = [np.unique(ends) for ends in zip(np.floor(middle).astype(int), np.ceil(middle).astype(int), strict=True)]
        grids = (np.meshgrid(*lines, indexing="ij") for lines in (axes, cell))
        return np.unique(np.concatenate([np.ravel_multi_index(grid, self.shape).ravel() for grid in grids]))

    def _next(self) -> Step:
        """The next points: a round if the expected error is too large, else a verification, or all if few are left."""
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
        """The values and errors expected at unused ``points``."""
        usable = np.flatnonzero(self._usable())
        return expect(
            self.places[usable],
            self.values[usable],
            self.places[points],
            self.allowed(self.values[usable], usable),
            lambda values, numbers: self.allowed(values, points[numbers]),
        )

    def _affordable(self, chosen: np.ndarray) -> np.ndarray:
        """The longest prefix, among repeated halves, that the budget allows together with one verification."""
        while len(chosen) and not self.affords(VERIFICATION_POINTS + len(chosen)):
            chosen = chosen[: len(chosen) // 2]
        return chosen

    def _worst(self, fresh: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """Indices into ``fresh`` of the points of the next round, by decreasing error; none if all are small."""
        errors = errors * (np.percentile(self.trust, 97) if len(self.trust) else 1.0)
        if errors.max() <= VERIFIABLE:
            return np.empty(0, int)
        chosen = self._spread(fresh, np.where(errors > FILLING * VERIFIABLE, errors, 0), len(fresh))
        return chosen[: max(ROUND_POINTS, int(ROUND_SHARE * self.known.sum()), (errors[chosen] > FAR_OFF).sum())]

    def _verification(self, fresh: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """Indices into ``fresh`` of the points of a verification: gaps of the border, largest errors, random points."""
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
        """Indices of the ``most`` largest positive ``errors``, without points close to a point with a larger error.

        Close means nearer than the nearest evaluated point of the point with the larger error.
        """
        reach, _ = cKDTree(self.places[self.known]).query(self.places[fresh])
        left, chosen = errors.copy(), list[np.intp]()
        while len(chosen) < most and left.max() > 0:
            worst = left.argmax()
            chosen.append(worst)
            left[np.linalg.norm(self.places[fresh] - self.places[fresh[worst]], axis=1) <= reach[worst]] = 0
        return np.array(chosen, int)

    def _beside_broken(self, fresh: np.ndarray) -> np.ndarray:
        """A mask [Q] of the ``fresh`` points that are next to a value that is not finite, or have it as the nearest."""
        broken = self.known & ~self._usable()
        beside = binary_dilation(broken.reshape(self.shape), np.ones((3,) * len(self.shape))).ravel()
        nearest = cKDTree(self.places[self.known]).query(self.places[fresh])[1]
        mask: np.ndarray = beside[fresh] | broken[self.known][nearest]
        return mask

    def _surprises(self, points: np.ndarray, expected: Expectation) -> np.ndarray:
        """The errors [K] of the ``expected`` values at ``points``, as shares of the acceptable errors."""
        values = self.values[points]
        ratios = shares(expected.values - values, self.allowed(values, points))
        usable = (ratios < NOT_FINITE) & (expected.errors > NEGLIGIBLE)
        self.trust = np.append(self.trust, ratios[usable] / expected.errors[usable])[-REMEMBERED_ERRORS:]
        return ratios

    def _usable(self) -> np.ndarray:
        """A mask [P] of the evaluated points with finite values."""
        return self.known & np.isfinite(self.values).all(1)

    def _learn(self, new: np.ndarray) -> None:
        values = self.evaluate(new)
        if not self.values.shape[1]:
            self.values = np.full((self.size, values.shape[1]), np.nan)
        self.values[new], self.known[new] = values, True

    def _filled(self, points: np.ndarray, expected: Expectation, reached: bool) -> Plan:
        """The verified interpolation, computed again with the points of the verification, whose errors were largest."""
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
    """Indices of the first points along an axis of ``count``: centre + L sinh(u) / sinh(GRADING) for equidistant u."""
    reach = max(centre, 1 - centre)
    ends = np.arcsinh(np.sinh(GRADING) * np.array([-centre, 1 - centre]) / reach)
    places = centre + reach * np.sinh(np.linspace(ends[0], ends[1], min(FIRST_CELLS, count - 1) + 1)) / np.sinh(GRADING)
    return np.unique((places * (count - 1)).round().astype(int))
