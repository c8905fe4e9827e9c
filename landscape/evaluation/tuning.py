"""Micro-batch size and memory layout, picked by timing the first points."""

import time

import torch

from landscape.evaluation.direct import Direct
from landscape.evaluation.team import Team

__all__ = ["tune"]

BATCH_SIZES = {"cpu": (32, 64, 128, 256, 512, 1024, 2048), "other": (256, 512, 1024, 2048, 4096, 8192)}
TOGETHER = ((64, 512), (64, 1024), (256, 1024))  # points and samples of one vectorised operation
VOLUME = {"cpu": 2**22, "other": 2**27}  # values of the first moved layer in one operation, at the most
PLENTY = 0.1  # seconds that one try takes at the least to be trusted alone
SHORT = 2**27  # values of the first moved layer at all points of a chain that are computed sooner than a try is worth
VALUE = 4e-9  # seconds that one of them takes, roughly
SHARE = 0.05  # of the expected work that may be spent on timing


def tune(evaluators: list[Direct], coordinates: torch.Tensor, team: Team) -> float:
    """Set layout, micro-batch size and points per operation of all to the fastest seen; expected seconds a point.

    Points together first, where the network is so small that they pay most likely, then the layout, then the batch
    size (until it got worse twice), as long as the timing itself takes less than a small share of the work. Batches
    that are part of the objective keep their size. Short work of a chain takes the first setting, untimed. All members
    of the ``team`` are timed at once, because they share the cache and the memory of the machine.
    """
    evaluator = evaluators[0]
    objective = evaluator.objective
    kind = "cpu" if objective.device.type == "cpu" else "other"
    work = objective.size * len(coordinates)
    best, best_time, began = None, float("inf"), time.perf_counter()

    def attempt(batch_size: int, layout: str, together: int) -> float:
        nonlocal best, best_time
        if time.perf_counter() - began > SHARE * best_time * work:
            return float("inf")
        for member in evaluators:
            member.arrange(batch_size, layout, together)
        seconds = sum(team.map(lambda _, member: _seconds(member, coordinates), evaluators)) / team.size**2
        if seconds < best_time:
            best, best_time = (batch_size, layout, together), seconds
        return seconds

    start = objective.batch_size if evaluator.batches_fixed else min(64, objective.size)
    if not evaluator.batches_fixed and evaluator.can_run_together(coordinates[:2]):
        for together, size in TOGETHER:
            together, size = min(together, len(coordinates)), min(size, objective.size)
            if together * size * evaluator.width > VOLUME[kind]:
                continue
            if work * evaluator.width < SHORT and _is_chain(evaluators, size, together):
                return VALUE * objective.size * evaluator.width
            attempt(size, evaluator.layouts[-1], together)
    for layout in evaluator.layouts:
        attempt(start, layout, 1)
    if not evaluator.batches_fixed:
        worse, least = 0, float("inf")
        for size in BATCH_SIZES[kind]:
            if size > objective.size or size * evaluator.width > VOLUME[kind] or worse == 2:
                break
            seconds = attempt(size, best[1], 1)
            worse, least = (worse + 1 if seconds > least else 0), min(least, seconds)
    for member in evaluators:
        member.arrange(*best)
    prepared = time.perf_counter()
    evaluator.prepare(coordinates[:1])  # includes the BatchNorm statistics where they are renewed at every point
    return best_time * objective.size + time.perf_counter() - prepared


def _is_chain(evaluators: list[Direct], batch_size: int, together: int) -> bool:
    """Whether a `Chain` runs with these settings, which all evaluators then have."""
    for member in evaluators:
        member.arrange(batch_size, member.layouts[-1], together)
    return evaluators[0].chain is not None


@torch.no_grad()  # which holds for one thread only
def _seconds(evaluator: Direct, coordinates: torch.Tensor) -> float:
    """Seconds for one sample at one point, the better of two tries where they are short."""
    count = max(evaluator.together, 3)
    few = coordinates[:: max(1, len(coordinates) // count)][:count][: evaluator.largest_block]
    evaluator.prepare(few)
    _, batch = next(evaluator.objective.batches(evaluator.batch_size))
    evaluator.load(batch)
    times = []
    for _ in range(2):
        _wait(evaluator.objective.device)
        began = time.perf_counter()
        if evaluator.largest_block <= len(few):
            evaluator.load(batch)  # which all points of a block share: here that is no more than these
        samples = sum(losses.shape[1] for losses, _ in evaluator.run())
        _wait(evaluator.objective.device)
        times.append(time.perf_counter() - began)
        if times[-1] > PLENTY:
            break
    return min(times) / (samples * len(few))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
