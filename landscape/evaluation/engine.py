"""One entry for every evaluation: which points, by which method, checked before it returns."""

import functools
import itertools
import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from landscape.errors import InputError
from landscape.evaluation.agreement import check_ranks
from landscape.evaluation.choice import METHODS, Method, choose_method, few_losses, reason_of
from landscape.evaluation.ends import check_networks
from landscape.evaluation.grid import grid_axes
from landscape.evaluation.identity import identity_of
from landscape.evaluation.methods.affine import Affine
from landscape.evaluation.methods.direct import Direct
from landscape.evaluation.methods.first_layer import perturbed_names
from landscape.evaluation.proof import HUGE, allowed_difference, rounded_otherwise
from landscape.evaluation.refinement.filled import FilledStatistics
from landscape.evaluation.refinement.selection import Plan, Refinement
from landscape.evaluation.refinement.tolerance import allowed_error, check_tolerance
from landscape.evaluation.resume import load_progress, save_progress
from landscape.evaluation.statistics import EVERY, Statistics, Sums
from landscape.evaluation.tuning import tune
from landscape.objective.identity import is_known
from landscape.objective.objectives import Objective
from landscape.objective.samples import available_memory
from landscape.objective.settling import check_positive, whole_slice
from landscape.objective.workers import Team
from landscape.points import Point, check_match
from landscape.results import Surface
from landscape.runtime import own_torch_state, ranks
from landscape.runtime.progress import progress_bar
from landscape.slices.planes import Slice
from landscape.storage.provenance import versions

__all__ = ["evaluate"]

THINNED = 10  # a smooth surface takes about every tenth point
QUICK = 0.5  # seconds for a whole grid, below which to plan which of its points are evaluated takes longer
PLANNING = 0.5  # seconds of planning that are granted in any case, and as many more as the rest of the grid would take
LONG, MANY = 60.0, 40  # seconds and tenths of points from which on that is worth a hint
RETUNED = 2  # times the points that the settings were timed for, from which on others may pay
ROUNDED = 0.01  # share of the loss that rounding may change before that is worth a warning
ROUND_SECONDS = 20.0  # work between two saves of a resume file, or two exchanges between ranks


@own_torch_state()
def evaluate(
    objective: Objective,
    slice_: Slice,
    *,
    alpha_range: tuple[float, float] = (-1, 1),
    beta_range: tuple[float, float] = (-1, 1),
    resolution: int | tuple[int, int] = 51,
    per_sample: bool = False,
    method: Method = "auto",
    tolerance: float | str | None = None,
    budget: float | None = None,
    resume: str | Path | None = None,
    progress: bool = True,
) -> Surface:
    """Mean loss over the samples, its standard error and the accuracy at every point of a grid on a slice.

    loss[i, j] = 1/N sum_n l_n(slice(alphas[i], betas[j])), averaged in float64 whatever the batch size. Before it
    returns, the result is compared with plain forward passes: at the origin on all samples (where the grid
    contains it), at corners and interior points on the first batch, and at the networks that the slice goes through
    with these themselves.

    Args:
        objective: what to evaluate; its own state does not change.
        slice_: a line, a curve or a plane through the parameters of the objective's network.
        alpha_range: first and last coordinate along the first direction.
        beta_range: the same along the second direction; not used on a line or curve.
        resolution: grid points along each axis, one number or two; at least 2.
        per_sample: keep the losses of all samples, [A, B, N].
        method: "affine" (networks whose logits are affine in the coordinates), "prefix" (what precedes the first
            perturbed layer is computed once), "direct" (a forward pass at every point), or "auto", the first of
            these that provably fits. "affine" may compute mean and variance at Chebyshev points (see
            ``metadata["method_settings"]``), where these determine the whole grid to the rounding of the dtype.
        tolerance: None evaluates every point. A number such as 0.01 allows interpolation where the loss is smooth:
            errors up to 0.01 max(|loss|, a hundredth of the median loss), confirmed at 88 fresh points or more, also on
            the border; "noise" allows a third of the standard error. See `landscape.evaluation.refinement.selection`;
            standard error and accuracy are interpolated by the same functions without a tolerance, and how far off
            all of them are to be expected is in ``metadata["interpolation"]``. Where that is faster (the method is
            "affine", the grid takes no longer than a plan) every point is evaluated all the same.
        budget: seconds after which a refinement ends in any case; the error that it has reached is reported.
        resume: file that keeps finished points; an interrupted evaluation with the same file goes on. A callable loss
            must be one that can be recognised, see `landscape.objective.code`.
        progress: show the expected time and a progress bar.

    Raises:
        InputError: a range, resolution, method or tolerance that cannot be used; a slice of another network, or of
            networks whose buffers cannot be mixed or are not known; a per-sample result that does not fit into memory;
            a resume file of another evaluation.

    Example:
        >>> from landscape_lib import objective, random_plane
        >>> model, data = torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
        >>> surface = evaluate(objective(model, data), random_plane(model), resolution=(7, 5), progress=False)
        >>> surface.loss.shape, surface.metadata["method"]
        ((7, 5), 'affine')
    """
    if method != "auto" and method not in METHODS:
        raise InputError(f"unknown method {method!r}; use 'auto' or one of {', '.join(map(repr, METHODS))}")
    check_tolerance(tolerance, objective, per_sample)
    if budget is not None and not (budget > 0 and tolerance):
        raise InputError(f"a budget of {budget} seconds: it must be positive and needs a tolerance")
    axes = grid_axes(slice_, alpha_range, beta_range, resolution)
    slice_ = whole_slice(objective.network, slice_)
    check_match(slice_.origin, dict(objective.model.named_parameters()), "slice")
    objective = objective.for_slice(slice_)
    objective.check_moves(perturbed_names(slice_.directions))
    check_positive(objective.network.ends, slice_, axes)
    if per_sample:
        _check_per_sample(objective, axes)
    identity = identity_of(objective, slice_, axes, per_sample)
    if resume and not is_known(identity):
        raise InputError(
            "resume cannot be used with this loss: it holds something whose content cannot be told (an open file, a "
            "generator, compiled code), so that a later run could not know it again; leave that out, or resume"
        )
    check_ranks(identity, slice_, tolerance=tolerance, budget=budget, method=method)
    began = time.perf_counter()
    with objective.arithmetic(), torch.no_grad():
        networks = check_networks(objective, slice_)
        run = _Run(objective, slice_, axes, identity, per_sample, method, progress)
        run.evaluate(tolerance, math.inf if budget is None else began + budget, Path(resume) if resume else None)
        if run.interpolation:
            run.interpolation.description["budget"] = budget
        origin = run.check_origin()
    return run.surface(time.perf_counter() - began, {"origin": origin, "networks": networks})


class _Run:
    """One evaluation: grid, method, statistics."""

    def __init__(
        self,
        objective: Objective,
        slice_: Slice,
        axes: tuple[np.ndarray, ...],
        identity: dict[str, Any],
        per_sample: bool,
        method: Method,
        progress: bool,
    ) -> None:
        self.objective, self.axes, self.progress = objective, axes, progress
        self.given, self.slice = slice_, slice_.to(objective.dtype)
        self.identity = identity
        self.coordinates = torch.tensor(list(itertools.product(*axes)), dtype=torch.float64)
        self.statistics = Statistics(
            len(self.coordinates), objective.size, per_sample=per_sample, dtype=objective.dtype
        )
        self.method, self.choice = method, choose_method(objective, self.slice, axes, method)
        self.evaluator = self.choice.evaluator
        if (share := self.choice.proof.rounding_share) > ROUNDED:
            warnings.warn(
                f"ROUNDING ALONE CHANGES THE LOSS BY {share:.1%} HERE: these are few digits; use dtype=torch.float64",
                stacklevel=4,
            )
        self.interpolation: FilledStatistics | None = None

    def evaluate(self, tolerance: float | str | None, deadline: float, resume: Path | None) -> None:
        """Fill the statistics of every point, or of as many as the tolerance asks for."""
        if resume and (arrays := ranks.from_first(lambda: load_progress(resume, self.identity, self.statistics))):
            self.statistics.restore(arrays)
        self.resumed = int(self.statistics.done.sum())
        every = torch.arange(len(self.coordinates))
        shown = self.progress and ranks.is_first_rank()
        with (
            Team(self.objective) as self.team,
            progress_bar(shown, self.evaluator.name, 0, unit="points") as self.bar,
        ):
            self.evaluators = [self.evaluator, *(self._twin() for _ in range(self.team.size - 1))]
            if tolerance in (None, 0) or isinstance(self.evaluator, Affine):
                self._announce(self._prepare(every, resume), every)
                self._compute(every, resume)
                if tolerance is not None:
                    self.interpolation = FilledStatistics(
                        tolerance, Plan(self.statistics.values(EVERY)), self.statistics
                    )
            else:
                few = every[::THINNED]
                seconds = self._prepare(few, resume)
                self._announce(seconds, few, exact=len(every))
                whole = seconds * len(every)
                if ranks.from_first(lambda: 0 < whole < min(QUICK, deadline - time.perf_counter())):
                    self._compute(every, resume)
                    self.interpolation = FilledStatistics(
                        tolerance, Plan(self.statistics.values(EVERY)), self.statistics
                    )
                else:
                    self._compute(self._centre(), resume)
                    self._interpolate(tolerance, deadline, resume)

    def _interpolate(self, tolerance: float | str, deadline: float, resume: Path | None) -> None:
        """Evaluate what the refinement asks for, and can afford."""
        shape = tuple(len(axis) for axis in self.axes)
        began, computing, before = time.perf_counter(), 0.0, int(self.statistics.done.sum())

        def affords(points: int) -> bool:
            now, done = time.perf_counter(), int(self.statistics.done.sum()) - before
            return now + points * (now - began) / max(1, done) < deadline

        def worthwhile(points: int) -> bool:
            planning, done = time.perf_counter() - began - computing, int(self.statistics.done.sum()) - before
            return planning < PLANNING + points * computing / max(1, done)

        def values(points: np.ndarray) -> np.ndarray:
            nonlocal computing
            started = time.perf_counter()
            wanted = torch.from_numpy(points)
            if len(points) > RETUNED * self.tuned_points:
                self._prepare(wanted, resume)
            self._compute(wanted, resume)
            computing += time.perf_counter() - started
            return self.statistics.values(points)

        allowed = functools.partial(allowed_error, tolerance, self.statistics)
        plan = Refinement(shape, values, allowed, affords=affords, worthwhile=worthwhile, centre=self._middle()).run()
        self.interpolation = FilledStatistics(tolerance, plan, self.statistics)
        self.interpolation.description["planning_seconds"] = time.perf_counter() - began - computing

    def _middle(self) -> tuple[float, ...]:
        """Where the origin of the slice lies along each axis, from 0 to 1; the end next to it where it is outside."""
        return tuple(float(np.clip((0 - axis[0]) / (axis[-1] - axis[0]), 0, 1)) for axis in self.axes)

    def _centre(self) -> Tensor:
        """The points at the origin of the slice: one, or none."""
        return (self.coordinates == 0).all(1).nonzero().flatten()

    def _compute(self, points: Tensor, resume: Path | None) -> None:
        """Evaluate those of ``points`` that are not done yet, round by round."""
        pending = self._pending(points)
        if not len(pending):
            return
        self.bar.total = (self.bar.total or 0) + len(pending)
        for shares in _rounds(pending, self.points_a_round):
            self._evaluate_round(shares)
            if resume and ranks.is_first_rank():
                save_progress(resume, self.identity, self.statistics)

    def _evaluate_round(self, shares: list[Tensor]) -> None:
        """Evaluate one of the ``shares`` block by block, and take the others from the other ranks."""
        mine = shares[ranks.rank()] if ranks.rank() < len(shares) else shares[0][:0]
        start = 0
        while start < len(mine):
            block = mine[start : start + self.evaluator.largest_block]
            done = len(block) / len(mine) * sum(map(len, shares))  # points, with those of the other ranks
            if (sums := self._sums_or_none(block, done / self.objective.size)) is not None:
                self.statistics.finish(block, sums)
                start += len(block)
        if ranks.count() > 1:  # alone there is nothing to copy
            for share, arrays in ranks.gathered((mine, self.statistics.arrays(mine))):
                self.statistics.restore(arrays, share)

    def _sums_or_none(self, block: Tensor, sample: float) -> Sums | None:
        """`_sums`, or None where a faster way failed: the next try takes a plainer one."""
        begun = self.bar.n
        try:
            return self._sums(block, sample)
        except InputError:
            raise
        except Exception as error:
            self.bar.n = begun
            if not self._fall_back(reason_of(error)):
                raise
            return None

    def _fall_back(self, reason: str) -> bool:
        """Go on in a plainer way, because of ``reason``: without special settings, then directly; False without one."""
        if isinstance(self.evaluator, Direct) and not self.evaluator.is_plain:
            self.choice.rejected[str(self.evaluator.settings)] = reason
            for evaluator in self._direct():
                evaluator.arrange(self.objective.batch_size)
            return True
        if self.evaluator.name == "direct":
            return False
        if self.method != "auto":
            raise InputError(f"method {self.method!r} does not fit: {reason}; use method='auto'")
        self.choice.rejected[self.evaluator.name] = reason
        self.evaluator = METHODS["direct"](self.objective, self.slice)
        self.evaluators = [self.evaluator, *(self._twin() for _ in range(self.team.size - 1))]
        return True

    def _sums(self, block: Tensor, sample: float) -> Sums:
        """Sums over all samples at the points of ``block``; computed at fewer points where those determine them."""
        if not isinstance(self.evaluator, Affine) or self.statistics.per_sample is not None:
            return self._computed(block, sample)
        begun = self.bar.n
        for nodes in self.evaluator.node_sets(self.coordinates[block]):
            for evaluator in self.evaluators:
                if isinstance(evaluator, Affine):
                    evaluator.nodes = nodes
            self.bar.n = begun
            if (sums := self.evaluator.at_points(self._computed(block, sample))) is not None:
                return sums
        raise AssertionError("the last set of nodes is the grid itself")

    def _computed(self, block: Tensor, sample: float) -> Sums:
        """The merged shares of every member of the team, with smaller batches where memory runs out."""
        begun = self.bar.n
        while True:
            try:
                share = functools.partial(self._evaluate_share, block, sample)
                return Sums.merged(self.team.map(share, self.evaluators))
            except torch.OutOfMemoryError as error:
                if self.evaluator.batches_fixed or self.evaluator.batch_size == 1:
                    raise InputError(f"out of memory with batches of {self.evaluator.batch_size}: {error}") from error
            for evaluator in self.evaluators:
                evaluator.batch_size = max(1, evaluator.batch_size // 2)
            self.bar.n = begun

    def _prepare(self, points: Tensor, resume: Path | None) -> float:
        """Settle how batches of ``points`` are evaluated and the points of a round; seconds a point, 0 if not known."""
        size, pending, seconds = len(self.coordinates), self._pending(points), 0.0
        self.tuned_points = len(points)
        if isinstance(self.evaluator, Direct) and len(pending):
            seconds = self._tune(self.coordinates[pending[:: ranks.count()]])
            if resume or ranks.count() > 1:
                size = max(1, min(size, int(ROUND_SECONDS / seconds)))
        if not self.evaluator.batches_fixed:
            for evaluator in self.evaluators:
                evaluator.batch_size = self.team.even(evaluator.batch_size, self.objective.size)
        self.points_a_round = ranks.from_first(lambda: size)
        return seconds / ranks.count()

    def _tune(self, points: Tensor, plain: bool = False) -> float:
        """Pick settings by timing, and plainer ones where those fail or give other losses; seconds a point."""
        try:
            seconds = tune(self._direct(), points, self.team, plain=plain)
            if plain or self._settings_hold():
                return seconds
            reason = "differs from a plain forward pass"
        except InputError:
            raise
        except Exception as error:
            if plain and self.evaluator.name == "direct":
                raise
            reason = reason_of(error)
        self._fall_back(reason)
        return self._tune(points, plain=not plain)

    def _settings_hold(self) -> bool:
        """Whether the settings that were picked give the losses of plain forward passes, where they could differ."""
        free = self.objective.precision == "full" and self.objective.batch_norm != "recalibrate"
        if not isinstance(self.evaluator, Direct) or self.evaluator.is_plain or not free:
            return True
        return self.choice.proof.holds(few_losses(self.evaluator, self.choice.proof.points))

    def _pending(self, points: Tensor) -> Tensor:
        """Those of ``points`` that are not done yet."""
        return points[~self.statistics.done[points]]

    def _direct(self) -> list[Direct]:
        return [evaluator for evaluator in self.evaluators if isinstance(evaluator, Direct)]

    def _twin(self) -> Affine | Direct:
        twin = METHODS[self.evaluator.name](self.objective.twin(), self.slice)
        if isinstance(twin, Direct) and isinstance(
            self.evaluator, Direct
        ):  # of large networks the points are most of the memory
            twin.origin, twin.directions = self.evaluator.origin, self.evaluator.directions
        return twin

    @torch.no_grad()  # which holds for one thread only
    def _evaluate_share(self, block: Tensor, sample: float, rank: int, evaluator: Affine | Direct) -> Sums:
        """Sums over every ``team.size``-th batch, from batch ``rank`` on."""
        sums = Sums()
        evaluator.prepare(self.coordinates[block])
        for number, (start, batch) in enumerate(self.objective.batches(evaluator.batch_size)):
            if number % self.team.size != rank or self.team.stopped:
                continue
            evaluator.load(batch)
            for losses, hits in evaluator.run():
                self.statistics.keep(block, start, losses)
                stop = start + losses.shape[1]
                sums.add(losses, hits, self.objective.weights_of(start, stop))
                start = stop
                with self.team.lock:
                    self.bar.update(sample * losses.shape[1])
        return sums

    def check_origin(self) -> dict[str, Any] | None:
        """Compare the value at the origin with the objective itself, on all samples."""
        centre = self._centre()
        if not len(centre):
            return None
        found = float(self.statistics.mean[centre[0]])
        expected = self._model_loss(self.slice.origin)
        if self.objective.precision == "full" and not self._agrees_at_origin(found, expected):
            raise RuntimeError(
                f"{self.evaluator.name}: loss {found} at the origin, but the model's own loss is {expected}"
            )
        if not math.isfinite(found):
            warnings.warn(f"THE LOSS AT THE ORIGIN IS NOT FINITE ({found}): is the model trained?", stacklevel=3)
        return {"loss": found, "model_loss": expected}

    def _agrees_at_origin(self, found: float, expected: float) -> bool:
        """Whether both differ by rounding, which is measured on all samples where the usual amount is not enough."""
        if not (math.isfinite(found) and math.isfinite(expected)):
            return all(not math.isfinite(value) or abs(value) > HUGE for value in (found, expected))
        moved = np.abs(self.statistics.mean[self.statistics.done.numpy()] - expected)
        moved = float(np.median(moved[np.isfinite(moved)]))
        allowed = allowed_difference(self.objective.dtype, moved, abs(expected), 0.0)
        if abs(found - expected) <= allowed:
            return True
        rounding = abs(self._model_loss(rounded_otherwise(self.slice.origin)) - expected)
        return abs(found - expected) <= allowed_difference(self.objective.dtype, moved, abs(expected), rounding)

    def _model_loss(self, point: Point) -> float:
        """The mean loss at ``point`` by plain forward passes; every rank takes its share of the batches."""
        objective = self.objective.in_full_precision()
        with objective.arithmetic():
            objective.move_to(point)
            mine = itertools.islice(objective.batches(), ranks.rank(), None, ranks.count())
            total = sum(float(objective.losses(batch).double().sum()) for _, batch in mine)
        return float(sum(ranks.gathered(total)) / objective.size)

    def surface(self, seconds: float, checks: dict[str, Any]) -> Surface:
        shape = tuple(len(axis) for axis in self.axes)
        statistics, objective, found = self.statistics, self.objective, self.interpolation or self.statistics
        loss = found.mean.reshape(shape)
        error = found.standard_error if objective.independent else np.full(len(self.coordinates), np.nan)
        metadata = {
            "identity": self.identity,
            "slice": self.given.description,
            **self.given.geometry,
            "architecture": self.given.architecture,
            "data": {**objective.samples.description, "size": objective.size},
            "objective": objective.description,
            "interpolation": self.interpolation.description if self.interpolation else None,
            "method": self.evaluator.name,
            "method_settings": self.evaluator.settings,
            "methods_rejected": self.choice.rejected,
            "checks": {
                **checks,
                "largest_relative_deviation": self.choice.deviation,
                "rounding": self.choice.proof.rounding_share,
                "precision_error": self.choice.precision_error,
            },
            "device": str(objective.device),
            "processes": ranks.count(),
            "versions": versions(),
            "seconds": seconds,
            "resumed_points": self.resumed,
            "nonfinite_points": int((~np.isfinite(loss)).sum()),
        }
        return Surface(
            alphas=self.axes[0],
            betas=self.axes[1] if len(self.axes) == 2 else None,
            loss=loss,
            standard_error=error.reshape(shape),
            accuracy=found.accuracy.reshape(shape) if objective.has_accuracy else None,
            per_sample=None if found.losses is None else found.losses.reshape(*shape, -1),
            metadata=metadata,
            evaluated=statistics.done.numpy().reshape(shape) if self.interpolation else None,
        )

    def _announce(self, seconds: float, points: Tensor, exact: int | None = None) -> None:
        """Say how ``points`` are evaluated, and how long it takes, where that is worth a line.

        ``exact`` is the number of points of the whole grid where ``points`` are a guess at those it will take.
        """
        count = len(self._pending(points))
        if not self.progress or seconds * count < 5:
            return
        choice = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in self.evaluator.settings.items())
        text = f"{self.evaluator.name}: {choice}; about {_duration(seconds * count)}"
        if exact:
            text += f", more where the loss is rough ({_duration(seconds * exact)} for every point)"
        elif seconds * count > LONG and count >= THINNED * MANY:
            text += f"; about {_duration(seconds * count / THINNED)} where the loss is smooth, with tolerance 0.01"
        tqdm.write(text)


def _rounds(pending: Tensor, size: int) -> Iterator[list[Tensor]]:
    """Shares of at most ``size`` points and of one length, one for every rank at a time."""
    rounds = math.ceil(len(pending) / (size * ranks.count()))
    shares = pending.tensor_split(min(rounds * ranks.count(), len(pending)))
    for start in range(0, len(shares), ranks.count()):
        yield list(shares[start : start + ranks.count()])


def _check_per_sample(objective: Objective, axes: tuple[np.ndarray, ...]) -> None:
    if not objective.per_sample:
        raise InputError("per_sample needs a loss that gives one value a sample; this one gives a mean only")
    points = math.prod(len(axis) for axis in axes)
    need = points * objective.size * torch.empty(0, dtype=objective.dtype).element_size()
    free = available_memory(torch.device("cpu"))
    if need > 0.8 * free:
        raise InputError(
            f"per-sample losses of {points:,} points x {objective.size:,} samples take {need / 2**30:.1f} GiB, "
            f"but {free / 2**30:.1f} GiB are free; use fewer samples or grid points"
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
