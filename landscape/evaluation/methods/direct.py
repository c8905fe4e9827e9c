"""Evaluation by forward passes at every point, of the whole network or of what follows its first moved layer."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap

from landscape.evaluation.methods import features_first
from landscape.evaluation.methods.chain import Chain
from landscape.evaluation.methods.first_layer import FirstLayer, NotApplicable, perturbed_names
from landscape.evaluation.methods.pooling import fast_pools
from landscape.objective.forwards import replaced_forwards
from landscape.objective.objectives import Objective
from landscape.objective.trees import map_tensors, tensors_of
from landscape.points import Point
from landscape.slices.planes import Slice

__all__ = ["Direct"]

SCORED_VALUES = 2**18  # outputs whose losses are computed in one call
STACK_BYTES = 64 * 2**20  # weights of the points of one block, side by side


class Direct:
    """Losses of K points on one batch after the other: batches outside, points inside, weights precomputed.

    With ``prefix`` the part of the network before the first perturbed layer is computed once a batch. The layer's
    output at a point is the affine combination of `FirstLayer`, or at few points computed anew.
    """

    def __init__(self, objective: Objective, slice_: Slice, *, prefix: bool):
        self.name = "prefix" if prefix else "direct"
        self.objective, self.slice = objective, slice_
        objective.move_to(slice_.origin)
        if prefix and objective.overwrites:
            raise NotApplicable("the forward pass writes into its parameters")
        if prefix and objective.renews:
            raise NotApplicable("BatchNorm statistics or other buffers change from point to point")
        _, batch = next(objective.batches(2))
        self.first = self._first_layer(batch) if prefix else None
        parting = self.first.terms()[0] if self.first else tensors_of(batch)[0]  # where the points part
        self.flat = parting.ndim == 2  # [n, F]
        self.width = parting.numel() // len(tensors_of(batch)[0])  # values a sample
        self._flatten()
        self._losses: Tensor | None = None
        self.arrange(objective.batch_size)

    def arrange(self, batch_size: int, layout: str = "default", together: int = 1) -> None:
        """Set samples a batch, memory ``layout`` and points an operation; none of them changes a value."""
        self.batch_size, self.layout, self.together = batch_size, layout, together
        self.replacements = fast_pools(self.objective.model)
        self.chain = self._chain() if layout == "features_first" and together > 1 else None
        if layout == "features_first":
            self.replacements |= features_first.linears(self.objective.model)
        if self.first:
            self.replacements |= self.first.replacements()

    @property
    def settings(self) -> dict[str, Any]:
        """What was chosen by timing; recorded with the result."""
        return {"batch_size": self.batch_size, "layout": self.layout, "together": self.together}

    @property
    def is_plain(self) -> bool:
        """Whether points and activations are as in a plain forward pass: one at a time, in the usual order."""
        return self.layout == "default" and self.together == 1

    @property
    def layouts(self) -> tuple[str, ...]:
        """The memory layouts that may pay for this network."""
        if any(isinstance(module, nn.Conv2d) for module in self.objective.model.modules()):
            return ("default", "channels_last")
        return ("default", "features_first") if self._classifies_features() else ("default",)

    @property
    def batches_fixed(self) -> bool:
        """Whether the batches are part of the objective."""
        return self.objective.batches_fixed

    @property
    def largest_block(self) -> int:
        """How many points fit into one block."""
        if self.objective.renews:
            return 1
        return max(1, min(4096, STACK_BYTES // max(1, self.origin.numel() * self.origin.element_size())))

    def prepare(self, coordinates: Tensor) -> None:
        """Compute the parameters at ``coordinates`` [K, axes] (float64)."""
        weights = self.slice.weights(coordinates)
        self.coordinates = weights.tolist()
        self.term_weights = F.pad(weights, (1, 0), value=1.0).to(self.origin)
        # At fewer points than terms the layer takes fewer products itself.
        self.combines = len(weights) > weights.shape[1]
        if self.first and not self.combines:
            self.first.prepare(weights)
        self.stack = torch.addmm(self.origin, weights.to(self.origin), self.directions)
        if self.objective.renews:
            self._move(0)
            self.objective.renew_statistics(self.coordinates[0])

    def load(self, batch: Any) -> None:
        """Take the next batch, in the chosen memory layout, and compute what all points share."""
        if self.layout == "channels_last":
            batch = map_tensors(_channels_last, batch)
        self.batch = batch
        if self.first:
            self.first.load(lambda: self.objective.losses(batch))
            self.terms = self.first.terms() if self.combines else []
        if self.layout == "features_first":
            self.terms = [term.mT.contiguous() for term in self.terms]
            self.scorer = features_first.Scorer(batch[1])

    def run(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Once, losses [K, n] of the loaded batch at the prepared points, and the number of hits [K] (or None)."""
        yield self._run_together() if self.together > 1 else self._run_one_by_one()

    def can_run_together(self, coordinates: Tensor) -> bool:
        """Whether the forward pass can be vectorised over points (torch.func.vmap accepts it), tried at two."""
        objective = self.objective
        if callable(objective.loss) or not objective.passes.are_pure or objective.renews:
            return False
        self.prepare(coordinates)
        before, self.together = self.together, 2
        try:
            self._run_together()
        except Exception:
            return False
        finally:
            self.together = before
        return True

    def _run_one_by_one(self) -> tuple[Tensor, Tensor | None]:
        if callable(self.objective.loss):
            return torch.stack([self.objective.measure(self.batch).losses for _ in self._visit()]), None
        inputs, targets = self.batch
        losses: list[Tensor] = []
        hits: list[Tensor | None] = []
        scored: Tensor | None = None
        for index in self._visit():
            outputs = self._in_order(self.objective.forward(self.objective.model, inputs))
            if scored is None:
                group = max(1, min(len(self.coordinates), SCORED_VALUES // outputs.numel()))
                scored = outputs.new_empty(group, *outputs.shape)
            scored[index % group] = outputs  # a copy: the next point may use the memory of these again
            if index % group == group - 1 or index == len(self.coordinates) - 1:
                values, right = self._score(scored[: index % group + 1], targets)
                losses.append(values)
                hits.append(right)
        return torch.cat(losses), _joined(hits)

    def _visit(self) -> Iterator[int]:
        """Put the network at point after point; yields the index of the point."""
        with replaced_forwards(self.replacements):
            for index in range(len(self.coordinates)):
                self._move(index)
                if self.first:
                    self.first.give(self._in_order(self._combine(index)) if self.combines else self.first.at(index))
                yield index

    def _move(self, index: int) -> None:
        pieces = self._pieces(self.stack[index])
        if self.objective.overwrites:
            self.objective.network.place({**self.slice.origin, **pieces})
            return
        for name, value in pieces.items():
            self.moved[name].data = value

    @contextlib.contextmanager
    def _replaced(self, weights: dict[str, Tensor]) -> Iterator[None]:
        """Put ``weights`` wherever a module holds the parameters of these names, and put those back."""
        try:
            for parameters, key, name in self.places:
                parameters[key] = weights[name]
            yield
        finally:
            for parameters, key, name in self.places:
                parameters[key] = self.moved[name]

    def _score(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Losses [K, n] and number of hits [K] of ``outputs`` [K, n, ...] ([K, C, n] features first), in one call."""
        if self.layout == "features_first":
            return self.scorer(outputs.to(self.objective.dtype))
        count = len(outputs)
        repeated = targets.repeat(count, *[1] * (targets.ndim - 1))
        losses, right = self.objective.score(outputs.flatten(0, 1), repeated)
        return losses.view(count, -1), None if right is None else right.view(count, -1).sum(1)

    def _first_layer(self, batch: Any) -> FirstLayer:
        forward = lambda: self.objective.losses(batch)  # noqa: E731
        return FirstLayer.find(self.objective.model, forward, self.slice.origin, self.slice.directions)

    def _classifies_features(self) -> bool:
        """Whether the points part in a linear layer [n, F] of a classifier, as `features_first` needs."""
        objective = self.objective
        if not self.first or not isinstance(self.first.layer, nn.Linear) or objective.loss != "cross_entropy":
            return False
        return objective.has_accuracy and self.flat

    def _chain(self) -> Chain | None:
        """What follows the first moved layer, where that is a `Chain`."""
        if self.objective.precision != "full" or self.first is None:
            return None
        inputs, _ = next(self.objective.batches(2))[1]
        return Chain.find(self.objective.model, self.first.layer, lambda: self.objective.model(inputs))

    def _flatten(self) -> None:
        """Lay the moved parameters out as one vector, so that K points are one matrix product."""
        model = self.objective.model
        names = perturbed_names(self.slice.directions)
        if self.first:
            own = self.first.only_here(model)
            names = [name for name in names if name not in own]
        parameters = dict(model.named_parameters())
        self.moved = {name: parameters[name] for name in names}
        held = {id(parameter): name for name, parameter in self.moved.items()}
        self.places: list[tuple[dict[str, Any], str, str]] = [
            (module._parameters, key, held[id(parameter)])
            for module in model.modules()
            for key, parameter in module._parameters.items()
            if id(parameter) in held
        ]
        # Every parameter starts at an even place, where torch can view pairs of numbers as complex ones.
        self.sizes = [(parameter.numel(), parameter.numel() % 2) for parameter in self.moved.values()]
        points = (self.slice.origin, *self.slice.directions)
        self.origin, *directions = (self._in_a_row(point) for point in points)
        self.directions = torch.stack(directions)

    def _in_a_row(self, point: Point) -> Tensor:
        """The moved parameters of ``point`` as one vector [P]."""
        row = torch.zeros(1, dtype=self.objective.dtype, device=self.objective.device)
        parts = [
            (point[name].flatten().to(row), row[:pad]) for name, (_, pad) in zip(self.moved, self.sizes, strict=True)
        ]
        return torch.cat([row[:0], *itertools.chain.from_iterable(parts)])

    def _pieces(self, stack: Tensor) -> dict[str, Tensor]:
        """Views of the moved parameters in ``stack`` [..., P]."""
        pieces = stack.split([*itertools.chain.from_iterable(self.sizes)], dim=-1)[::2]
        return {
            name: piece.view((*stack.shape[:-1], *parameter.shape))
            for (name, parameter), piece in zip(self.moved.items(), pieces, strict=True)
        }

    def _combine(self, index: int) -> Tensor:
        """z_0 + sum_i c_i z_i at the point ``index``; the sum over all but the last axis is kept along a row."""
        *row, last = self.coordinates[index]
        total, *others, final = self.terms
        if index == 0:
            self._row_of = None
            self._total, self._row = torch.empty_like(final), torch.empty_like(final)
        if row == self._row_of:
            total = self._row
        else:
            # Points by themselves are summed up in one place, which stays in the cache.
            shared = index + 1 < len(self.coordinates) and row == self.coordinates[index + 1][:-1]
            self._row_of = row if shared and others else None
            for coordinate, term in zip(row, others, strict=True):
                total = torch.add(total, term, alpha=coordinate, out=self._row if shared else self._total)
        return torch.add(total, final, alpha=last, out=self._total)

    def _run_together(self) -> tuple[Tensor, Tensor | None]:
        """As `_run_one_by_one`, with ``together`` points in every operation."""
        inputs, targets = self.batch
        losses: Tensor | None = None
        hits: list[Tensor | None] = []
        for start in range(0, len(self.coordinates), self.together):
            weights = self._pieces(self.stack[start : start + self.together])
            count = len(self.coordinates[start : start + self.together])
            hidden = self._combinations(start, count)
            forward = self.chain.run if self.chain else vmap(self._forward_with(inputs))
            outputs = forward(weights, hidden)
            values, right = self._score(outputs, targets)
            losses = self._room(values.shape[1]) if losses is None else losses
            losses[start : start + count] = values
            hits.append(right)
        return cast(Tensor, losses), _joined(hits)  # there is a point

    def _room(self, samples: int) -> Tensor:
        """Memory for the losses [K, samples], the same again and again: fresh memory costs more than to fill it."""
        shape = (len(self.coordinates), samples)
        if self._losses is None or self._losses.shape != shape:
            self._losses = torch.empty(shape, dtype=self.objective.dtype, device=self.objective.device)
        return self._losses

    def _forward_with(self, inputs: Tensor) -> Callable[..., Any]:
        def forward(weights: dict[str, Tensor], output: Tensor) -> Tensor:
            if self.first:
                self.first.give(self._in_order(output))
            with replaced_forwards(self.replacements), self._replaced(weights), self.objective.passes.autocast():
                return self._in_order(self.objective.model(inputs))

        return forward

    def _combinations(self, start: int, count: int) -> Tensor:
        """The first layer's output [count, *term] at ``count`` points; a placeholder [count] without prefix."""
        if not self.first:
            return self.stack.new_empty(count)
        if not self.combines:
            return torch.stack([self._in_order(self.first.at(index)) for index in range(start, start + count)])
        if start == 0:
            self._side_by_side = torch.stack(self.terms).flatten(1)
            self._combined = self._side_by_side.new_empty(count, self._side_by_side.shape[1])
        combined = torch.mm(self.term_weights[start : start + count], self._side_by_side, out=self._combined[:count])
        return combined.view(count, *self.terms[0].shape)

    def _in_order(self, tensor: Tensor) -> Tensor:
        """[F, n] from [n, F] and the reverse, where activations are stored features first."""
        return tensor.mT if self.layout == "features_first" else tensor


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _joined(hits: list[Tensor | None]) -> Tensor | None:
    """One tensor of all parts, None where the first is None, as the others are then."""
    known = [part for part in hits if part is not None]
    return torch.cat(known) if known else None
