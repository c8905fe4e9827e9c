"""Forward passes at the points of a block: one point after the other, or several in every operation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import vmap

from landscape.evaluation.methods import features_first
from landscape.evaluation.methods.chain import Chain
from landscape.evaluation.methods.compiled import CompiledForward, Programs
from landscape.evaluation.methods.first_layer import FirstLayer
from landscape.evaluation.methods.first_outputs import FirstOutputs
from landscape.evaluation.methods.moved import Block, MovedParameters
from landscape.evaluation.methods.pooling import fast_pools
from landscape.evaluation.methods.protocol import Arrangement, Scores, stacked
from landscape.objective.forwards import replaced_forwards
from landscape.objective.objectives import Objective

__all__ = ["OneByOne", "Passes", "Together", "chain_of", "passes_of"]

SCORED_VALUES = 2**18  # outputs whose losses are computed in one call


class Passes(Protocol):
    """A way to run the forward passes of one batch at all points of a block."""

    def prepare(self, block: Block) -> None:
        """Compute what all batches share at the points of ``block``; threads with the same block need not."""

    def scores(self, block: Block, batch: Any) -> Scores:
        """The scores of ``batch`` at the K points of ``block``."""


def passes_of(
    objective: Objective,
    moved: MovedParameters,
    arrangement: Arrangement,
    programs: Programs,
    first: FirstOutputs | None = None,
    chain: Chain | None = None,
) -> Passes:
    """The way of ``arrangement``; with ``first`` the passes begin after the first moved layer, as a ``chain`` does.

    ``programs`` are the compiled passes of the network, if it is compiled.
    """
    by_features = arrangement.order == "features_first"
    replacements = fast_pools(objective.model)
    if by_features:
        replacements |= features_first.linears(objective.model)
    if first:
        replacements |= first.replacements
    if arrangement.together == 1:
        compiler = arrangement.compiler
        compiled = None if compiler is None else CompiledForward(objective, first, programs, compiler)
        replacements |= compiled.replacements if compiled else {}
        return OneByOne(objective, moved, first, replacements, by_features, compiled)
    return Together(
        objective, moved, first, replacements, by_features, arrangement.together, chain if by_features else None
    )


@dataclass(eq=False)
class _Way:
    """The network of the passes, the parameters that move, and the scorer of the outputs."""

    objective: Objective
    moved: MovedParameters
    first: FirstOutputs | None
    replacements: dict[nn.Module, Callable[..., Any]]
    by_features: bool

    def __post_init__(self) -> None:
        self.scorer = _Scorer(self.objective, self.by_features)


@dataclass(eq=False)
class OneByOne(_Way):
    """A forward pass at one point after the other; the outputs of several points are scored in one call."""

    compiled: CompiledForward | None

    def prepare(self, block: Block) -> None:
        if self.compiled:
            for index, values in enumerate(block.stack):
                self.moved.put(values)
                self.compiled.go_to(block, index)
                self.compiled.prepare()

    def scores(self, block: Block, batch: Any) -> Scores:
        if not self.objective.scores_outputs:
            return stacked([self.objective.measure(batch) for _ in self._visit(block)])
        inputs, targets = batch
        scored: list[Scores] = []
        points = len(block.stack)
        held: Tensor | None = None
        self.scorer.load(targets)
        for index in self._visit(block):
            outputs = self.scorer.in_order(self.objective.forward(self.objective.model, inputs))
            if held is None:
                group = max(1, min(points, SCORED_VALUES // outputs.numel()))
                held = outputs.new_empty(group, *outputs.shape)
            held[index % group] = outputs  # a copy: the next point may use the memory of these again
            if index % group == group - 1 or index == points - 1:
                scored.append(self.scorer(held[: index % group + 1]))
        return Scores(torch.cat([part.losses for part in scored]), _joined([part.hits for part in scored]))

    def _visit(self, block: Block) -> Iterator[int]:
        """Put the network at point after point; yields the index of the point."""
        with replaced_forwards(self.replacements):
            for index, values in enumerate(block.stack):
                self.moved.put(values)
                if self.first:
                    self.first.give(index)
                if self.compiled:
                    self.compiled.go_to(block, index)
                yield index


@dataclass(eq=False)
class Together(_Way):
    """``count`` points in every operation: by `torch.func.vmap`, or by the products of a chain where there is one."""

    count: int
    chain: Chain | None
    _losses: Tensor | None = field(default=None, init=False)

    def prepare(self, block: Block) -> None:
        pass

    def scores(self, block: Block, batch: Any) -> Scores:
        inputs, targets = batch
        stack = block.stack
        self.scorer.load(targets)
        forward = self.chain.run if self.chain else vmap(self._forward_with(inputs))
        losses: Tensor | None = None
        hits: list[Tensor | None] = []
        for start in range(0, len(stack), self.count):
            part = stack[start : start + self.count]
            # Without a layer to begin after, vmap gets something of the right length that nobody reads.
            outputs = self.first.at(start, len(part)) if self.first else stack.new_empty(len(part))
            scored = self.scorer(forward(self.moved.pieces(part), outputs))
            losses = self._room(len(stack), scored.losses) if losses is None else losses
            losses[start : start + len(part)] = scored.losses
            hits.append(scored.hits)
        if losses is None:
            raise ValueError("there is no point")
        return Scores(losses, _joined(hits))

    def _room(self, points: int, like: Tensor) -> Tensor:
        """Memory for the losses [points, n], the same again and again: fresh memory costs more than to fill it."""
        shape = (points, like.shape[1])
        if self._losses is None or self._losses.shape != shape:
            self._losses = like.new_empty(shape)
        return self._losses

    def _forward_with(self, inputs: Any) -> Callable[..., Tensor]:
        def forward(weights: dict[str, Tensor], output: Tensor) -> Tensor:
            if self.first:
                self.first.first.give(self.scorer.in_order(output))
            with replaced_forwards(self.replacements), self.moved.replaced(weights), self.objective.passes.autocast():
                return self.scorer.in_order(self.objective.model(inputs))

        return forward


class _Scorer:
    """Losses and hits of outputs [K, n, ...] at K points, [K, C, n] features first, in one call."""

    def __init__(self, objective: Objective, by_features: bool):
        self.objective, self.by_features = objective, by_features
        self.targets = torch.empty(0)
        self._by_features: features_first.Scorer | None = None

    def load(self, targets: Tensor) -> None:
        if self.targets is not targets:
            self.targets = targets
            self._by_features = features_first.Scorer(targets) if self.by_features else None

    def __call__(self, outputs: Tensor) -> Scores:
        if self._by_features:
            return Scores(*self._by_features(outputs.to(self.objective.dtype)))
        count = len(outputs)
        repeated = self.targets.repeat(count, *[1] * (self.targets.ndim - 1))
        losses, right = self.objective.score(outputs.flatten(0, 1), repeated)
        return Scores(losses.view(count, -1), None if right is None else right.view(count, -1).sum(1))

    def in_order(self, tensor: Tensor) -> Tensor:
        """[F, n] from [n, F] and the reverse, where activations are stored features first."""
        return tensor.mT if self.by_features else tensor


def chain_of(objective: Objective, first: FirstLayer) -> Chain | None:
    """What follows the first moved layer, where that is a `Chain`."""
    if objective.precision != "full":
        return None
    inputs, _ = next(objective.batches(2))[1]
    return Chain.find(objective.model, first.layer, lambda: objective.forward(objective.model, inputs))


def _joined(hits: list[Tensor | None]) -> Tensor | None:
    """One tensor of all parts, None where the first is None, as the others are then."""
    known = [part for part in hits if part is not None]
    return torch.cat(known) if known else None
