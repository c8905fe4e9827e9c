"""The batches of all samples in the turns of this rank: others take other batches through a network in shards."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from landscape.objective.parts import Parts
from landscape.runtime import ranks

__all__ = ["Turn", "in_order", "turns"]


class Turn(NamedTuple):
    """A batch that this rank takes, while the others take theirs."""

    start: int  # index of the first sample
    batch: Any
    counts: bool  # False: another rank has this batch, and this one only takes part in the pass
    samples: int  # of all ranks together


def turns(objective: Parts, batch_size: int | None = None) -> Iterator[Turn]:
    """All batches, or those of this rank; every rank has the same number of turns, in the last one perhaps a copy."""
    batches, size = objective.batches(batch_size), objective.batches.count
    if not objective.network.shares_data:
        yield from (Turn(start, batch, True, size(batch)) for start, batch in batches)
        return
    while together := [*itertools.islice(batches, ranks.count())]:
        counts = ranks.rank() < len(together)
        start, batch = together[ranks.rank() if counts else 0]
        yield Turn(start, batch, counts, sum(size(other) for _, other in together))


def in_order(objective: Parts, pieces: Sequence[tuple[int, Tensor]]) -> list[Tensor]:
    """What all ranks have computed from their batches, in the order of the samples; each piece with its first one."""
    if objective.network.shares_data:
        mine = [(start, values.cpu()) for start, values in pieces]
        pieces = sorted(itertools.chain(*ranks.gathered(mine)), key=lambda piece: piece[0])
    return [values for _, values in pieces]
