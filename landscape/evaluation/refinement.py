"""Which points of a grid are evaluated: few where the loss is smooth, all where it is rough, the error verified.

The grid is cut into cells. A cell is split by evaluating its middle and the middles of its edges; how far the values
there are from what was interpolated before tells how far the interpolation inside will be afterwards. When no cell
promises more than the tolerance, points that no interpolation has seen are evaluated: either they confirm it, or the
cells around those that do not are split. The first points lie closer about the trained network, where a loss bends
most for its size. Multiresolution by interpolation goes back to Harten 1994, "Adaptive multiresolution schemes for
shock computations".
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from landscape.evaluation.interpolation import KINDS, Kind, interpolate

__all__ = ["FLOOR", "Plan", "Refinement", "relative_error"]

FLOOR = 0.01  # loss, in its own units, below which errors count as those of a loss of this size
COARSE = 12  # cells along an axis to begin with, or as many as there are points
GRADED = 1.0  # how much further apart the first points are far out than about the centre: cosh(1), 1.5 times
CHECKS = 64  # fresh points of one verification
RANDOM = 16  # of them, at the least
NEW = 5  # points that splitting a cell takes, at the most
GAIN = 12.0  # by which splitting a cell lessens its error, where the loss is smooth
MARGIN = 0.7  # of the tolerance that may be expected before a verification is worth its points
PASS = 0.8  # of the tolerance that a verification may show, as the worst point is hardly among the fresh ones
ENOUGH = 0.6  # share of the grid from which on the rest is evaluated as well

HUGE = 1e300  # stands for an error that is not finite

Cell = tuple[tuple[int, int], ...]  # first and last index along every axis


@dataclass
class Plan:
    """What a refinement found: values at all points, and how far they can be trusted."""

    values: np.ndarray  # [P, M]
    places: np.ndarray | None = None  # [P, axes] in the unit square
    kind: Kind | None = None  # None: every point is evaluated
    seen: np.ndarray | None = None  # [P] bool: the points that the interpolation goes through
    checked: np.ndarray = field(default_factory=lambda: np.empty(0, int))  # points that verified it
    errors: np.ndarray = field(default_factory=lambda: np.empty(0))  # relative errors there
    reached: bool = True  # whether all of them are allowed


class Refinement:
    """Drives ``evaluate(indices) -> values [K, M]`` over the points of a grid of ``shape`` until the error is small.

    Args:
        shape: points along each axis; points are numbered in C order.
        evaluate: called with increasing numbers of points, each of them once.
        allowed: largest acceptable |error| [K, M] for values [K, M] at points [K].
        seed: draws the points of the verifications.
        affords: whether as many more points can be paid for.
        centre: where along each axis, from 0 to 1, the loss bends most for its size: the first points are closer there.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        evaluate: Callable[[np.ndarray], np.ndarray],
        allowed: Callable[[np.ndarray, np.ndarray], np.ndarray],
        seed: int = 0,
        affords: Callable[[int], bool] = lambda _: True,
        centre: tuple[float, ...] | None = None,
    ):
        self.shape, self.size = shape, math.prod(shape)
        self.centre = centre or (0.5,) * len(shape)
        self.evaluate, self.allowed, self.affords = evaluate, allowed, affords
        self.generator = np.random.default_rng(seed)
        axes = np.meshgrid(*(np.linspace(0, 1, count) for count in shape), indexing="ij")
        self.places = np.stack(axes, -1).reshape(-1, len(shape))
        self.known = np.zeros(self.size, bool)
        self.values: np.ndarray | None = None
        self.kind, self.errors = KINDS[0], dict.fromkeys(KINDS, math.inf)

    def run(self) -> Plan:
        """Refine until a verification succeeds, everything is evaluated, or no further points can be afforded."""
        cells = self._start()
        while (rest := int((~self.known).sum())) > CHECKS:
            if rest < (1 - ENOUGH) * self.size and self.affords(rest):
                break
            rough = sorted((cell for cell, error in cells.items() if error > MARGIN), key=cells.get, reverse=True)
            while rough and not self.affords(CHECKS + NEW * len(rough)):
                rough = rough[: len(rough) // 2]
            if rough:
                cells = self._split(cells, rough)
                continue
            seen, kind = self.known.copy(), self.kind
            checked, expected = self._suspects(cells)
            ratios = self._surprises(checked)
            if ratios.max() <= PASS or not self.affords(CHECKS + NEW):
                return self._filled(kind, seen, checked, expected, bool(ratios.max() <= 1))
            cells = self._doubted(cells, checked, ratios)
        self._learn(np.flatnonzero(~self.known))
        return Plan(self.values)

    def _start(self) -> dict[Cell, float]:
        """Every second point of the coarse lattice, then the rest of it: errors for every coarse cell."""
        edges = [_graded(count, centre) for count, centre in zip(self.shape, self.centre, strict=True)]
        self._learn(self._lattice([np.unique(np.append(axis[::2], axis[-1])) for axis in edges]))
        new = np.setdiff1d(self._lattice(edges), np.flatnonzero(self.known))
        ratios = self._surprises(new)
        sides = [[(int(a), int(b)) for a, b in itertools.pairwise(axis)] for axis in edges]
        return self._settled({cell: self._worst(cell, new, ratios) / GAIN for cell in itertools.product(*sides)})

    def _split(self, cells: dict[Cell, float], rough: list[Cell]) -> dict[Cell, float]:
        """Cut the cells that are ``rough`` along every axis that has points left."""
        parts = {cell: list(itertools.product(*(_halves(*side) for side in cell))) for cell in rough}
        corners = {corner for pieces in parts.values() for piece in pieces for corner in itertools.product(*piece)}
        wanted = np.unique([np.ravel_multi_index(corner, self.shape) for corner in corners])
        new = wanted[~self.known[wanted]]
        ratios = self._surprises(new)
        children = {
            piece: (self._worst(cell, new, ratios) or cells[cell]) / GAIN
            for cell, pieces in parts.items()
            for piece in pieces
        }
        return self._settled({cell: error for cell, error in cells.items() if cell not in parts} | children)

    def _suspects(self, cells: dict[Cell, float]) -> tuple[np.ndarray, np.ndarray]:
        """Fresh points, most where kinds of interpolation differ, one a cell, the rest random; what is expected."""
        fresh = np.flatnonzero(~self.known)
        guess = self._predict(self.kind, fresh)
        others = np.stack([self._predict(kind, fresh) for kind in KINDS if kind != self.kind])
        doubt = np.nan_to_num((np.abs(others - guess) / self.allowed(guess, fresh)).max(2), nan=0.0)
        doubt = np.sort(doubt, axis=0)[-2]
        suspects = {}
        index = np.stack(np.unravel_index(fresh, self.shape), 1)
        for cell in cells:
            low, high = np.array(cell).T
            inside = np.flatnonzero(((low <= index) & (index <= high)).all(1))
            if len(inside):
                best = inside[doubt[inside].argmax()]
                suspects[int(best)] = doubt[best]
        picked = sorted(suspects, key=suspects.get, reverse=True)[: CHECKS - RANDOM]
        rest = np.setdiff1d(np.arange(len(fresh)), picked)
        random = self.generator.choice(rest, CHECKS - len(picked), replace=False)
        picked = np.sort(np.append(picked, random)).astype(int)
        return fresh[picked], guess[picked]

    def _doubted(self, cells: dict[Cell, float], checked: np.ndarray, ratios: np.ndarray) -> dict[Cell, float]:
        """The errors of the cells, with what was found at the points ``checked``."""
        found = {cell: self._worst(cell, checked, ratios) for cell in cells}
        return self._settled({cell: max(error, found[cell]) for cell, error in cells.items()})

    def _settled(self, cells: dict[Cell, float]) -> dict[Cell, float]:
        """The cells that have points left inside; those that touch a value that is not finite are the roughest."""
        bad = np.flatnonzero(self.known)[~np.isfinite(self.values[self.known]).all(1)]
        touched = np.full(len(bad), math.inf)
        return {
            cell: self._worst(cell, bad, touched) or error
            for cell, error in cells.items()
            if any(last - first > 1 for first, last in cell)
        }

    def _worst(self, cell: Cell, points: np.ndarray, ratios: np.ndarray) -> float:
        """The largest of ``ratios`` at those ``points`` that lie in ``cell``, its edges included; 0 without any."""
        inside = np.ones(len(points), bool)
        for index, (first, last) in zip(np.unravel_index(points, self.shape), cell, strict=True):
            inside &= (first <= index) & (index <= last)
        return float(ratios[inside].max(initial=0.0))

    def _surprises(self, new: np.ndarray) -> np.ndarray:
        """Evaluate the points ``new``; the error [K] of what was expected there, in units of what is allowed.

        The kind of interpolation that was nearest (99th percentile) is used from then on.
        """
        used, guesses = self.kind, {kind: self._predict(kind, new) for kind in KINDS}
        self._learn(new)
        if not len(new):
            return np.empty(0)
        values, allowed = self.values[new], self.allowed(self.values[new], new)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            ratios = {kind: (np.abs(guess - values) / allowed).max(1) for kind, guess in guesses.items()}
        ratios = {kind: np.nan_to_num(ratio, nan=HUGE, posinf=HUGE) for kind, ratio in ratios.items()}
        self.errors = {kind: float(np.percentile(ratio, 99)) for kind, ratio in ratios.items()}
        self.kind = min(self._kinds(), key=self.errors.get)
        return ratios[used]

    def _learn(self, new: np.ndarray) -> None:
        values = self.evaluate(new)
        if self.values is None:
            self.values = np.full((self.size, values.shape[1]), np.nan)
        self.values[new], self.known[new] = values, True
        if self.kind not in self._kinds():
            self.kind = self._kinds()[0]

    def _kinds(self) -> list[Kind]:
        """Those that the known values allow: zero and less have no logarithm."""
        nonpositive = (self.values[self.known] <= 0).any()
        return [kind for kind in KINDS if not (kind.logarithm and nonpositive)]

    def _predict(self, kind: Kind, wanted: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
        known = self.known if known is None else known
        usable = known & np.isfinite(self.values).all(1)
        if not usable.any():
            return np.full((len(wanted), self.values.shape[1]), np.nan)
        return interpolate(kind, self.places[usable], self.values[usable], self.places[wanted])

    def _filled(self, kind: Kind, seen: np.ndarray, checked: np.ndarray, expected: np.ndarray, reached: bool) -> Plan:
        """The interpolation that was verified, with the values of the points that verified it."""
        errors = relative_error(expected, self.values[checked]).max(1)
        unknown = np.flatnonzero(~self.known)
        self.values[unknown] = self._predict(kind, unknown, seen)
        return Plan(self.values, self.places, kind, seen, checked, errors, reached)

    def _lattice(self, axes: list[np.ndarray]) -> np.ndarray:
        return np.ravel_multi_index(np.meshgrid(*axes, indexing="ij"), self.shape).ravel()


def relative_error(found: np.ndarray, values: np.ndarray) -> np.ndarray:
    """|found - value| / max(|value|, FLOOR)."""
    return np.abs(found - values) / np.maximum(np.abs(values), FLOOR)


def _graded(count: int, centre: float) -> np.ndarray:
    """Indices of the first points along an axis of ``count``: centre + L sinh(u) / sinh(GRADED) for even steps of u."""
    reach = max(centre, 1 - centre)
    ends = np.arcsinh(np.sinh(GRADED) * np.array([-centre, 1 - centre]) / reach)
    places = centre + reach * np.sinh(np.linspace(*ends, min(COARSE, count - 1) + 1)) / np.sinh(GRADED)
    return np.unique((places * (count - 1)).round().astype(int))


def _halves(first: int, last: int) -> list[tuple[int, int]]:
    middle = (first + last) // 2
    return [(first, middle), (middle, last)] if last - first > 1 else [(first, last)]
