"""Evaluation of networks whose logits are affine in the coordinates: one matrix product, no pass per point."""

import functools
import itertools
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.evaluation.methods.chebyshev import ChebyshevNodes
from landscape.evaluation.methods.first_layer import FirstLayer, holders
from landscape.evaluation.methods.grid_losses import fill_tile, hits_on_grid, tiles_of
from landscape.evaluation.methods.protocol import Arrangement, Choices, NotApplicable, Scores
from landscape.evaluation.statistics import Sums
from landscape.objective.objectives import Objective
from landscape.objective.reads import Decisions
from landscape.objective.trees import map_tensors, tensors_of
from landscape.slices.planes import Slice

__all__ = ["Affine"]

LOAD = 8192  # samples whose logits are computed at once
CHUNK_VALUES = {"cpu": 2**19, "other": 2**25}  # losses in flight: a CPU's cache, or enough for an accelerator
HITS = 4096  # samples whose hits are counted at once: the cache
PILOT = 1024  # samples that show how many points the losses take
WORTHWHILE = 8  # times as many samples, from which on few points are tried
ROUNDING = 8  # units in the last place that the last Chebyshev coefficients may amount to


class Affine:
    """Cross-entropy over a grid where logits = L_0 + a L_1 + b L_2 for every sample.

    Losses and hits follow from the logits relative to the true class, see `grid_losses`.

    The mean and the variance of these losses are analytic: where few `ChebyshevNodes` determine them to
    rounding, `node_sets` offers these and `at_points` goes from them to all points.
    """

    name, is_plain, cheap = "affine", False, True

    def __init__(self, objective: Objective, slice_: Slice):
        if objective.loss != "cross_entropy" or not objective.has_accuracy:
            raise NotApplicable("the loss is not cross-entropy of one label a sample")
        if not objective.scores_outputs:
            raise NotApplicable("metrics are asked for, which take a forward pass at every point")
        if objective.overwrites:
            raise NotApplicable("the forward pass writes into its parameters")
        if objective.renews:
            raise NotApplicable("BatchNorm statistics or other buffers change from point to point")
        if slice_.dimension < len(slice_.directions):
            raise NotApplicable("the slice is a curve")
        if len(holders(objective.model, slice_.moved)) > 1:
            raise NotApplicable("more than one layer moves")
        self.objective, self.slice = objective, slice_
        objective.move_to(slice_.origin)
        _, batch = next(objective.batches(2))
        self.first = FirstLayer.find(objective.model, lambda: objective.losses(batch), slice_)
        self._prove_output(batch[0])
        self.batches_fixed = objective.batches_fixed
        self.arrangement = Arrangement(objective.batch_size if self.batches_fixed else LOAD)
        # A network before the layer takes memory for its activations, so that it runs on smaller batches.
        whole = self.batches_fixed or self.first.reads(tensors_of(batch)[0])
        self.forward_size = None if whole else objective.batch_size
        self.accuracy = ROUNDING * torch.finfo(objective.dtype).eps
        self.grid: tuple[np.ndarray, ...] = ()  # rows and columns that hold the prepared points
        self.picked: np.ndarray | slice = slice(None)  # of the points of the grid, the prepared ones
        self.nodes: ChebyshevNodes | None = None  # where `run` computes the losses, instead of at the prepared points
        self.logits: list[Tensor] = []  # L_0, L_1, L_2 [n, C] of the loaded batch, relative to the true class
        self._buffer: Tensor | None = None  # losses of one batch; fresh memory each time costs a third of the speed

    @property
    def settings(self) -> dict[str, Any]:
        points = {} if self.nodes is None else {"chebyshev_points": list(self.nodes.counts)}
        return {"batch_size": self.arrangement.batch_size, **points}

    @property
    def largest_block(self) -> int:
        return 2**17

    def arrange(self, arrangement: Arrangement) -> None:
        self.arrangement = arrangement

    def choices(self, coordinates: Tensor, plain: bool) -> Choices | None:
        return None

    def node_sets(self, coordinates: Tensor) -> Iterator[ChebyshevNodes]:
        if self.objective.size < WORTHWHILE * PILOT:
            return
        self.prepare(coordinates)
        _, batch = next(self.objective.batches(self.arrangement.batch_size if self.batches_fixed else PILOT))
        self.load(batch)
        nodes = ChebyshevNodes.smallest(self.grid, self._moments, self.accuracy)
        while nodes is not None and nodes.worthwhile:
            yield nodes
            nodes = nodes.finer()

    def at_points(self, sums: Sums) -> Sums | None:
        if self.nodes is None:
            return sums
        moments = sums.moments.numpy()
        if not self.nodes.resolves(moments, self.accuracy):
            return None
        mean, variance = (self.nodes.interpolate(values)[self.picked] for values in moments)
        return sums.at_other_points(np.stack([mean, variance.clip(0)]))

    def prepare(self, coordinates: Tensor, nodes: ChebyshevNodes | None = None, leader: "Affine | None" = None) -> None:
        """Lay ``coordinates`` [K, axes] out as the smallest grid of rows and columns that holds them."""
        array = coordinates.numpy()
        alphas, rows = np.unique(array[:, 0], return_inverse=True)
        columns = array[:, 1] if array.shape[1] == 2 else np.zeros(len(array))
        betas, columns = np.unique(columns, return_inverse=True)
        picked = rows * len(betas) + columns
        self.picked = slice(None) if np.array_equal(picked, np.arange(len(alphas) * len(betas))) else picked
        self.grid, self.nodes = (alphas, betas), nodes

    def load(self, batch: Any) -> None:
        """Compute L_0, L_1, L_2 [n, C] of the batch, relative to the true class."""
        _, targets = batch
        terms = self._terms(batch)
        self.logits = [term - term.gather(1, targets[:, None]) for term in terms]
        earlier = torch.arange(terms[0].shape[1], device=targets.device) < targets[:, None]
        self.logits[0] += earlier * torch.finfo(terms[0].dtype).tiny ** 0.4  # of equal logits argmax takes the first
        if len(self.logits) == 2:
            self.logits.append(torch.zeros_like(self.logits[0]))

    def _terms(self, batch: Any) -> list[Tensor]:
        """z_0, z_1, ... [n, C] of the batch, `forward_size` samples at a time."""
        count = len(batch[1])
        size = self.forward_size or count
        pieces = []
        for start in range(0, count, size):
            piece = map_tensors(operator.itemgetter(slice(start, start + size)), batch)
            self.first.load(functools.partial(self.objective.losses, piece))
            pieces.append(self.first.terms())
        return [torch.cat(parts) for parts in zip(*pieces, strict=True)]

    def run(self) -> Iterator[Scores]:
        """Losses [K, n] at the prepared points for piece after piece of the loaded batch; hits [K] with the first."""
        values = CHUNK_VALUES["cpu" if self.objective.device.type == "cpu" else "other"]
        axes = self.grid if self.nodes is None else self.nodes.axes
        size = (len(axes[0]), len(axes[1]))
        chunk = max(16, values // (size[0] * size[1]))
        if self._buffer is None or self._buffer.shape != (chunk, *size):
            self._buffer = self.logits[0].new_empty(chunk, *size)
        parts = zip(*(part.split(HITS) for part in self.logits), strict=True)
        counted: Any = sum(hits_on_grid(self.grid, *part) for part in parts)
        hits = counted.view(-1)[self.picked]
        picked = self.picked if self.nodes is None else slice(None)
        tiles = list(itertools.product(*map(tiles_of, axes, self.logits[1:])))
        for logits in zip(*(part.split(chunk) for part in self.logits), strict=True):
            losses = self._buffer[: len(logits[0])]
            for rows, columns in tiles:
                fill_tile(logits, (axes[0][rows], axes[1][columns]), losses[:, rows, columns])
            yield Scores(losses.view(len(losses), -1).T[picked], hits)
            hits = None

    def _moments(self, nodes: ChebyshevNodes) -> np.ndarray:
        """Mean and variance [2, points] of the loss over the loaded batch, at ``nodes``."""
        self.nodes = nodes
        sums = Sums()
        for scores in self.run():
            sums.add(scores.losses, None)
        return sums.on_host().moments.numpy()

    def twin(self) -> "Affine":
        return Affine(self.objective.twin(), self.slice)

    def _prove_output(self, inputs: Tensor) -> None:
        """The logits are affine in the coordinates only if they are the output of the one perturbed layer."""
        model, layer = self.objective.model, self.first.layer
        outputs: list[Tensor] = []
        handle = layer.register_forward_hook(lambda *arguments: outputs.append(arguments[2]))
        try:
            with Decisions() as decisions:
                logits = self.objective.forward(model, inputs)
        finally:
            handle.remove()
        if decisions.made:
            raise NotApplicable("the network decides by values what it computes")
        if logits is not outputs[0]:
            raise NotApplicable("the perturbed layer is not the last operation")
