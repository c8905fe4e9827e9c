"""Evaluators in several threads, replaced by smaller batches or a simpler method if they fail."""

import contextlib
import functools
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.evaluation.choice import METHODS, PLAIN, Choice, does_not_fit, few_values
from landscape.evaluation.compilation import Compilation, Policy
from landscape.evaluation.ledger import Ledger
from landscape.evaluation.methods.chebyshev import ChebyshevNodes
from landscape.evaluation.methods.protocol import (
    Arrangement,
    Evaluator,
    NotApplicable,
    faster_way,
    is_out_of_memory,
    reason_of,
)
from landscape.evaluation.progress import Attempt, Progress
from landscape.evaluation.statistics import Sums
from landscape.evaluation.tuning import tune
from landscape.objective.objectives import Objective
from landscape.objective.turns import turns
from landscape.objective.workers import Team
from landscape.runtime import ranks
from landscape.slices.planes import Slice

__all__ = ["Workers"]


class Part(NamedTuple):
    """What one member of a team has computed, of some of the samples."""

    sums: Sums
    losses: list[tuple[int, Tensor]]  # the losses [K, n] from a sample on, where other ranks need them


class Workers:
    """The chosen evaluator and copies of it (twins), one for each thread of a team.

    If evaluation fails, it continues in a simpler way: with the plain arrangement of the same method, then with forward
    passes of the whole network. A failure of the latter is raised, because it is one of the caller's network or data.
    """

    def __init__(
        self, objective: Objective, slice_: Slice, choice: Choice, team: Team, progress: Progress, policy: Policy
    ):
        self.objective, self.slice, self.choice = objective, slice_, choice
        self.team, self.progress, self.compilation = team, progress, Compilation(policy)
        self.rejected = dict(choice.rejected)  # method or arrangement -> the reason why it does not apply
        self._employ(choice.evaluator)

    def prepare(self, coordinates: Tensor) -> float:
        """Arrange all members for the points ``coordinates``; returns the seconds a point takes, or 0 if unknown."""
        if self.objective.network.is_sharded:
            return self._pace(coordinates) if len(coordinates) else 0.0
        seconds = self._tune(coordinates) if len(coordinates) else 0.0
        seconds = self.compilation.settle(self.members, coordinates, self.team, seconds)
        self.rejected |= self.compilation.rejected
        if not self.evaluator.batches_fixed:
            for member in self.members:
                even = self.team.even(member.arrangement.batch_size, self.objective.size)
                member.arrange(member.arrangement.with_batch_size(even))
        return seconds

    def evaluate(self, points: Tensor, ledger: Ledger, share: float) -> Iterator[tuple[Tensor, Sums]]:
        """Yield block after block of ``points`` with its sums over all samples.

        The progress of one point counts ``share`` points, because the other ranks work at the same pace.
        """
        start = 0
        while start < len(points):
            block = points[start : start + self.evaluator.largest_block]
            try:
                with self._failures():
                    sums = self._sums(block, ledger, share * len(block) / self.objective.size)
            except NotApplicable as error:
                self._fall_back(reason_of(error))
                continue
            yield block, sums
            start += len(block)

    def regularization(self, coordinates: Tensor) -> Tensor | None:
        """The value [K] of the regularizer at ``coordinates`` [K, axes]; None without a regularizer."""
        return self.objective.regularization(self.slice, coordinates) if self.objective.regularizes else None

    def _employ(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.members = [evaluator, *(evaluator.twin() for _ in range(self.team.size - 1))]

    def _failures(self) -> contextlib.AbstractContextManager[None]:
        """A context in which errors become `NotApplicable` as long as a simpler way of evaluating remains."""
        return contextlib.nullcontext() if self._is_simplest else faster_way()

    @property
    def _is_simplest(self) -> bool:
        return self.evaluator.is_plain and self.evaluator.arrangement.is_plain

    def _fall_back(self, reason: str) -> None:
        """Continue in a simpler way because of ``reason``: with the plain arrangement first, then with plain passes."""
        if not self.evaluator.arrangement.is_plain:
            self.rejected[str(self.evaluator.settings)] = reason
            present = self.evaluator.arrangement
            if present.compiler is not None:
                self.compilation.end()
            simpler = Arrangement(self.objective.batch_size) if present.compiler is None else present.without_compiler()
            for member in self.members:
                member.arrange(simpler)
        elif not self.evaluator.is_plain:
            if self.choice.named:
                raise does_not_fit(self.evaluator.name, reason)
            self.rejected[self.evaluator.name] = reason
            self._employ(METHODS[PLAIN](self.objective, self.slice))

    def _tune(self, coordinates: Tensor) -> float:
        """Choose an arrangement by timing, or a plainer one if it fails or changes losses; returns seconds a point."""
        plain = False
        while True:
            try:
                with contextlib.nullcontext() if plain and self.evaluator.is_plain else faster_way():
                    seconds = tune(self.members, coordinates, self.team, plain=plain)
                    if plain or self._arrangement_holds():
                        return seconds
                    raise NotApplicable("differs from a plain forward pass")
            except NotApplicable as error:
                self._fall_back(reason_of(error))
            plain = not plain

    def _pace(self, coordinates: Tensor) -> float:
        """The seconds that a point takes by one pass of every rank, as rank 0 measures them."""
        began = time.perf_counter()
        self.evaluator.prepare(coordinates[:1])
        turn = next(turns(self.objective, self.evaluator.arrangement.batch_size))
        self.evaluator.load(turn.batch)
        list(self.evaluator.run())
        seconds = (time.perf_counter() - began) * self.objective.size / turn.samples
        return ranks.from_first(lambda: seconds)

    def _arrangement_holds(self) -> bool:
        """Whether the chosen arrangement gives the losses of plain passes; checked only where it could differ."""
        proof = self.choice.proof
        free = self.objective.precision == "full" and self.objective.batch_norm != "recalibrate"
        if proof is None or self.evaluator.arrangement.is_plain or not free:
            return True
        return proof.holds(few_values(self.evaluator, proof.points))

    def _sums(self, block: Tensor, ledger: Ledger, sample: float) -> Sums:
        """Sums over all samples at the points of ``block``, computed at fewer points if these determine the others."""
        coordinates = ledger.coordinates[block]
        for nodes in self.evaluator.node_sets(coordinates) if not ledger.keeps_losses else ():
            with self.progress.attempt() as attempt:
                sums = self.evaluator.at_points(self._merged(block, ledger, nodes, sample, attempt))
                if sums is not None:
                    return sums
                attempt.take_back()
        with self.progress.attempt() as attempt:
            return self._merged(block, ledger, None, sample, attempt)

    def _merged(
        self, block: Tensor, ledger: Ledger, nodes: ChebyshevNodes | None, sample: float, attempt: Attempt
    ) -> Sums:
        """The sums of all members of the team, repeated with smaller batches if memory runs out."""
        while True:
            share = functools.partial(self._share, block, ledger, nodes, sample, attempt)
            try:
                if self.team.size > 1:  # with all of torch's threads, of which each member has only its share
                    self.evaluator.prepare(ledger.coordinates[block], nodes)
                return self._of_all_ranks(self.team.map(share, self.members), block, ledger)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error)
            attempt.take_back()

    def _of_all_ranks(self, parts: list[Part], block: Tensor, ledger: Ledger) -> Sums:
        """The sums of all parts, with those of other ranks where these take other samples."""
        if self.objective.network.shares_data:
            parts = [part for others in ranks.gathered(parts) for part in others]
            for part in parts:
                for start, losses in part.losses:
                    ledger.keep(block, start, losses)
        return Sums.merged([part.sums for part in parts])

    def _halve(self, error: BaseException) -> None:
        """Halve the batch size of all members.

        Raises:
            InputError: Batches cannot become smaller.
        """
        size = self.evaluator.arrangement.batch_size
        if self.evaluator.batches_fixed or size == 1:
            raise InputError(f"out of memory with batches of {size}: {error}") from error
        for member in self.members:
            member.arrange(member.arrangement.with_batch_size(max(1, size // 2)))

    @torch.no_grad()  # needed here, because it holds for the current thread only
    def _share(
        self,
        block: Tensor,
        ledger: Ledger,
        nodes: ChebyshevNodes | None,
        sample: float,
        attempt: Attempt,
        rank: int,
        member: Evaluator,
    ) -> Part:
        """Sums over every ``team.size``-th batch, from batch ``rank`` on."""
        sums, kept = Sums(), []
        shares = self.objective.network.shares_data
        if rank or self.team.size == 1:
            member.prepare(ledger.coordinates[block], nodes, self.evaluator if rank else None)
        for number, turn in enumerate(turns(self.objective, member.arrangement.batch_size)):
            if number % self.team.size != rank or self.team.stopped:
                continue
            member.load(turn.batch)
            start = turn.start
            for losses, hits, quantities in member.run():
                if not turn.counts:
                    continue
                if shares and ledger.keeps_losses:
                    kept.append((start, losses.clone()))
                ledger.keep(block, start, losses)
                stop = start + losses.shape[1]
                sums.add_quantities(quantities)
                sums.add(losses, hits, self.objective.weights_of(start, stop))
                start = stop
            attempt.advance(sample * turn.samples)
        return Part(sums, kept)
