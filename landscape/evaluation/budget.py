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

PILOT = 256  # samples of the first small grids, at most
SMALL = 0.1  # share of the time for the first small grids, at most
SECOND = 0.5  # samples of the last small grid, as a share of those estimated from the first ones
TRIAL = 0.05  # samples of the trial of the whole grid, as a share of those estimated from the small grids
LONGEST = 0.2  # share of the time for the trial, at most
ROUGHER = 2  # a surface on few samples is rougher and takes about so many times the points of the final one
POINTS = 200  # points of a smooth surface at the planned tolerance: lattice, some rounds, verification
SHARE = 0.95  # share of the time that is planned for
LEAST_SHARE = 0.2  # share of a small grid's time that its points take at least, although differences may give less
FINEST, COARSEST = 0.003, 0.1  # smallest and largest tolerance
FEWEST = 32  # samples, at least


@dataclass(frozen=True)
class BudgetPlan:
    """Subset size and tolerance for a time budget."""

    samples: int  # size of the subset
    tolerance: float  # tolerance for `evaluate`
    relative_standard_error: float  # expected standard error, as a share of the loss
    seconds: float  # time left for `evaluate`


def plan_budget(
    objective: Objective,
    slice: Slice,
    seconds: float,
    seed: int = 0,
    *,
    alpha_range: tuple[float, float] = (-1, 1),
    beta_range: tuple[float, float] = (-1, 1),
    resolution: int | tuple[int, int] = 51,
) -> BudgetPlan:
    """Subset size and tolerance with which `evaluate` takes about ``seconds``.

    A forward pass and small grids measure the time t of one sample at one point and the coefficient of variation c of
    the losses. With n = SHARE seconds / (P t) samples at P points the relative standard error is c / sqrt(n). The
    tolerance gets the same value, so that sampling error and interpolation error are balanced. P is the number of
    points of a smooth surface, or more if a trial on a twentieth of the samples shows that the loss is rough.

    Args:
        objective: The losses of all samples.
        slice: A plane or a line.
        seconds: Time for everything, including this plan.
        seed: Seed of the subset.
        alpha_range, beta_range, resolution: The grid, see `evaluate`.

    Raises:
        InputError: the time is too short for `FEWEST` samples, or the loss has no standard error.
    """
    if not objective.independent or objective.size < 2:
        raise InputError("a budget needs the standard error of a mean over samples; use a tolerance instead")
    pilot = _Pilot(objective, slice, seed, {"alpha_range": alpha_range, "beta_range": beta_range})
    purse = _Purse(seconds)
    points = min(POINTS, math.prod(map(len, grid_axes(slice.dimension, resolution=resolution, **pilot.ranges))))
    cost = _small_grids(pilot, purse, points)
    samples = min(objective.size, purse.affordable(cost, points))
    trial = int(TRIAL * samples)
    if trial >= FEWEST and not cost.cheap:  # a cheap method evaluates all points
        look = pilot.look(trial, resolution, tolerance=cost.tolerance(samples), budget=LONGEST * seconds)
        points = max(points, look.evaluated // ROUGHER)
        samples = min(objective.size, purse.affordable(cost, points))
    return BudgetPlan(samples, cost.tolerance(samples), cost.error(samples), purse.left)


@dataclass(frozen=True)
class _Look:
    """The results of a small evaluation."""

    points: int
    samples: int
    seconds: float
    variation: float  # standard deviation of the losses of single samples, as a share of their mean
    evaluated: int  # points that were not interpolated; 0 if no interpolation was requested
    cheap: bool  # whether the method evaluates all points in little time


@dataclass(frozen=True)
class _Cost:
    """The cost model seconds = fixed + each * points * samples, and the coefficient of variation of the losses."""

    each: float
    fixed: float
    variation: float
    cheap: bool

    @classmethod
    def fitted(cls, fixed: float, less: _Look, more: _Look) -> "_Cost":
        """The model through two small evaluations, of which the second was larger."""
        work, more_work = less.points * less.samples, more.points * more.samples
        each = max((more.seconds - less.seconds) / (more_work - work), LEAST_SHARE * more.seconds / more_work)
        return cls(each, fixed, more.variation, more.cheap)

    def error(self, samples: int) -> float:
        """The standard error of the mean over ``samples``, as a share of the mean."""
        return self.variation / math.sqrt(samples)

    def tolerance(self, samples: int) -> float:
        """The tolerance that equals the standard error, within its limits."""
        return float(f"{np.clip(self.error(samples), FINEST, COARSEST):.2g}")


class _Purse:
    """The time that is left, by the clock of rank 0, so that all ranks decide alike."""

    def __init__(self, seconds: float):
        self.seconds, self.began = seconds, time.perf_counter()

    @property
    def left(self) -> float:
        return ranks.from_first(lambda: self.seconds - (time.perf_counter() - self.began))

    def affordable(self, cost: _Cost, points: int) -> int:
        """The number of samples on which ``points`` points can be evaluated in the time that is left.

        Raises:
            InputError: it is below `FEWEST`.
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
        """Evaluate a grid of this ``resolution`` on a random subset of ``samples``."""
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
        """An upper estimate of the seconds for one sample in a plain forward pass."""
        few = self.objective.subset(FEWEST, self.seed)
        return ranks.from_first(lambda: min(_seconds(few, self.slice) for _ in range(2))) / few.size


def _small_grids(pilot: _Pilot, purse: _Purse, points: int) -> _Cost:
    """The cost model from small grids on few samples and, if there is time, from one on more samples."""
    dimension = pilot.slice.dimension
    each = pilot.pass_seconds()
    looks = 2 * 3**dimension + 5**dimension
    if FEWEST * looks * each > purse.left:
        purse.affordable(_Cost(each, 0.0, 0.0, False), points)
    samples = max(FEWEST, min(PILOT, int(SMALL * purse.left / (looks * each))))
    small, large = (3,) * dimension, (5,) * dimension
    pilot.look(samples, small)  # the first evaluation is slow and does not count
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
    """The seconds of a plain forward pass over all samples."""
    began = time.perf_counter()
    objective(slice_.origin)
    return time.perf_counter() - began
