"""Micro-batch size and memory layout, picked by timing the first points."""

import time

import torch

from landscape.evaluation.methods.direct import Direct
from landscape.objective.workers import Team

__all__ = ["tune"]

BATCH_SIZES = {"cpu": (32, 64, 128, 256, 512, 1024, 2048), "other": (256, 512, 1024, 2048, 4096, 8192)}
TOGETHER = ((64, 512), (64, 1024), (256, 1024))  # points and samples of one vectorised operation
VOLUME = {"cpu": 2**22, "other": 2**27}  # values of the first moved layer in one operation, at the most
PLENTY = 0.1  # seconds that one try takes at the least to be trusted alone
CHAINED = {"cpu": (1024, 2**21), "other": (8192, 2**25)}  # samples, and values of the widest layer, in one operation
LEAST = 64  # samples of a chain, however wide
SHORT = 2**27  # values of the widest layer of a chain, at all points, that are computed sooner than a try is worth
VALUE = 4e-9  # seconds that one of them takes, roughly
FINALISTS, ROUNDS = 4, 5  # settings that are timed again, and how often
SHARE = 0.05  # of the expected work that may be spent on timing

Setting = tuple[int, str, int]  # samples a batch, layout, points per operation


def tune(evaluators: list[Direct], coordinates: torch.Tensor, team: Team, *, plain: bool = False) -> float:
    """Set layout, micro-batch size and points per operation of all for the points ``coordinates``; seconds a point.

    ``plain`` leaves layout and points per operation as they are in a plain forward pass.

    The settings of a `Chain` follow from its width; for other networks they are the fastest seen. All members of the
    ``team`` are timed at once, because they share the cache and the memory of the machine.
    """
    evaluator = evaluators[0]
    together = not plain and not evaluator.batches_fixed and evaluator.can_run_together(coordinates[:2])
    if not (together and (setting := _for_chain(evaluator, len(coordinates)))):
        return _search(evaluators, coordinates, team, together, ("default",) if plain else evaluator.layouts)
    _arrange(evaluators, setting)
    size, width = evaluator.objective.size, evaluator.chain.width if evaluator.chain else 1
    short = size * len(coordinates) * width < SHORT
    return size * (VALUE * width if short else _seconds(evaluators, coordinates, team))


def _for_chain(evaluator: Direct, points: int) -> Setting | None:
    """What keeps a `Chain` in the cache, two points an operation or more; None for other networks."""
    if "features_first" not in evaluator.layouts:
        return None
    evaluator.arrange(evaluator.batch_size, "features_first", 2)
    if not evaluator.chain:
        return None
    most, values = CHAINED[_kind(evaluator)]
    columns = values // evaluator.chain.width
    samples = min(evaluator.objective.size, most, max(LEAST, columns // 2))
    return samples, "features_first", max(2, min(points, columns // samples))


def _search(
    evaluators: list[Direct], coordinates: torch.Tensor, team: Team, together: bool, layouts: tuple[str, ...]
) -> float:
    """The fastest settings seen, as long as the timing takes less than a small share of the work.

    Points ``together`` first, where the network is so small that they pay most likely, then the layout, then the batch
    size (until it got worse twice). The fastest of these are timed in turn again: the speed of a machine changes from
    moment to moment. Batches that are part of the objective keep their size. Settings that fail count as slow.
    """
    evaluator, kind = evaluators[0], _kind(evaluators[0])
    objective = evaluator.objective
    work = objective.size * len(coordinates)
    times: dict[Setting, float] = {}
    began = time.perf_counter()

    def attempt(setting: Setting) -> float:
        if times and time.perf_counter() - began > SHARE * min(times.values()) * work:
            return float("inf")
        _arrange(evaluators, setting)
        try:
            seconds = _seconds(evaluators, coordinates, team)
        except Exception:
            if setting[1:] == ("default", 1) and setting[0] <= start:  # of which all others are variants
                raise
            seconds = float("inf")
        times[setting] = min(seconds, times.get(setting, seconds))
        return seconds

    def fastest() -> list[Setting]:
        return sorted(times, key=times.__getitem__)

    start = objective.batch_size if evaluator.batches_fixed else min(64, objective.size)
    for points, size in TOGETHER if together else ():
        points, size = min(points, len(coordinates)), min(size, objective.size)
        if points * size * evaluator.width <= VOLUME[kind]:
            attempt((size, layouts[-1], points))
    for layout in layouts:
        attempt((start, layout, 1))
    layout = fastest()[0][1]
    if not evaluator.batches_fixed:
        worse, least = 0, float("inf")
        for size in BATCH_SIZES[kind]:
            if size > objective.size or size * evaluator.width > VOLUME[kind] or worse == 2:
                break
            seconds = attempt((size, layout, 1))
            worse, least = (worse + 1 if seconds > least else 0), min(least, seconds)
    for setting in fastest()[:FINALISTS] * ROUNDS:
        attempt(setting)
    best = fastest()[0]
    _arrange(evaluators, best)
    prepared = time.perf_counter()
    evaluator.prepare(coordinates[:1])  # includes the BatchNorm statistics where they are renewed at every point
    return times[best] * objective.size + time.perf_counter() - prepared


def _kind(evaluator: Direct) -> str:
    return "cpu" if evaluator.objective.device.type == "cpu" else "other"


def _arrange(evaluators: list[Direct], setting: Setting) -> None:
    for evaluator in evaluators:
        evaluator.arrange(*setting)


def _seconds(evaluators: list[Direct], coordinates: torch.Tensor, team: Team) -> float:
    """Seconds for one sample at one point, with all ``evaluators`` at work."""
    seconds: list[float] = team.map(lambda _, member: _seconds_of(member, coordinates), evaluators)
    return sum(seconds) / team.size**2


@torch.no_grad()  # which holds for one thread only
def _seconds_of(evaluator: Direct, coordinates: torch.Tensor) -> float:
    """The same with one of them, the better of two tries where they are short."""
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
