"""The decision whether forward passes are compiled: where it is known, or likely, to save more time than it takes."""

import itertools
import math
import time
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from landscape.evaluation.choice import few_values
from landscape.evaluation.compile_times import CompileTimes, Record
from landscape.evaluation.methods.direct import Direct
from landscape.evaluation.methods.protocol import Arrangement, Compiler, Evaluator, NotApplicable, Order, reason_of
from landscape.evaluation.proof import agree_as_moved, mean_error
from landscape.evaluation.tuning import arrange, seconds_per_sample
from landscape.objective.terms import LOSS
from landscape.objective.trees import batch_length
from landscape.objective.workers import Team

__all__ = ["POLICIES", "Compilation", "Policy"]

Policy = Literal["auto", "always", "never"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
COMPILERS: tuple[Compiler, ...] = get_args(Compiler)
WORTH = 30.0  # seconds of work, below which nothing is compiled, and no compiler loaded
SHARE = 0.03  # of the work that may be spent in all on compilations whose gain is not known yet
FIRST = {"onednn": (1.0, 0.02), "inductor": (20.0, 0.3)}  # seconds of a first compilation: fixed, and per module
PASSES = 30  # forward passes of one batch in the checks and the timing
ROUNDS = 3  # rounds of timing, each with the passes before and the compiled ones in turn
# In lower precision, the error of compiled passes may be LOWER times that of the passes before, or UNIT if larger.
LOWER, UNIT = 2.0, 2.0**-8
MESSAGE = 200  # characters of the message of a compiler


class Compilation:
    """Compiles the passes of a team as ``policy`` says, and describes what came of it."""

    def __init__(self, policy: Policy):
        self.policy = self.requested = policy
        self.chosen: Compiler | None = None
        self.records: dict[Compiler, Record] = {}  # of the compilers that were tried
        self.rejected: dict[str, str] = {}  # those that do not fit, with the reasons
        self.seconds = 0.0  # of compiling, checks and timing
        self.graphs = self.folded = 0  # compiled graphs, and BatchNorm layers within weights of convolutions
        self.precision_error: float | None = None  # largest relative error of a mean loss in lower precision
        self._settled: tuple[Arrangement, float] | None = None  # the best arrangement, and its seconds per point

    @property
    def description(self) -> dict[str, Any]:
        """Metadata of JSON types."""
        return {
            "requested": self.requested,
            "compiler": self.chosen,
            "seconds": {name: record.seconds for name, record in self.records.items()},
            "total_seconds": self.seconds,
            "speedup": {name: 1 / (1 - record.gain) for name, record in self.records.items()},
            "graphs": self.graphs,
            "folded_batch_norm": self.folded,
            "precision_error": self.precision_error,
        }

    def settle(self, members: Sequence[Evaluator], coordinates: Tensor, team: Team, seconds: float) -> float:
        """Compile the passes of all ``members`` where that pays; return the seconds per point.

        These are ``seconds`` before. If a compilation fails, the passes stay as they are, and ``rejected`` tells why.
        """
        direct = [member for member in members if isinstance(member, Direct)]
        if self.policy == "never" or not seconds or not direct:
            return seconds
        shared = direct[0].arrangement.together > 1  # points share operations: faster than compiled passes
        if self.policy == "auto" and (shared or seconds * len(coordinates) < WORTH):
            return seconds
        began = time.perf_counter()
        best, least = self._settled or self._best(direct, coordinates, team, seconds)
        arrange(members, best)
        if best.compiler is not None:
            self._settled = best, least
        self.seconds += time.perf_counter() - began
        return least

    def end(self) -> None:
        """Compile nothing more: compiled passes have failed."""
        self.policy, self.chosen, self._settled = "never", None, None

    def _best(
        self, members: list[Direct], coordinates: Tensor, team: Team, seconds: float
    ) -> tuple[Arrangement, float]:
        """The fastest arrangement among those that are worth a trial, and its seconds per point."""
        first, auto = members[0], self.policy == "auto"
        trial, times = _Trial(members, coordinates, team), CompileTimes(first.objective, team.threads // team.size)
        best, least, spent = trial.before, seconds, 0.0
        for compiler in COMPILERS:
            compiled = trial.compiled_by(compiler)
            batch = seconds / first.objective.size * team.size * compiled.batch_size
            known = times.record(compiled)
            cost = PASSES * batch + (known.seconds if known else _seconds_of_first(compiler, first))
            if auto and not _pays(known, cost, spent, least * len(coordinates)):
                continue
            spent += 0.0 if known else cost
            try:
                record = self.records[compiler] = trial.run(compiled)
            except NotApplicable as error:
                self.rejected[f"compiled by {compiler}"] = str(error)
                continue
            times.keep(compiled, record)
            faster = seconds * (1 - record.gain)
            if faster < least or not (auto or best.compiler):
                best, least = compiled, faster
        self.chosen, self.precision_error = best.compiler, trial.precision_errors.get(best.compiler)
        made = first.programs.made_by(best.compiler)
        self.graphs, self.folded = len(made), sum(program.folded for program in made)
        return best, least


class _Trial:
    """Compiles the passes of all ``members``, compares their losses with those of the passes before, and times both."""

    def __init__(self, members: Sequence[Direct], coordinates: Tensor, team: Team):
        self.members, self.team, self.first = members, team, members[0]
        self.coordinates = coordinates
        self.before = self.first.arrangement
        self.precision_errors: dict[Compiler | None, float] = {}

    def compiled_by(self, compiler: Compiler) -> Arrangement:
        """The arrangement before, with a compiler, and with channels last where possible, as fusion requires."""
        order: Order = "channels_last" if "channels_last" in self.first.orders else "default"
        size = self.before.batch_size
        if not self.first.batches_fixed:
            size = self.team.even(size, self.first.objective.size)
        return Arrangement(size, order, compiler=compiler)

    def run(self, compiled: Arrangement) -> Record:
        """The seconds of the compilation, and the share of the time of a pass that it saves.

        Raises:
            NotApplicable: the compilation or a compiled pass failed, or the losses differ from those before.
        """
        began = time.perf_counter()
        try:
            arrange(self.members, compiled)
            self._compile(next(self.first.objective.batches(compiled.batch_size))[1])
            seconds = time.perf_counter() - began
            if not all(map(self._holds, self._batches(compiled.batch_size))):
                raise NotApplicable("differs from plain forward passes")
            return Record(seconds, self._gain(compiled))
        except Exception as error:  # of compilers and code in other languages, of any kind
            if isinstance(error, NotApplicable):
                raise
            raise NotApplicable(f"{type(error).__name__}: {reason_of(error)[:MESSAGE]}") from error
        finally:
            arrange(self.members, self.before)

    def _compile(self, batch: Any) -> None:
        programs = self.first.programs
        with programs.compiling(self.team.threads // self.team.size):
            self.first.prepare(self.coordinates[:1])
            self.first.load(batch)
            list(self.first.run())
        if not programs.made_by(self.first.arrangement.compiler):
            raise NotApplicable("the loss does not call the network as a whole")

    def _batches(self, size: int) -> list[Any]:
        """The first batch and the last one of the same size."""
        few = 1 if self.first.objective.samples.tensors is None else None  # a stream is read from its beginning
        batches = [batch for _, batch in itertools.islice(self.first.objective.batches(size), few)]
        whole = [batch for batch in batches if batch_length(batch) == batch_length(batches[0])]
        return [whole[0], *whole[1:][-1:]]

    def _holds(self, batch: Any) -> bool:
        """Whether the losses and quantities of ``batch`` agree with those of passes that are not compiled."""
        first, compiled, dtype = self.first, self.first.arrangement, self.first.objective.dtype
        few = self.coordinates[[0, len(self.coordinates) // 2]]
        values = few_values(first, few, batch)
        first.arrange(compiled.without_compiler())
        origin = few_values(first, torch.zeros_like(few[:1]), batch)
        expected = few_values(first, few, batch)
        first.arrange(compiled)
        if first.objective.precision != "full":
            return self._is_precise(values[LOSS], expected[LOSS], few, batch)
        return all(agree_as_moved(values[name], expected[name], origin[name], dtype) for name in values)

    def _is_precise(self, losses: Tensor, expected: Tensor, points: Tensor, batch: Any) -> bool:
        """Whether ``losses`` are about as close to those in full precision as ``expected`` ones in the lower one."""
        full, slice_ = self.first.objective.in_full_precision(), self.first.slice
        with full.arithmetic():
            exact = []
            for place in points.tolist():
                full.move_to(slice_(*place), slice_.weights_at(*place))
                exact.append(full.measure(batch).losses)
            full.move_to(slice_.origin)
        errors = [mean_error(values, torch.stack(exact)) for values in (losses, expected)]
        self.precision_errors[self.first.arrangement.compiler] = errors[0]
        return errors[0] <= max(LOWER * errors[1], UNIT)

    def _gain(self, compiled: Arrangement) -> float:
        """1 - (time of compiled passes) / (time before), from the shortest of several times, measured in turn."""
        least = dict.fromkeys((self.before, compiled), math.inf)
        for arrangement in [self.before, compiled] * ROUNDS:
            arrange(self.members, arrangement)
            seconds = seconds_per_sample(self.members, self.coordinates, self.team)
            least[arrangement] = min(least[arrangement], seconds)
        return 1 - least[compiled] / least[self.before]


def _pays(known: Record | None, cost: float, spent: float, work: float) -> bool:
    """Whether a trial of ``cost`` seconds is likely to save time in ``work`` seconds.

    ``known`` is the record of an earlier compilation. Without one, the trial may take, together with the ``spent``
    seconds of those before, the share `SHARE` of the work.
    """
    return known.gain * work > cost if known else spent + cost < SHARE * work


def _seconds_of_first(compiler: Compiler, evaluator: Direct) -> float:
    """Seconds that a first compilation is likely to take."""
    fixed, each = FIRST[compiler]
    return fixed + each * sum(1 for _ in evaluator.objective.model.modules())
