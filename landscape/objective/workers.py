"""Several evaluators side by side on the cores of a CPU, each with its own copy of the network."""

import itertools
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from typing import Any

import torch
from torch import nn

from landscape.objective.objectives import Objective
from landscape.objective.structure import is_plain
from landscape.objective.twins import are_independent
from landscape.runtime import started_threads

__all__ = ["Team"]

MOST = 4  # threads of Python beyond which they would wait for each other between the operations of torch


class Team:
    """Threads that share the batches of a block, each with its share of torch's threads.

    Two threads with one core each are faster than one thread whose every operation is split over two cores: the
    operations of small networks are too short to be split. Where splitting by batches is no choice (an accelerator,
    streamed samples, a callable that may keep state, statistics of BatchNorm over all samples, copies of the network
    that share state) the team is one thread with all of torch's threads.
    """

    def __init__(self, objective: Objective):
        self.threads = torch.get_num_threads()
        alone = (
            objective.device.type != "cpu"
            or objective.samples.tensors is None
            or callable(objective.loss)
            or objective.renews
        )
        batches = -(-objective.size // objective.batch_size) if objective.batches_fixed else objective.size
        self.size = 1 if alone else min(self.threads, MOST, batches)
        if self.size > 1 and not _twins_are_independent(objective):
            self.size = 1
        self.lock = threading.Lock()
        self.stopped = False

    def __enter__(self) -> "Team":
        self.pool = started_threads(self.size, self.threads // self.size)
        return self

    def __exit__(self, *_: Any) -> None:
        self.stopped = True
        self.pool.shutdown()

    def map(self, work: Callable[..., Any], members: Sequence[Any]) -> list[Any]:
        """[work(rank, member), ...] for all ``members``, at the same time; the first exception is raised."""
        futures = [self.pool.submit(work, rank, member) for rank, member in enumerate(members)]
        try:
            return [future.result() for future in futures]
        except BaseException:
            self.stopped = True
            wait(futures)  # so that no member still works on what is given up
            self.stopped = False
            raise

    def even(self, batch_size: int, samples: int) -> int:
        """The batch size nearest below ``batch_size`` that gives every member as many batches."""
        batches = math.ceil(samples / batch_size)
        return math.ceil(samples / (math.ceil(batches / self.size) * self.size))


def _twins_are_independent(objective: Objective) -> bool:
    """Whether networks in several threads leave each other alone; tried once an objective, on a few samples.

    On batches of two lengths, and on two of one length: what is kept may be kept by its shape.
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
