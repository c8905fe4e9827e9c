"""Evaluation of networks whose copies do not fit into memory: the network itself is moved, point by point."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from landscape.evaluation.methods.chebyshev import ChebyshevNodes
from landscape.evaluation.methods.protocol import Arrangement, Choices, Scores, stacked
from landscape.evaluation.statistics import Sums
from landscape.objective.objectives import Objective
from landscape.slices.planes import Slice

__all__ = ["InPlace"]


class InPlace:
    """Plain passes at one point after the other; points outside, batches inside."""

    name, is_plain, cheap, largest_block = "in_place", True, False, 1

    def __init__(self, objective: Objective, slice_: Slice):
        self.objective, self.slice = objective, slice_
        self.arrangement = Arrangement(objective.batch_size)
        self.batch: Any = None

    @property
    def settings(self) -> dict[str, Any]:
        return {"batch_size": self.arrangement.batch_size}

    @property
    def batches_fixed(self) -> bool:
        return self.objective.batches_fixed

    def arrange(self, arrangement: Arrangement) -> None:
        self.arrangement = arrangement

    def choices(self, coordinates: Tensor, plain: bool) -> Choices | None:
        if self.objective.network.is_sharded:  # time differs between ranks, which run the same passes
            return None
        return Choices(("default",), 1, together=False, chain_width=None)

    def node_sets(self, coordinates: Tensor) -> Iterator[ChebyshevNodes]:
        return iter(())

    def prepare(
        self, coordinates: Tensor, nodes: ChebyshevNodes | None = None, leader: "InPlace | None" = None
    ) -> None:
        (position,) = coordinates.tolist()
        self.objective.network.move_along(self.slice, position)
        self.objective.renew_statistics(self.slice.weights_at(*position))

    def load(self, batch: Any) -> None:
        self.batch = batch

    @torch.no_grad()
    def run(self) -> Iterator[Scores]:
        yield stacked([self.objective.measure(self.batch)])

    def at_points(self, sums: Sums) -> Sums | None:
        return sums

    def twin(self) -> "InPlace":
        return InPlace(self.objective.twin(), self.slice)
