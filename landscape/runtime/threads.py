"""The number of torch's threads that suits small networks."""

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from landscape.runtime.random_state import kept_random_state

__all__ = ["faster_count", "one_thread", "threads_for_training"]

# Multiplications of the forward pass of a batch. One thread takes no longer for so few than two do on an idle machine,
# and a hundredth of the time on a busy one, where two threads wait for each other in every operation.
FEW = 2**20
TRIES = 3  # of each number of threads
LONG = 0.05  # seconds; a pass that takes longer with one thread is no small one
CHOICES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

_DEFAULT = torch.get_num_threads()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread of torch inside the block; more would slow small networks down, and might change rounding."""
    with _threads(1):
        yield


def threads_for_training(
    model: nn.Module, inputs: Tensor, batch_size: int
) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """The context for steps with batches of ``batch_size`` of ``inputs``: one thread for a small network on the CPU.

    The number of threads changes how sums are rounded, so that it must not depend on how busy the machine is: the same
    seed gives the same weights. So it follows from the multiplications of the forward pass, which are counted on one
    sample with ``model`` in its present mode. A number of threads that the user has chosen stays.
    """
    if inputs.device.type != "cpu" or torch.get_num_threads() == 1 or _is_chosen():
        return contextlib.nullcontext
    try:
        with torch.no_grad(), kept_random_state(draws=True), FlopCounterMode(display=False) as counter:
            model(inputs[:1])
    except Exception:  # a network that a step will explain better
        return contextlib.nullcontext
    small = 0 < counter.get_total_flops() // 2 * batch_size <= FEW
    return one_thread if small else contextlib.nullcontext


def faster_count(work: Callable[[], Any], shorter: Iterable[Callable[[], Any]] = ()) -> int:
    """One thread, or all threads of torch: the number with which ``work`` takes less time, tried several times.

    It is all threads for long work, which is tried by one thread only: first the ``shorter`` parts of it, the shortest
    first, so that this takes little time. A number of threads that the user has chosen stays.
    """
    every = torch.get_num_threads()
    if every == 1 or _is_chosen():
        return every
    if any(_takes_long(part) for part in shorter):
        return every
    seconds: dict[int, list[float]] = {1: [], every: []}
    for _ in range(TRIES):
        for count, taken in seconds.items():
            with _threads(count):
                began = time.perf_counter()
                work()
                taken.append(time.perf_counter() - began)
            if taken[-1] > LONG and count == 1:
                return every
    return min(seconds, key=lambda count: statistics.median(seconds[count]))


def _takes_long(work: Callable[[], Any]) -> bool:
    """Whether one thread takes longer than `LONG` seconds for ``work``."""
    with _threads(1):
        began = time.perf_counter()
        work()
        return time.perf_counter() - began > LONG


def _is_chosen() -> bool:
    """Whether the user has chosen the number of torch's threads, in the environment or in torch."""
    return any(os.environ.get(name) for name in CHOICES) or torch.get_num_threads() != _DEFAULT


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
