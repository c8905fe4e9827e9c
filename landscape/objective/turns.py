"""The turns in which ranks evaluate all batches: each rank of a network in shards may take its own."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from landscape.objective.parts import Parts
from landscape.runtime import ranks

__all__ = ["Turn", "in_order", "turns"]


class Turn(NamedTuple):
    """One pass of all ranks at the same time, as this rank sees it."""

    start: int  # index of the first sample
    batch: Any  # of this rank
    counts: bool  # False: another rank takes the same batch, and its result on this one is to be ignored
    samples: int  # the number of samples in the batches of all ranks together


def turns(objective: Parts, batch_size: int | None = None) -> Iterator[Turn]:
    """Yield the batches of this rank, which are all batches unless the ranks divide them.

    All ranks have the same number of turns, because they must run the same passes. If the batches do not suffice for
    all ranks in the last turn, the others take its first batch once more, with ``counts`` false.
    """
    batches, size = objective.batches(batch_size), objective.batches.count
    if not objective.network.shares_data:
        yield from (Turn(start, batch, True, size(batch)) for start, batch in batches)
        return
    while together := [*itertools.islice(batches, ranks.count())]:
        counts = ranks.rank() < len(together)
        start, batch = together[ranks.rank() if counts else 0]
        yield Turn(start, batch, counts, sum(size(other) for _, other in together))


def in_order(objective: Parts, pieces: Sequence[tuple[int, Tensor]]) -> list[Tensor]:
    """The results of all ranks for their batches, in the order of the samples.

    ``pieces`` are the results of this rank: pairs (index of the first sample, values of the batch).
    """
    if objective.network.shares_data:
        mine = [(start, values.cpu()) for start, values in pieces]
        pieces = sorted(itertools.chain(*ranks.gathered(mine)), key=lambda piece: piece[0])
    return [values for _, values in pieces]
