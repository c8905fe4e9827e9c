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
SPREAD = 20.0  # largest exponent of either factor about the centre of a tile; exp(2 * 20 + HEADROOM) is finite
PILOT = 1024  # samples that show how many points the losses take
WORTHWHILE = 8  # times as many samples, from which on few points are tried
ROUNDING = 8  # units in the last place that the last Chebyshev coefficients may amount to
HEADROOM = 30.0  # largest logit at the centre of a tile that needs no shift: exp(30 + 40) < 3.4e38


class Affine:
    """Cross-entropy over a grid where logits = L_0 + a L_1 + b L_2 for every sample.

    With logits relative to the true class, loss = log sum_c exp(L_0 + a L_1)_c exp(b L_2)_c: exponentials along
    the axes only, and a matrix product over classes. Large grids are cut into tiles about whose centres the
    exponents stay below ``SPREAD``, so that nothing overflows and terms lost to underflow are below 1e-11.

    The mean and the variance of these losses are analytic: where few `ChebyshevNodes` determine them to
    rounding, `node_sets` offers these and `at_points` goes from them to all points.

    Accuracy: along a row every class c bounds the b for which the true class wins by -u_c / v_c, so the hits of a
    sample are one interval.
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

    def prepare(self, coordinates: Tensor, nodes: ChebyshevNodes | None = None) -> None:
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
        counted: Any = sum(self._hits(*part) for part in parts)
        hits = counted.view(-1)[self.picked]
        picked = self.picked if self.nodes is None else slice(None)
        tiles = list(itertools.product(*map(_tiles, axes, self.logits[1:])))
        for logits in zip(*(part.split(chunk) for part in self.logits), strict=True):
            losses = self._buffer[: len(logits[0])]
            for rows, columns in tiles:
                self._tile(logits, (axes[0][rows], axes[1][columns]), losses[:, rows, columns])
            yield Scores(losses.view(len(losses), -1).T[picked], hits)
            hits = None

    def _moments(self, nodes: ChebyshevNodes) -> np.ndarray:
        """Mean and variance [2, points] of the loss over the loaded batch, at ``nodes``."""
        self.nodes = nodes
        sums = Sums()
        for scores in self.run():
            sums.add(scores.losses, None)
        return sums.moments.numpy()

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

    @staticmethod
    def _tile(logits: tuple[Tensor, ...], axes: tuple[np.ndarray, ...], out: Tensor) -> None:
        l0, l1, l2 = logits
        alphas, betas = (l0.new_tensor(axis) for axis in axes)
        middle_a, middle_b = (0.5 * (axis[0] + axis[-1]) for axis in (alphas, betas))
        base = l0 + middle_a * l1 + middle_b * l2
        largest = base.amax(1, keepdim=True)
        shift = largest if float(largest.max()) > HEADROOM else None
        if shift is not None:
            base = base - shift
        # Coordinates first, so that the innermost loop of the broadcasts is long.
        left = torch.addcmul(base, l1, (alphas - middle_a)[:, None, None]).exp_()
        right = torch.mul(l2, (betas - middle_b)[:, None, None]).exp_()
        product = torch.bmm(left.transpose(0, 1), right.permute(1, 2, 0), out=out if out.is_contiguous() else None)
        torch.log(product, out=out)
        if shift is not None:
            out += shift[:, :, None]

    def _hits(self, l0: Tensor, l1: Tensor, l2: Tensor) -> Tensor:
        """Number of samples [A, B] whose true class has the largest logit."""
        # An affine map is largest at a corner, so most classes win nowhere and bound nothing.
        ends = itertools.product(*(axis[[0, -1]].tolist() for axis in self.grid))
        corners = torch.stack([l0.add(l1, alpha=a).add_(l2, alpha=b) for a, b in ends])
        lost = ~(corners.amin(0) <= 0).all(1)  # NaN, too
        bounding = (corners.amax(0) > 0) & ~lost[:, None]
        bounded = bounding.any(1)
        always = len(lost) - lost.sum() - bounded.sum()
        return always + self._interval_hits(bounding[bounded], l0[bounded], l1[bounded], l2[bounded])

    def _interval_hits(self, bounding: Tensor, *logits: Tensor) -> Tensor:
        """`_hits` of samples that the classes ``bounding`` [n, C] bound: along every row each wins an interval of b."""
        alphas, betas = (logits[0].new_tensor(axis) for axis in self.grid)
        sample, l0, l1, l2 = bounding.nonzero()[:, 0], *(part[bounding] for part in logits)
        smallest = torch.finfo(l2.dtype).tiny ** 0.5  # whose quotients stay finite
        slope = torch.where(l2.abs() < smallest, smallest, l2)
        bounds = torch.addcmul((-l0 / slope)[:, None], (-l1 / slope)[:, None], alphas)

        def closest(side: Tensor, farthest: float, how: str) -> Tensor:
            start = bounds.new_full((len(bounding), len(alphas)), farthest)
            return start.scatter_reduce_(0, sample[side, None].expand(-1, len(alphas)), bounds[side], how)

        begin = torch.searchsorted(betas, closest(slope < 0, -torch.inf, "amax"), right=False)
        end = torch.searchsorted(betas, closest(slope > 0, torch.inf, "amin"), right=True).maximum(begin)
        width = len(betas) + 1
        row = torch.arange(len(alphas), device=begin.device) * width
        edges = [(index + row).flatten().bincount(minlength=len(alphas) * width) for index in (begin, end)]
        return (edges[0] - edges[1]).view(-1, width)[:, :-1].cumsum(1)


def _tiles(axis: np.ndarray, slope: Tensor) -> list[slice]:
    """Cut ``axis`` into runs over which exponents stay within +-SPREAD of their value at the middle."""
    steepest = float(slope.abs().nan_to_num(0.0, 0.0).max())
    bounds = [0]
    for index, value in enumerate(axis):
        if (value - axis[bounds[-1]]) * steepest > 2 * SPREAD:
            bounds.append(index)
    return [slice(a, b) for a, b in itertools.pairwise([*bounds, len(axis)])]
