"""Teams of threads on the cores of a CPU, each with its own copy of the network."""

import functools
import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from typing import Any

import torch
from torch import nn

from landscape.objective.objectives import Objective
from landscape.objective.structure import is_plain
from landscape.objective.twins import are_independent
from landscape.runtime import started_threads
from landscape.runtime.threads import faster_count

__all__ = ["Team"]

TRIED_EVERY = 10.0  # seconds; the result changes with the load of other processes
PIECES = (1, 8, 64, 512)  # samples of the passes that tell whether the one of a batch takes long
MOST = 4  # more Python threads would wait for each other between the operations of torch


class Team:
    """Threads that divide the batches among them, each with its share of torch's threads.

    Two threads with one core each are faster than one thread that divides every operation between two cores, because
    the operations of small networks are too short for that. Batches are not divided on an accelerator, for streamed
    samples, metrics or a callable loss, which may keep state, for the caller's own network (``copy=False``), buffers
    that depend on the point, or copies of the network that share state. The team is then one thread with all of torch's
    threads, or with one of them if a pass takes less time with it, because the operations are short or the machine is
    busy.
    """

    def __init__(self, objective: Objective):
        self.threads = torch.get_num_threads()
        alone = (
            objective.device.type != "cpu"
            or objective.samples.tensors is None
            or not objective.scores_outputs
            or objective.network.in_place
            or objective.renews
        )
        batches = -(-objective.size // objective.batch_size) if objective.batches_fixed else objective.size
        self.size = 1 if alone else min(self.threads, MOST, batches)
        if self.size > 1 and not _twins_are_independent(objective):
            self.size = 1
        divided = self.threads // self.size
        self.threads_each = _threads_of(objective) if self.size == 1 and objective.device.type == "cpu" else divided
        self.lock = threading.Lock()
        self.stopped = False

    def __enter__(self) -> "Team":
        self.pool = started_threads(self.size, self.threads_each)
        return self

    def __exit__(self, *_: Any) -> None:
        self.stopped = True
        self.pool.shutdown()

    def map(self, work: Callable[..., Any], members: Sequence[Any]) -> list[Any]:
        """The results work(index, member) for all ``members``, computed at the same time.

        If one of them fails, the others are told to stop, and its exception is raised.
        """
        futures = [self.pool.submit(work, rank, member) for rank, member in enumerate(members)]
        try:
            return [future.result() for future in futures]
        except BaseException:
            self.stopped = True
            wait(futures)  # no member may go on working after the exception
            self.stopped = False
            raise

    def even(self, batch_size: int, samples: int) -> int:
        """A batch size of at most ``batch_size`` that divides ``samples`` evenly among the members, if possible."""
        batches = math.ceil(samples / batch_size)
        return math.ceil(samples / (math.ceil(batches / self.size) * self.size))


def _threads_of(objective: Objective) -> int:
    """The number of torch's threads, one or all, with which a pass takes less time; tried again after 10 seconds."""
    proofs, now = objective.passes.proofs, time.monotonic()
    if objective.network.in_place or objective.samples.tensors is None:  # a trial may take long, or read files
        return torch.get_num_threads()
    if proofs.threads is None or now - proofs.threads[0] > TRIED_EVERY:
        with objective.arithmetic(), torch.no_grad():
            sizes = [size for size in PIECES if size < objective.batch_size and not objective.batches_fixed]
            batches = [next(iter(objective.batches(size)))[1] for size in (*sizes, None)]
            *parts, whole = (functools.partial(objective.losses, batch) for batch in batches)
            proofs.threads = now, faster_count(whole, parts)
    return proofs.threads[1]


def _twins_are_independent(objective: Objective) -> bool:
    """Whether copies of the network in several threads do not influence each other; checked once for an objective.

    The check uses batches of different and of equal length, because networks may cache tensors by their shape.
    """
    proofs = objective.passes.proofs
    if proofs.twins is None and is_plain(objective.model):
        proofs.twins = True
    if proofs.twins is None:
        fixed = objective.batches_fixed
        _, longer = next(iter(objective.batches(None if fixed else 3)))
        pieces = objective.batches(None if fixed else min(2, objective.size // 2))
        first, second = (batch for _, batch in itertools.islice(pieces, 2))

        def run(network: nn.Module, batch: Any) -> torch.Tensor:
            outputs: torch.Tensor = objective.forward(network, batch[0])
            return outputs

        with objective.arithmetic():
            proofs.twins = not objective.overwrites and all(
                are_independent(objective.model, run, pair) for pair in ((longer, first), (first, second))
            )
    return proofs.twins
