"""Evaluation of the layers from the first moved one on; those before it are computed once for each batch."""

from functools import cached_property, partial
from typing import Any

from torch import Tensor, nn

from landscape.evaluation.methods.chain import Chain
from landscape.evaluation.methods.chebyshev import ChebyshevNodes
from landscape.evaluation.methods.compiled import Programs
from landscape.evaluation.methods.direct import Direct
from landscape.evaluation.methods.first_layer import FirstLayer
from landscape.evaluation.methods.first_outputs import FirstOutputs
from landscape.evaluation.methods.moved import MovedParameters
from landscape.evaluation.methods.passes import chain_of, passes_of
from landscape.evaluation.methods.protocol import Arrangement, Choices, NotApplicable, Order
from landscape.objective.objectives import Objective
from landscape.objective.trees import tensors_of
from landscape.slices.planes import Slice

__all__ = ["Prefix"]


class Prefix(Direct):
    """`Direct` whose passes begin with the output of the first moved layer, an affine combination at every point."""

    name, is_plain = "prefix", False

    def __init__(
        self,
        objective: Objective,
        slice_: Slice,
        moved: MovedParameters | None = None,
        programs: Programs | None = None,
    ):
        if objective.overwrites:
            raise NotApplicable("the forward pass writes into its parameters")
        if objective.renews:
            raise NotApplicable("BatchNorm statistics or other buffers change from point to point")
        super().__init__(objective, slice_, moved, programs)

    @property
    def orders(self) -> tuple[Order, ...]:
        orders = super().orders
        return ("default", "features_first") if orders == ("default",) and self._classifies_features else orders

    def arrange(self, arrangement: Arrangement) -> None:
        self.arrangement = arrangement
        by_features = arrangement.order == "features_first"
        self.outputs = FirstOutputs(self.first, by_features, unsummed=arrangement.compiler == "inductor")
        chain = self.chain if by_features and arrangement.together > 1 else None
        self.passes = passes_of(self.objective, self.moved, arrangement, self.programs, self.outputs, chain)

    @cached_property
    def chain(self) -> Chain | None:
        """What follows the first moved layer of a classifier of features, where that is a `Chain`."""
        return chain_of(self.objective, self.first) if self._classifies_features else None

    def choices(self, coordinates: Tensor, plain: bool) -> Choices | None:
        if plain or self.chain is None or not self._may_run_together:
            return super().choices(coordinates, plain)
        return Choices(self.orders, self.width, together=True, chain_width=self.chain.width)

    def prepare(self, coordinates: Tensor, nodes: ChebyshevNodes | None = None, leader: Direct | None = None) -> None:
        super().prepare(coordinates, nodes, leader)
        self.outputs.prepare(self.slice.weights(coordinates))

    def load(self, batch: Any) -> None:
        super().load(batch)
        self.outputs.load(lambda: self.objective.losses(self.batch))

    def twin(self) -> "Prefix":
        objective = self.objective.twin()
        return Prefix(objective, self.slice, self.moved.twin(objective), self.programs)

    def _settle(self, batch: Any) -> list[str]:
        objective, slice_ = self.objective, self.slice
        forward = partial(objective.measure, batch)  # with the metrics, which may read weights
        self.first = FirstLayer.find(objective.model, forward, slice_)
        parting = self.first.terms()[0]
        self.flat = parting.ndim == 2  # [n, F]
        self.width = parting.numel() // len(tensors_of(batch)[0])
        own = self.first.only_here(objective.model)
        return [name for name in slice_.moved if name not in own]

    @property
    def _classifies_features(self) -> bool:
        """Whether the points part in a linear layer [n, F] of a classifier, as `features_first` needs."""
        objective = self.objective
        classifier = objective.loss == "cross_entropy" and objective.has_accuracy and objective.scores_outputs
        return classifier and isinstance(self.first.layer, nn.Linear) and self.flat
