"""Cross-entropy and hits over a grid of coordinates (a, b) where logits = L_0 + a L_1 + b L_2 for every sample.

With logits relative to the true class, loss = log sum_c exp(L_0 + a L_1)_c exp(b L_2)_c: exponentials along the axes
only, and a matrix product over classes. Large grids are cut into tiles about whose centres the exponents stay below
``SPREAD``, so that nothing overflows and terms lost to underflow are below 1e-11.

Along a row of the grid every class c bounds the b for which the true class wins by -u_c / v_c, so the hits of a sample
are one interval.
"""

import itertools

import numpy as np
import torch
from torch import Tensor

__all__ = ["fill_tile", "hits_on_grid", "tiles_of"]

SPREAD = 20.0  # largest exponent of either factor about the centre of a tile; exp(2 * 20 + HEADROOM) is finite
HEADROOM = 30.0  # largest logit at the centre of a tile that needs no shift: exp(30 + 40) < 3.4e38


def tiles_of(axis: np.ndarray, slope: Tensor) -> list[slice]:
    """Cut ``axis`` into runs over which exponents stay within +-SPREAD of their value at the middle."""
    steepest = float(slope.abs().nan_to_num(0.0, 0.0).max())
    bounds = [0]
    for index, value in enumerate(axis):
        if (value - axis[bounds[-1]]) * steepest > 2 * SPREAD:
            bounds.append(index)
    return [slice(a, b) for a, b in itertools.pairwise([*bounds, len(axis)])]


def fill_tile(logits: tuple[Tensor, ...], axes: tuple[np.ndarray, ...], out: Tensor) -> None:
    """Write the losses [n, A, B] of ``logits`` at the points of one tile, with these ``axes``, into ``out``."""
    l0, l1, l2 = logits
    alphas, betas = (l0.new_tensor(axis) for axis in axes)
    middle_a, middle_b = (0.5 * (axis[0] + axis[-1]) for axis in (alphas, betas))
    base = l0 + middle_a * l1 + middle_b * l2
    largest = base.amax(1, keepdim=True)
    shift = largest if float(largest.max()) > HEADROOM else None
    if shift is not None:
        base = base - shift
    # Coordinates first, so that the innermost loop of the broadcasts is long.
    along_a = torch.addcmul(base, l1, (alphas - middle_a)[:, None, None]).exp_()
    along_b = torch.mul(l2, (betas - middle_b)[:, None, None]).exp_()
    product = torch.bmm(along_a.transpose(0, 1), along_b.permute(1, 2, 0), out=out if out.is_contiguous() else None)
    torch.log(product, out=out)
    if shift is not None:
        out += shift[:, :, None]


def hits_on_grid(grid: tuple[np.ndarray, ...], l0: Tensor, l1: Tensor, l2: Tensor) -> Tensor:
    """Number of samples [A, B] whose true class has the largest logit."""
    # An affine map is largest at a corner, so most classes win nowhere and bound nothing.
    ends = itertools.product(*(axis[[0, -1]].tolist() for axis in grid))
    corners = torch.stack([l0.add(l1, alpha=a).add_(l2, alpha=b) for a, b in ends])
    never = ~(corners.amin(0) <= 0).all(1)  # NaN, too
    bounding = (corners.amax(0) > 0) & ~never[:, None]
    bounded = bounding.any(1)
    always = len(never) - never.sum() - bounded.sum()
    return always + _interval_hits(grid, bounding[bounded], l0[bounded], l1[bounded], l2[bounded])


def _interval_hits(grid: tuple[np.ndarray, ...], bounding: Tensor, *logits: Tensor) -> Tensor:
    """`hits_on_grid` of samples that the classes ``bounding`` [n, C] bound: along a row each wins an interval of b."""
    alphas, betas = (logits[0].new_tensor(axis) for axis in grid)
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
