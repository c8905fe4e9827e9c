"""Micro-batch size and memory layout, picked by timing the first points."""

import time

import torch

from landscape.evaluation.direct import Direct, has_convolutions

__all__ = ["tune"]

BATCH_SIZES = {"cpu": (32, 64, 128, 256, 512, 1024, 2048), "other": (256, 512, 1024, 2048, 4096, 8192)}
TOGETHER = ((16, 256), (64, 256), (64, 1024))  # points and samples of one vectorised operation
VOLUME = {"cpu": 2**22, "other": 2**27}  # values of the first moved layer in one such operation
SHORT = 0.5  # seconds of work below which timing costs more than it saves


def tune(evaluator: Direct, coordinates: torch.Tensor) -> float:
    """Set layout, micro-batch size and points per operation of ``evaluator`` to the fastest seen; seconds a point.

    One property after the other: the layout, then the batch size (until it got worse twice), then points together.
    Batches that are part of the objective (BatchNorm by batch, streamed samples) keep their size.
    """
    objective = evaluator.objective
    kind = "cpu" if objective.device.type == "cpu" else "other"
    best, best_time = None, float("inf")

    def attempt(batch_size: int, channels_last: bool, together: int) -> float:
        nonlocal best, best_time
        seconds = _seconds(evaluator, coordinates, batch_size, channels_last, together)
        if seconds < best_time:
            best, best_time = (batch_size, channels_last, together), seconds
        return seconds

    fixed = objective.samples.tensors is None or objective.batch_norm == "batch"
    start = objective.batch_size if fixed else min(256, objective.size)
    layouts = (False, True) if has_convolutions(objective.model) else (False,)
    for channels_last in layouts:
        attempt(start, channels_last, 1)
    work = objective.size * len(coordinates)
    if not fixed and best_time * work > SHORT:
        worse, least = 0, float("inf")
        for size in BATCH_SIZES[kind]:
            if size > objective.size or worse == 2:
                break
            seconds = attempt(size, best[1], 1)
            worse, least = (worse + 1 if seconds > least else 0), min(least, seconds)
        for together, size in TOGETHER:
            fits = size <= objective.size and together <= len(coordinates)
            if fits and together * size * evaluator.width <= VOLUME[kind] and evaluator.can_run_together():
                attempt(size, best[1], together)
    evaluator.batch_size, evaluator.channels_last, evaluator.together = best
    began = time.perf_counter()
    evaluator.prepare(coordinates[:1])  # includes the BatchNorm statistics where they are renewed at every point
    return best_time * objective.size + time.perf_counter() - began


def _seconds(
    evaluator: Direct, coordinates: torch.Tensor, batch_size: int, channels_last: bool, together: int
) -> float:
    """Seconds for one sample at one point, the best of a few tries after a warm-up."""
    evaluator.batch_size, evaluator.channels_last, evaluator.together = batch_size, channels_last, together
    count = max(together, 4)
    few = coordinates[:: max(1, len(coordinates) // count)][:count][: evaluator.largest_block]
    evaluator.prepare(few)
    _, batch = next(evaluator.objective.batches(batch_size))
    evaluator.load(batch)
    times = []
    for _ in range(3):
        _wait(evaluator.objective.device)
        began = time.perf_counter()
        samples = sum(losses.shape[1] for losses, _ in evaluator.run())
        _wait(evaluator.objective.device)
        times.append(time.perf_counter() - began)
    return min(times) / (samples * len(few))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
