"""One entry for every evaluation: which points, by which method, checked before it returns."""

import functools
import itertools
import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from landscape import ranks
from landscape.errors import InputError
from landscape.evaluation.affine import Affine
from landscape.evaluation.choice import METHODS, agree, choose_method
from landscape.evaluation.direct import Direct
from landscape.evaluation.grid import grid_axes
from landscape.evaluation.identity import identity_of
from landscape.evaluation.resume import load_progress, save_progress
from landscape.evaluation.statistics import Statistics, Sums
from landscape.evaluation.team import Team
from landscape.evaluation.tuning import tune
from landscape.objective import Objective
from landscape.parameters import check_match
from landscape.provenance import versions
from landscape.results import Surface
from landscape.samples import available_memory
from landscape.slices import Slice

__all__ = ["evaluate"]

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f} of {total} points, {remaining} left"
BLOCK_SECONDS = 20.0  # work between two saves of a resume file


def evaluate(
    objective: Objective,
    slice_: Slice,
    *,
    alpha_range: tuple[float, float] = (-1, 1),
    beta_range: tuple[float, float] = (-1, 1),
    resolution: int | tuple[int, int] = 51,
    per_sample: bool = False,
    method: str = "auto",
    resume: str | Path | None = None,
    progress: bool = True,
) -> Surface:
    """Mean loss over the samples, its standard error and the accuracy at every point of a grid on a slice.

    loss[i, j] = 1/N sum_n l_n(slice(alphas[i], betas[j])), averaged in float64 whatever the batch size. Before it
    returns, the result is compared with plain forward passes: at the origin on all samples (where the grid
    contains it), at corners and interior points on the first batch.

    Args:
        objective: what to evaluate; its own state does not change.
        slice_: a line or a plane through the parameters of the objective's network.
        alpha_range: first and last coordinate along the first direction.
        beta_range: the same along the second direction; not used on a line.
        resolution: grid points along each axis, one number or two; at least 2.
        per_sample: keep the losses of all samples, [A, B, N].
        method: "affine" (networks whose logits are affine in the coordinates), "prefix" (what precedes the first
            perturbed layer is computed once), "direct" (a forward pass at every point), or "auto", the first of
            these that provably fits.
        resume: file that keeps finished points; an interrupted evaluation with the same file goes on.
        progress: show the expected time and a progress bar.

    Raises:
        InputError: a range, resolution or method that cannot be used; a slice of another network; a per-sample
            result that does not fit into memory; a resume file of another evaluation.

    Example:
        >>> from landscape_lib import objective, random_plane
        >>> model, data = torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
        >>> surface = evaluate(objective(model, data), random_plane(model), resolution=(7, 5), progress=False)
        >>> surface.loss.shape, surface.metadata["method"]
        ((7, 5), 'affine')
    """
    if method != "auto" and method not in METHODS:
        raise InputError(f"unknown method {method!r}; use 'auto' or one of {', '.join(map(repr, METHODS))}")
    axes = grid_axes(slice_, alpha_range, beta_range, resolution)
    check_match(slice_.origin, dict(objective.model.named_parameters()), "slice")
    objective = objective.for_slice(slice_.recipe.get("kind"))
    if per_sample:
        _check_per_sample(objective, axes)
    began = time.perf_counter()
    with objective.arithmetic(), torch.no_grad():
        run = _Run(objective, slice_, axes, per_sample, method, progress)
        run.evaluate(Path(resume) if resume else None)
        origin = run.check_origin()
    return run.surface(time.perf_counter() - began, origin)


class _Run:
    """One evaluation: grid, method, statistics."""

    def __init__(self, objective, slice_, axes, per_sample, method, progress):
        self.objective, self.axes, self.progress = objective, axes, progress
        self.given, self.slice = slice_, slice_.to(objective.dtype)
        self.identity = identity_of(objective, slice_, axes, per_sample)
        self.coordinates = torch.tensor(list(itertools.product(*axes)), dtype=torch.float64)
        self.statistics = Statistics(
            len(self.coordinates), objective.size, per_sample=per_sample, dtype=objective.dtype
        )
        self.choice = choose_method(objective, self.slice, axes, method)
        self.evaluator = self.choice.evaluator

    def evaluate(self, resume: Path | None) -> None:
        """Fill the statistics of every point, block by block."""
        if resume and (arrays := ranks.from_first(lambda: load_progress(resume, self.identity))):
            self.statistics.restore(arrays)
        self.resumed = int(self.statistics.done.sum())
        pending = (~self.statistics.done).nonzero().flatten()
        if not len(pending):
            return
        with Team(self.objective) as team:
            evaluators = [self.evaluator, *(self._twin() for _ in range(team.size - 1))]
            size = self._prepare(evaluators, pending, team)
            # None: on a terminal only, so that logs stay readable.
            quiet = None if self.progress and ranks.is_first_rank() else True
            with tqdm(total=len(pending), disable=quiet, desc=self.evaluator.name, bar_format=BAR) as bar:
                for blocks in _rounds(pending, size):
                    self._evaluate_round(blocks, evaluators, team, bar)
                    if resume and ranks.is_first_rank():
                        save_progress(resume, self.identity, self.statistics)

    def _evaluate_round(self, blocks: list[Tensor], evaluators: list, team: Team, bar: tqdm) -> None:
        """Evaluate one of the ``blocks``, and take the others from the other ranks."""
        mine = blocks[ranks.rank()] if ranks.rank() < len(blocks) else blocks[0][:0]
        if len(mine):
            sample = sum(map(len, blocks)) / self.objective.size  # points of the bar that one sample is worth
            self.statistics.finish(mine, self._sums(mine, sample, evaluators, team, bar))
        for block, arrays in ranks.gathered((mine, self.statistics.arrays(mine))):
            self.statistics.restore(arrays, block)

    def _sums(self, block: Tensor, sample: float, evaluators: list, team: Team, bar: tqdm) -> list[Sums]:
        """The share of every member of the team, with smaller batches where memory runs out."""
        begun = bar.n
        while True:
            try:
                return team.map(functools.partial(self._evaluate_share, block, sample, team, bar), evaluators)
            except torch.OutOfMemoryError as error:
                if self.evaluator.batches_fixed or self.evaluator.batch_size == 1:
                    raise InputError(f"out of memory with batches of {self.evaluator.batch_size}: {error}") from error
            for evaluator in evaluators:
                evaluator.batch_size = max(1, evaluator.batch_size // 2)
            team.stopped, bar.n = False, begun

    def _prepare(self, evaluators: list, pending: Tensor, team: Team) -> int:
        """Settle how batches are evaluated, say how long it will take, and return the size of a block."""
        size = self.evaluator.largest_block
        if isinstance(self.evaluator, Direct):
            seconds = tune(evaluators, self.coordinates[pending], team)
            size = max(1, min(size, int(BLOCK_SECONDS / seconds)))
            self._announce(seconds * len(pending) / ranks.count())
        if not self.evaluator.batches_fixed:
            for evaluator in evaluators:
                evaluator.batch_size = team.even(evaluator.batch_size, self.objective.size)
        return ranks.from_first(lambda: size)

    def _twin(self) -> Affine | Direct:
        return METHODS[self.evaluator.name](self.objective.twin(), self.slice)

    @torch.no_grad()  # which holds for one thread only
    def _evaluate_share(self, block: Tensor, sample: float, team: Team, bar: tqdm, rank: int, evaluator) -> Sums:
        """Sums over every ``team.size``-th batch, from batch ``rank`` on."""
        sums = Sums(len(block))
        evaluator.prepare(self.coordinates[block])
        for number, (start, batch) in enumerate(self.objective.batches(evaluator.batch_size)):
            if number % team.size != rank or team.stopped:
                continue
            evaluator.load(batch)
            for losses, hits in evaluator.run():
                self.statistics.keep(block, start, losses)
                sums.add(losses, hits)
                start += losses.shape[1]
                with team.lock:
                    bar.update(sample * losses.shape[1])
        return sums

    def check_origin(self) -> dict | None:
        """Compare the value at the origin with the objective itself, on all samples."""
        centre = (self.coordinates == 0).all(1).nonzero().flatten()
        if not len(centre):
            return None
        found = float(self.statistics.mean[centre[0]])
        expected = float(self.objective.in_full_precision()(self.slice.origin).double().mean())
        exact = self.objective.precision == "full"
        if exact and not agree(torch.tensor([found]), torch.tensor([expected]), self.objective.dtype):
            raise RuntimeError(
                f"{self.evaluator.name}: loss {found} at the origin, but the model's own loss is {expected}"
            )
        if not math.isfinite(found):
            warnings.warn(f"THE LOSS AT THE ORIGIN IS NOT FINITE ({found}): is the model trained?", stacklevel=3)
        return {"loss": found, "model_loss": expected}

    def surface(self, seconds: float, origin: dict | None) -> Surface:
        shape = tuple(len(axis) for axis in self.axes)
        statistics, objective = self.statistics, self.objective
        loss = statistics.mean.reshape(shape)
        error = statistics.standard_error if objective.per_sample else np.full(len(self.coordinates), np.nan)
        metadata = {
            "identity": self.identity,
            "slice": {**self.given.recipe, "fingerprint": self.given.fingerprint},
            **self.given.geometry,
            "data": {**objective.samples.description, "size": objective.size},
            "objective": objective.description,
            "method": self.evaluator.name,
            "method_settings": self.evaluator.settings,
            "methods_rejected": self.choice.rejected,
            "checks": {
                "origin": origin,
                "largest_relative_deviation": self.choice.deviation,
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
            accuracy=statistics.accuracy.reshape(shape) if objective.has_accuracy else None,
            per_sample=None if statistics.per_sample is None else statistics.per_sample.numpy().reshape(*shape, -1),
            metadata=metadata,
        )

    def _announce(self, seconds: float) -> None:
        if self.progress and seconds > 5:
            choice = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in self.evaluator.settings.items())
            tqdm.write(f"{self.evaluator.name}: {choice}; about {_duration(seconds)}")


def _rounds(pending: Tensor, size: int) -> Iterator[list[Tensor]]:
    """Blocks of at most ``size`` points and of one length, one for every rank at a time."""
    rounds = math.ceil(len(pending) / (size * ranks.count()))
    blocks = pending.tensor_split(min(rounds * ranks.count(), len(pending)))
    for start in range(0, len(blocks), ranks.count()):
        yield blocks[start : start + ranks.count()]


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
