"""The choice of micro-batch size, memory layout and points per operation by timing the first points."""

import time
from collections.abc import Sequence

import torch

from landscape.evaluation.methods.protocol import (
    Arrangement,
    Choices,
    Evaluator,
    NotApplicable,
    Order,
    faster_way,
    is_out_of_memory,
)
from landscape.objective.workers import Team

__all__ = ["arrange", "seconds_per_sample", "tune"]

BATCH_SIZES = {"cpu": (32, 64, 128, 256, 512, 1024, 2048), "other": (256, 512, 1024, 2048, 4096, 8192)}
TOGETHER = ((64, 512), (64, 1024), (256, 1024))  # points and samples of one vectorised operation
VOLUME = {"cpu": 2**22, "other": 2**27}  # values of the first moved layer in one operation, at most
PLENTY = 0.1  # seconds; a try that takes longer is not repeated
CHAINED = {"cpu": (1024, 2**21), "other": (8192, 2**25)}  # samples, and values of the widest layer, in one operation
LEAST = 64  # samples of a chain in one operation, at least, however wide the chain is
SHORT = 2**27  # values of a chain's widest layer, at all points, below which the time is estimated and not measured
VALUE = 4e-9  # estimated seconds to compute one of these values
FINALISTS, ROUNDS = 4, 5  # number of arrangements that are timed again, and number of times
SHARE = 0.05  # of the expected work that may be spent on timing


def tune(members: Sequence[Evaluator], coordinates: torch.Tensor, team: Team, *, plain: bool = False) -> float:
    """Give all ``members`` of a ``team`` the fastest arrangement for the points ``coordinates`` [P, axes].

    The arrangement of a `Chain` follows from its width; for other networks it is the fastest one measured. All members
    are timed at once, because they share the cache and the memory of the machine.

    Args:
        members: The evaluators, one for each thread.
        coordinates: Points that the evaluation will visit.
        team: The threads.
        plain: Choose the batch size only, and leave everything else as it is in a plain forward pass.

    Returns:
        The seconds that a point takes; 0 if the method leaves nothing to choose.
    """
    evaluator = members[0]
    choices = evaluator.choices(coordinates[:2], plain)
    if choices is None:
        return 0.0
    size = evaluator.objective.size
    if not choices.chain_width:
        return _Search(members, coordinates, team, choices).run()
    arrange(members, _for_chain(evaluator, choices.chain_width, len(coordinates)))
    short = size * len(coordinates) * choices.chain_width < SHORT
    return size * (VALUE * choices.chain_width if short else seconds_per_sample(members, coordinates, team))


def _for_chain(evaluator: Evaluator, width: int, points: int) -> Arrangement:
    """The arrangement that keeps a chain of this ``width`` in the cache, with at least two points an operation."""
    most, values = CHAINED[_kind(evaluator)]
    columns = values // width
    samples = min(evaluator.objective.size, most, max(LEAST, columns // 2))
    return Arrangement(samples, "features_first", max(2, min(points, columns // samples)))


class _Search:
    """A search for the fastest arrangement that ends when timing has taken a small share of the expected work.

    It tries several points in one operation (if the network is small enough for that to pay), then memory layouts, then
    batch sizes until two in succession are slower. The fastest arrangements are then timed again in turn, because the
    speed of a machine fluctuates. Batches that are part of the objective keep their size. An arrangement that fails
    counts as infinitely slow.
    """

    def __init__(self, members: Sequence[Evaluator], coordinates: torch.Tensor, team: Team, choices: Choices):
        self.members, self.coordinates, self.team, self.choices = members, coordinates, team, choices
        self.evaluator, self.kind = members[0], _kind(members[0])
        self.size = self.evaluator.objective.size
        fixed, self.most = self.evaluator.batches_fixed, self.evaluator.objective.batches.most
        self.start = self.evaluator.objective.batch_size if fixed else min(64, self.most)
        self.times: dict[Arrangement, float] = {}
        self.began = time.perf_counter()

    def run(self) -> float:
        """Give all members the fastest arrangement and return the seconds that a point takes."""
        self._try_together()
        for order in self.choices.orders:
            self._attempt(Arrangement(self.start, order))
        if not self.evaluator.batches_fixed:
            self._try_batch_sizes(self._fastest()[0].order)
        for arrangement in self._fastest()[:FINALISTS] * ROUNDS:
            self._attempt(arrangement)
        best = self._fastest()[0]
        arrange(self.members, best)
        return self.times[best] * self.size

    def _try_together(self) -> None:
        if not self.choices.together:
            return
        for points, size in TOGETHER:
            points, size = min(points, len(self.coordinates)), min(size, self.size)
            if points * size * self.choices.width <= VOLUME[self.kind]:
                self._attempt(Arrangement(size, self.choices.orders[-1], points))

    def _try_batch_sizes(self, order: Order) -> None:
        worse, least = 0, float("inf")
        for size in BATCH_SIZES[self.kind]:
            if size > self.most or size * self.choices.width > VOLUME[self.kind] or worse == 2:
                break
            seconds = self._attempt(Arrangement(size, order))
            worse, least = (worse + 1 if seconds > least else 0), min(least, seconds)

    def _attempt(self, arrangement: Arrangement) -> float:
        """Seconds for one sample at one point; infinite if the arrangement fails, or no time is left for timing."""
        elapsed = time.perf_counter() - self.began
        if self.times and elapsed > SHARE * min(self.times.values()) * self.size * len(self.coordinates):
            return float("inf")
        arrange(self.members, arrangement)
        if arrangement.is_plain and arrangement.batch_size <= self.start:  # this one must work, or the evaluation fails
            seconds = seconds_per_sample(self.members, self.coordinates, self.team)
        else:
            seconds = self._seconds_or_never()
        self.times[arrangement] = min(seconds, self.times.get(arrangement, seconds))
        return seconds

    def _seconds_or_never(self) -> float:
        try:
            with faster_way():
                return seconds_per_sample(self.members, self.coordinates, self.team)
        except NotApplicable:
            return float("inf")
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return float("inf")

    def _fastest(self) -> list[Arrangement]:
        return sorted(self.times, key=self.times.__getitem__)


def _kind(evaluator: Evaluator) -> str:
    return "cpu" if evaluator.objective.device.type == "cpu" else "other"


def arrange(members: Sequence[Evaluator], arrangement: Arrangement) -> None:
    """Lay samples and points out as told, in all ``members``."""
    for member in members:
        member.arrange(arrangement)


def seconds_per_sample(members: Sequence[Evaluator], coordinates: torch.Tensor, team: Team) -> float:
    """Seconds for one sample at one point, with all ``members`` at work.

    They include the share of a sample in what is computed once for all samples of a point: weights, what compiled
    passes make of them, and BatchNorm statistics where every point has its own.
    """
    seconds = team.map(lambda _, member: _seconds_of(member, coordinates), members)
    passes, preparations = (sum(parts) / team.size for parts in zip(*seconds, strict=True))
    return float(passes / team.size + preparations / members[0].objective.size)


@torch.no_grad()  # which holds for one thread only
def _seconds_of(evaluator: Evaluator, coordinates: torch.Tensor) -> tuple[float, float]:
    """Seconds for one sample at one point with one evaluator, the shorter of two tries if they are brief.

    The second number are those of preparing a point.
    """
    count = max(evaluator.arrangement.together, 3)
    few = coordinates[:: max(1, len(coordinates) // count)][:count][: evaluator.largest_block]
    began = time.perf_counter()
    evaluator.prepare(few)
    _wait(evaluator.objective.device)
    preparation = (time.perf_counter() - began) / len(few)
    _, batch = next(evaluator.objective.batches(evaluator.arrangement.batch_size))
    evaluator.load(batch)
    times = []
    for _ in range(2):
        _wait(evaluator.objective.device)
        began = time.perf_counter()
        if evaluator.largest_block <= len(few):
            evaluator.load(batch)  # a block loads the batch once, so here this counts for the few points alone
        samples = sum(scores.losses.shape[1] for scores in evaluator.run())
        _wait(evaluator.objective.device)
        times.append(time.perf_counter() - began)
        if times[-1] > PLENTY:
            break
    return min(times) / (samples * len(few)), preparation


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device.type).synchronize()
