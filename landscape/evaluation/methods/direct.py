"""Evaluation by forward passes of the whole network at every point."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from landscape.evaluation.methods.chebyshev import ChebyshevNodes
from landscape.evaluation.methods.compiled import Programs
from landscape.evaluation.methods.moved import Block, MovedParameters
from landscape.evaluation.methods.passes import passes_of
from landscape.evaluation.methods.protocol import Arrangement, Choices, NotApplicable, Order, Scores, faster_way
from landscape.evaluation.statistics import Sums
from landscape.objective.objectives import Objective
from landscape.objective.trees import map_tensors, tensors_of
from landscape.slices.planes import Slice

__all__ = ["Direct"]


class Direct:
    """Losses of K points on one batch after the other: batches outside, points inside, weights precomputed."""

    name, is_plain, cheap = "direct", True, False

    def __init__(
        self,
        objective: Objective,
        slice_: Slice,
        moved: MovedParameters | None = None,
        programs: Programs | None = None,
    ):
        self.objective, self.slice, self.programs = objective, slice_, programs or Programs()
        objective.move_to(slice_.origin)
        names = self._settle(next(objective.batches(2))[1])
        self.moved = moved or MovedParameters(objective, slice_, names)
        self.coordinates: list[list[float]] = []
        self.block = Block(torch.empty(0))
        self.batch: Any = None
        self.arrange(Arrangement(objective.batch_size))

    @property
    def settings(self) -> dict[str, Any]:
        arrangement = self.arrangement
        compiler = {} if arrangement.compiler is None else {"compiler": arrangement.compiler}
        layout = {"layout": arrangement.order, "together": arrangement.together}
        return {"batch_size": arrangement.batch_size, **layout, **compiler}

    @property
    def batches_fixed(self) -> bool:
        return self.objective.batches_fixed

    @property
    def largest_block(self) -> int:
        return 1 if self.objective.renews else self.moved.largest_block

    @property
    def orders(self) -> tuple[Order, ...]:
        """The orders of memory that may pay for this network."""
        convolves = any(isinstance(module, nn.Conv2d) for module in self.objective.model.modules())
        return ("default", "channels_last") if convolves else ("default",)

    def arrange(self, arrangement: Arrangement) -> None:
        self.arrangement = arrangement
        self.passes = passes_of(self.objective, self.moved, arrangement, self.programs)

    def choices(self, coordinates: Tensor, plain: bool) -> Choices | None:
        together = not plain and self._can_run_together(coordinates)
        return Choices(("default",) if plain else self.orders, self.width, together, None)

    def node_sets(self, coordinates: Tensor) -> Iterator[ChebyshevNodes]:
        return iter(())

    def prepare(self, coordinates: Tensor, nodes: ChebyshevNodes | None = None, leader: "Direct | None" = None) -> None:
        weights = self.slice.weights(coordinates)
        self.coordinates = weights.tolist()
        if leader:
            self.block = leader.block
            return
        self.block = Block(self.moved.at(weights))
        if self.objective.renews:
            self.moved.put(self.block.stack[0])
            self.objective.renew_statistics(self.coordinates[0])
        self.passes.prepare(self.block)

    def load(self, batch: Any) -> None:
        self.batch = map_tensors(_channels_last, batch) if self.arrangement.order == "channels_last" else batch

    def run(self) -> Iterator[Scores]:
        yield self.passes.scores(self.block, self.batch)

    def at_points(self, sums: Sums) -> Sums | None:
        return sums

    def twin(self) -> "Direct":
        objective = self.objective.twin()
        return Direct(objective, self.slice, self.moved.twin(objective), self.programs)

    def _settle(self, batch: Any) -> list[str]:
        """Find the layer from which a pass of ``batch`` depends on the point; return the names of what then moves."""
        inputs = tensors_of(batch)[0]
        self.width = inputs.numel() // len(inputs)
        return self.slice.moved

    @property
    def _may_run_together(self) -> bool:
        """Whether nothing in the objective prevents the evaluation of several points in one operation."""
        objective = self.objective
        return objective.scores_outputs and objective.passes.are_pure and not (objective.renews or self.batches_fixed)

    def _can_run_together(self, coordinates: Tensor) -> bool:
        """Whether the forward pass can be vectorised over points (torch.func.vmap accepts it), tried at two."""
        if self.largest_block == 1 or not self._may_run_together:
            return False
        before = self.arrangement
        self.arrange(Arrangement(before.batch_size, together=2))
        try:
            self.prepare(coordinates)
            self.load(self.objective.batches.few())
            with faster_way():
                list(self.run())
        except NotApplicable:
            return False
        finally:
            self.arrange(before)
        return True


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
