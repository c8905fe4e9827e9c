"""Choose subset size and tolerance for a time budget, balancing sampling and interpolation error."""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.evaluation.engine import evaluate
from landscape.evaluation.grid import grid_axes
from landscape.objective.objectives import Objective
from landscape.results import Surface
from landscape.runtime import ranks
from landscape.slices.planes import Slice

__all__ = ["BudgetPlan", "plan_budget"]

PILOT = 256  # samples of the first small grids, at the most
SMALL = 0.1  # of the time, which they take at the most
SECOND = 0.5  # of the samples that these let expect: those of the last small grid
TRIAL = 0.05  # of the samples that this lets expect: those of a trial of the whole grid
LONGEST = 0.2  # of the time, which that takes at the most
ROUGHER = 2  # times the points that the final samples take, about: few samples are rougher than many
POINTS = 200  # that a smooth surface takes at the tolerance that comes out: lattice, some rounds, verification
SHARE = 0.95  # of the time that is planned for
LEAST_SHARE = 0.2  # of the time of a small grid that its points take at the least, whatever a difference of times says
FINEST, COARSEST = 0.003, 0.1  # tolerances
FEWEST = 32  # samples


@dataclass(frozen=True)
class BudgetPlan:
    """What a given time pays for."""

    samples: int  # of the subset
    tolerance: float  # for `evaluate`
    relative_standard_error: float  # expected, as a share of the loss
    seconds: float  # left for `evaluate`


def plan_budget(
    objective: Objective,
    slice_: Slice,
    seconds: float,
    seed: int = 0,
    *,
    alpha_range: tuple[float, float] = (-1, 1),
    beta_range: tuple[float, float] = (-1, 1),
    resolution: int | tuple[int, int] = 51,
) -> BudgetPlan:
    """Subset size and tolerance such that `evaluate` takes about ``seconds``.

    A forward pass, small grids on few samples, then one on more give the seconds of a sample at a point, t, and the
    coefficient of variation c of the losses. With n = SHARE seconds / (P t) samples at P points the standard error is
    c / sqrt(n) of the loss; that is also the tolerance, so that neither error is paid for more dearly than the other.
    P is that of smooth surfaces, or more where a trial on a twentieth of the samples tells that the loss is rough.

    Args:
        objective: on all samples.
        slice_: a plane, or a line.
        seconds: for everything, this plan included.
        seed: draws the subset.
        alpha_range, beta_range, resolution: the grid, as in `evaluate`.

    Raises:
        InputError: the time is not enough for ``FEWEST`` samples, or the loss has no standard error.
    """
    if not objective.independent or objective.size < 2:
        raise InputError("a budget needs the standard error of a mean over samples; give a tolerance")
    pilot = _Pilot(objective, slice_, seed, {"alpha_range": alpha_range, "beta_range": beta_range})
    purse = _Purse(seconds)
    points = min(POINTS, math.prod(map(len, grid_axes(slice_.dimension, resolution=resolution, **pilot.ranges))))
    cost = _small_grids(pilot, purse, points)
    samples = min(objective.size, purse.affordable(cost, points))
    trial = int(TRIAL * samples)
    if trial >= FEWEST and not cost.cheap:  # a cheap method takes all points
        look = pilot.look(trial, resolution, tolerance=cost.tolerance(samples), budget=LONGEST * seconds)
        points = max(points, look.evaluated // ROUGHER)
        samples = min(objective.size, purse.affordable(cost, points))
    return BudgetPlan(samples, cost.tolerance(samples), cost.error(samples), purse.left)


@dataclass(frozen=True)
class _Look:
    """A small evaluation: how much work it was, how long it took, and what it shows."""

    points: int
    samples: int
    seconds: float
    variation: float  # standard deviation of the losses of single samples, as a share of their mean
    evaluated: int  # points that were not interpolated; 0 where all had to be evaluated anyway
    cheap: bool  # whether the method takes all points in little time


@dataclass(frozen=True)
class _Cost:
    """seconds = fixed + each * points * samples, and how much the losses of single samples vary."""

    each: float
    fixed: float
    variation: float
    cheap: bool

    @classmethod
    def fitted(cls, fixed: float, less: _Look, more: _Look) -> "_Cost":
        """From two looks, of which the second one was more work."""
        work, more_work = less.points * less.samples, more.points * more.samples
        each = max((more.seconds - less.seconds) / (more_work - work), LEAST_SHARE * more.seconds / more_work)
        return cls(each, fixed, more.variation, more.cheap)

    def error(self, samples: int) -> float:
        """The standard error of the mean over so many ``samples``, as a share of the mean."""
        return self.variation / math.sqrt(samples)

    def tolerance(self, samples: int) -> float:
        """The tolerance of the same size."""
        return float(f"{np.clip(self.error(samples), FINEST, COARSEST):.2g}")


class _Purse:
    """The time that is left, by the clock of the first rank: the others have other clocks."""

    def __init__(self, seconds: float):
        self.seconds, self.began = seconds, time.perf_counter()

    @property
    def left(self) -> float:
        return ranks.from_first(lambda: self.seconds - (time.perf_counter() - self.began))

    def affordable(self, cost: _Cost, points: int) -> int:
        """How many samples ``points`` points can be evaluated on.

        Raises:
            InputError: fewer than ``FEWEST``.
        """
        left = self.left
        samples = max(0, int((SHARE * left - cost.fixed) / (points * cost.each)))
        if samples < FEWEST:
            need = (FEWEST * points * cost.each + cost.fixed) / SHARE + self.seconds - left
            raise InputError(f"a budget of {self.seconds:g} s is too short here; about {math.ceil(need)} s are needed")
        return samples


class _Pilot:
    """Small evaluations on random samples of the data."""

    def __init__(self, objective: Objective, slice_: Slice, seed: int, ranges: dict[str, Any]):
        self.objective, self.slice, self.seed, self.ranges = objective, slice_, seed, ranges

    def look(self, samples: int, resolution: Any, **options: Any) -> _Look:
        """Evaluate a grid of this ``resolution`` on so many ``samples``."""
        part = self.objective.subset(samples, self.seed)
        surface = evaluate(part, self.slice, resolution=resolution, progress=False, **self.ranges, **options)
        size = surface.metadata["data"]["size"]
        return _Look(
            surface.loss.size,
            size,
            ranks.from_first(lambda: surface.metadata["seconds"]),
            _variation(surface, size),
            0 if surface.evaluated is None else int(surface.evaluated.sum()),
            surface.metadata["method"] == "affine",
        )

    def pass_seconds(self) -> float:
        """The seconds that one sample takes in a plain forward pass, at the most."""
        few = self.objective.subset(FEWEST, self.seed)
        return ranks.from_first(lambda: min(_seconds(few, self.slice) for _ in range(2))) / few.size


def _small_grids(pilot: _Pilot, purse: _Purse, points: int) -> _Cost:
    """The cost from small grids on few samples and, where there is time, from one on more."""
    dimension = pilot.slice.dimension
    each = pilot.pass_seconds()
    looks = 2 * 3**dimension + 5**dimension
    if FEWEST * looks * each > purse.left:
        purse.affordable(_Cost(each, 0.0, 0.0, False), points)
    samples = max(FEWEST, min(PILOT, int(SMALL * purse.left / (looks * each))))
    small, large = (3,) * dimension, (5,) * dimension
    pilot.look(samples, small)  # slow, as the first one is
    coarse, fine = pilot.look(samples, small), pilot.look(samples, large)
    cost = _Cost.fitted(coarse.seconds, coarse, fine)
    more = min(pilot.objective.size, int(SECOND * purse.affordable(cost, points)))
    if more > 2 * fine.samples:
        cost = _Cost.fitted(coarse.seconds, fine, pilot.look(more, large))
    return cost


def _variation(surface: Surface, samples: int) -> float:
    """Standard deviation of the losses of single samples, as a share of their mean."""
    return float(np.nanmedian(surface.standard_error / np.abs(surface.loss)) * math.sqrt(samples))


def _seconds(objective: Objective, slice_: Slice) -> float:
    """How long a plain forward pass over all samples takes."""
    began = time.perf_counter()
    objective(slice_.origin)
    return time.perf_counter() - began
