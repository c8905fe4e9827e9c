"""The outputs of the first moved layer at the points of a block, from which the rest of a network goes on."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.evaluation.methods.first_layer import FirstLayer, Unsummed

__all__ = ["FirstOutputs"]


class FirstOutputs:
    """z_0 + sum_i c_i z_i at point after point; at few points, where that is less work, the layer itself computes them.

    ``features_first`` stores them [features, samples]; ``unsummed`` leaves the last addition to the pass.
    """

    def __init__(self, first: FirstLayer, features_first: bool = False, unsummed: bool = False):
        self.first, self.features_first, self.unsummed = first, features_first, unsummed
        self.coordinates: list[list[float]] = []
        self.term_weights = torch.empty(0)  # [K, 1 + directions]
        self.terms: list[Tensor] = []  # z_0, z_1, ... of the loaded batch
        self.combines = True
        self._row_of: list[float] | None = None  # the coordinates that ``_row`` is the sum for
        self._row = self._total = self._side_by_side = self._combined = torch.empty(0)

    @property
    def replacements(self) -> dict[nn.Module, Callable[..., Any]]:
        """Forwards with which a pass begins after the layer."""
        return self.first.replacements()

    def prepare(self, weights: Tensor) -> None:
        """Get ready for points with the ``weights`` [K, directions] (float64) of the directions."""
        self.coordinates = weights.tolist()
        self.term_weights = F.pad(weights, (1, 0), value=1.0).to(self.first.corners[0])
        # At fewer points than terms the layer takes fewer products. A compiled pass has one form for all points.
        self.combines = self.unsummed or len(weights) > weights.shape[1]
        if not self.combines:
            self.first.prepare(weights)

    def load(self, forward: Callable[[], Any]) -> None:
        """Record the input of the layer in the pass that ``forward`` runs."""
        self.first.load(forward)
        self.terms = self.first.terms() if self.combines else []
        if self.features_first:
            self.terms = [term.mT.contiguous() for term in self.terms]

    def give(self, index: int) -> None:
        """Let the next pass begin with the output at the point ``index``."""
        if not self.combines:
            self.first.give(self.first.at(index))
            return
        base, final = self._row_at(index), self.terms[-1]
        if self.unsummed:
            self.first.give(Unsummed(base, final, self.term_weights[index, -1]))
            return
        output = torch.add(base, final, alpha=self.coordinates[index][-1], out=self._total)
        self.first.give(output.mT if self.features_first else output)

    def at(self, start: int, count: int) -> Tensor:
        """The outputs [count, ...] at the points from ``start`` on, in the order of memory that is asked for."""
        if not self.combines:
            outputs = torch.stack([self.first.at(index) for index in range(start, start + count)])
            return outputs.mT if self.features_first else outputs
        if start == 0:
            self._side_by_side = torch.stack(self.terms).flatten(1)
            self._combined = self._side_by_side.new_empty(count, self._side_by_side.shape[1])
        weights = self.term_weights[start : start + count]
        combined = torch.mm(weights, self._side_by_side, out=self._combined[:count])
        return combined.view(count, *self.terms[0].shape)

    def _row_at(self, index: int) -> Tensor:
        """The sum at the point ``index`` over all but the last axis, which is kept along a row."""
        *row, _ = self.coordinates[index]
        total, *others, final = self.terms
        if index == 0:
            self._row_of = None
            self._total, self._row = torch.empty_like(final), torch.empty_like(final)
        if row == self._row_of:
            return self._row
        # Points by themselves are summed up in one place, which stays in the cache.
        shared = index + 1 < len(self.coordinates) and row == self.coordinates[index + 1][:-1]
        self._row_of = row if shared and others else None
        for coordinate, term in zip(row, others, strict=True):
            total = torch.add(total, term, alpha=coordinate, out=self._row if shared else self._total)
        return total
