"""Filling the points of a grid: all are evaluated, or some, from which the others are interpolated."""

import functools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from landscape.evaluation.ledger import Ledger
from landscape.evaluation.refinement.filled import FilledStatistics
from landscape.evaluation.refinement.selection import Plan, Refinement
from landscape.evaluation.refinement.tolerance import allowed_error
from landscape.evaluation.statistics import EVERY, Statistics
from landscape.evaluation.workers import Workers
from landscape.runtime import ranks

__all__ = ["Filled", "Goal", "fill"]

THINNED = 10  # a smooth surface takes about every tenth point
QUICK = 0.5  # seconds for a whole grid, below which to plan which of its points are evaluated takes longer
PLANNING = 0.5  # seconds of planning that are granted in any case, and as many more as the rest of the grid would take
LONG, MANY = 60.0, 40  # seconds and tenths of points from which on that is worth a hint
ANNOUNCED = 5.0  # seconds of work that are worth a line
RETUNED = 2  # times the points that the settings were timed for, from which on others may pay
ROUND_SECONDS = 20.0  # work between two saves of a resume file, or two exchanges between ranks


@dataclass(frozen=True)
class Goal:
    """The tolerance of a surface, and the time at which its refinement ends."""

    tolerance: float | str | None
    budget: float | None  # seconds
    deadline: float  # on the clock of time.perf_counter; infinite without a budget

    @classmethod
    def of(cls, tolerance: float | str | None, budget: float | None) -> "Goal":
        """The goal of an evaluation that begins now, with a ``budget`` in seconds."""
        return cls(tolerance, budget, math.inf if budget is None else time.perf_counter() + budget)


@dataclass(frozen=True, eq=False)
class Filled:
    """The values at all points, and how those that were not evaluated came about (None where a tolerance is)."""

    values: Statistics | FilledStatistics
    interpolation: dict[str, Any] | None = None


def fill(workers: Workers, ledger: Ledger, axes: tuple[np.ndarray, ...], goal: Goal, talks: bool) -> Filled:
    """Evaluate every point of the grid, or as many as the tolerance takes and the budget pays for."""
    every, rounds, tolerance = torch.arange(len(ledger.coordinates)), Rounds(workers, ledger), goal.tolerance
    whole = tolerance is None or tolerance == 0 or workers.evaluator.cheap
    planned = every if whole else every[::THINNED]
    seconds = rounds.prepare(planned)
    if talks:
        _announce(workers, seconds, len(ledger.pending(planned)), len(planned), len(every))
    quick = 0 < seconds * len(every) < min(QUICK, goal.deadline - time.perf_counter())
    if tolerance is not None and not ranks.from_first(lambda: whole or quick):
        rounds.evaluate(ledger.centre)
        return _refined(rounds, axes, goal, tolerance)
    rounds.evaluate(every)
    if tolerance is None:
        return Filled(ledger.statistics)
    return _interpolated(ledger, goal, tolerance, Plan(ledger.statistics.values(EVERY)), 0.0)


def _refined(rounds: "Rounds", axes: tuple[np.ndarray, ...], goal: Goal, tolerance: float | str) -> Filled:
    """Evaluate what the refinement asks for, and can afford."""
    pace = _Pace(rounds, goal.deadline)
    plan = Refinement(
        tuple(len(axis) for axis in axes),
        pace.values,
        functools.partial(allowed_error, tolerance, rounds.ledger.statistics),
        affords=pace.affords,
        worthwhile=pace.worthwhile,
        centre=tuple(float(np.clip((0 - axis[0]) / (axis[-1] - axis[0]), 0, 1)) for axis in axes),
    ).run()
    return _interpolated(rounds.ledger, goal, tolerance, plan, pace.planning)


def _interpolated(ledger: Ledger, goal: Goal, tolerance: float | str, plan: Plan, planning: float) -> Filled:
    values = FilledStatistics(tolerance, plan, ledger.statistics)
    return Filled(values, {**values.description, "planning_seconds": planning, "budget": goal.budget})


class Rounds:
    """Points evaluated round by round, with a save of the resume file and an exchange between ranks after each."""

    def __init__(self, workers: Workers, ledger: Ledger):
        self.workers, self.ledger = workers, ledger
        self.prepared = 0  # points that the settings were timed for
        self.points_a_round = len(ledger.coordinates)
        # Ranks share the points, or, on a network in shards, the samples of every point.
        self.shares = 1 if workers.objective.network.is_sharded else ranks.count()

    def prepare(self, points: Tensor) -> float:
        """Settle how ``points`` are evaluated; the seconds a point takes with all ranks, 0 where not known."""
        pending = self.ledger.pending(points)
        self.prepared = len(points)
        seconds = self.workers.prepare(self.ledger.coordinates[pending[:: self.shares]])
        size = len(self.ledger.coordinates)
        if seconds and (self.ledger.path or self.shares > 1):
            size = max(1, min(size, int(ROUND_SECONDS / seconds)))
        self.points_a_round = ranks.from_first(lambda: size)
        return seconds / self.shares

    def evaluate(self, points: Tensor) -> None:
        """Evaluate those of ``points`` that are not finished yet."""
        pending = self.ledger.pending(points)
        if not len(pending):
            return
        self.workers.progress.expect(len(pending))
        for shares in _shares(pending, self.points_a_round, self.shares):
            rank = ranks.rank() if self.shares > 1 else 0
            mine = shares[rank] if rank < len(shares) else shares[0][:0]
            together = sum(map(len, shares)) / max(1, len(mine))
            for block, sums in self.workers.evaluate(mine, self.ledger, together):
                self.ledger.finish(block, sums, self.workers.regularization(self.ledger.coordinates[block]))
            if self.shares > 1:
                self.ledger.exchange(mine)
            self.ledger.save()


class _Pace:
    """What a refinement may still spend, from the time that its points and its planning have taken."""

    def __init__(self, rounds: Rounds, deadline: float):
        self.rounds, self.deadline = rounds, deadline
        self.began, self.computing, self.before = time.perf_counter(), 0.0, rounds.ledger.finished

    @property
    def planning(self) -> float:
        """Seconds spent on planning instead of evaluating points."""
        return time.perf_counter() - self.began - self.computing

    def values(self, points: np.ndarray) -> np.ndarray:
        """The values at ``points``, which are evaluated unless they are finished."""
        started, indices = time.perf_counter(), torch.from_numpy(points)
        if len(points) > RETUNED * self.rounds.prepared:
            self.rounds.prepare(indices)
        self.rounds.evaluate(indices)
        self.computing += time.perf_counter() - started
        return self.rounds.ledger.values(points)

    def affords(self, points: int) -> bool:
        """Whether so many further ``points`` would be finished before the deadline."""
        now = time.perf_counter()
        return now + points * (now - self.began) / self._evaluated < self.deadline

    def worthwhile(self, points: int) -> bool:
        """Whether planning has taken less time than evaluating so many further ``points`` would."""
        return self.planning < PLANNING + points * self.computing / self._evaluated

    @property
    def _evaluated(self) -> int:
        return max(1, self.rounds.ledger.finished - self.before)


def _shares(pending: Tensor, size: int, count: int) -> Iterator[list[Tensor]]:
    """Shares of at most ``size`` points and of one length, ``count`` of them at a time."""
    rounds = math.ceil(len(pending) / (size * count))
    shares = pending.tensor_split(min(rounds * count, len(pending)))
    for start in range(0, len(shares), count):
        yield list(shares[start : start + count])


def _announce(workers: Workers, seconds: float, pending: int, planned: int, grid: int) -> None:
    """Say how ``pending`` points are evaluated, and how long it takes, where that is worth a line.

    Where fewer points are ``planned`` than the ``grid`` has, that is a guess at those it will take.
    """
    if seconds * pending < ANNOUNCED:
        return
    settings = workers.evaluator.settings
    choice = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items())
    text = f"{workers.evaluator.name}: {choice}; about {_duration(seconds * pending)}"
    if planned < grid:
        text += f", more where the loss is rough ({_duration(seconds * grid)} for every point)"
    elif seconds * pending > LONG and pending >= THINNED * MANY:
        text += f"; about {_duration(seconds * pending / THINNED)} where the loss is smooth, with tolerance 0.01"
    tqdm.write(text)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
