"""Lengths and angles of the directions of slices, and what half precision takes of their steps."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from landscape.points import as_float64, cosine, norm, precise
from landscape.runtime import own_torch_state
from landscape.runtime.shards import own_shard, summed
from landscape.slices.drawn import CHUNK

if TYPE_CHECKING:
    from landscape.slices.planes import Slice

__all__ = ["geometry_of"]


@own_torch_state()
def geometry_of(slice_: "Slice") -> dict[str, Any]:
    """Lengths of origin and directions, |direction| / |origin|, and the cosine between two directions.

    For parameters in half precision also what rounding to it takes of a step of length one; None for others.
    """
    if slice_.draws:
        origin, lengths, between = _drawn_geometry(slice_)
    else:
        origin, lengths = norm(slice_.origin), [norm(direction) for direction in slice_.directions]
        between = cosine(*slice_.directions) if len(slice_.directions) == 2 else math.nan
    is_rounded = any(precise(value) is not value for value in slice_.origin.values())
    units = torch.eye(len(lengths)).tolist()
    return {
        "origin_norm": origin,
        "direction_norms": lengths,
        "relative_norms": [length / origin if origin else None for length in lengths],
        "cosine": between if len(lengths) == 2 else None,
        "rounding": [_rounding(slice_, unit) for unit in units] if is_rounded else None,
    }


def _drawn_geometry(slice_: "Slice") -> tuple[float, list[float], float]:
    """Norm of the origin, norms of the directions and their cosine, from one draw."""
    count = len(slice_.directions)
    products, size = torch.zeros(count, count, dtype=torch.float64), 0.0
    for value in slice_.origin.values():
        size += sum(float(as_float64(piece).square().sum()) for piece in value.reshape(-1).split(CHUNK))
    for name in slice_.moved:
        for rows in slice_.rows(name):
            steps = as_float64(torch.stack(rows.steps))
            products += steps @ steps.T
    lengths = products.diagonal().sqrt().tolist()
    between = float(products[0, -1]) / (lengths[0] * lengths[-1]) if all(lengths) else math.nan
    return math.sqrt(size), lengths, between


@torch.no_grad()
def _rounding(slice_: "Slice", weights: Sequence[float]) -> float | None:
    """The share of the step sum_i ``weights``_i directions[i] that the precision of the parameters takes.

    That is |rounded(origin + step) - origin - step| / |step|; None for a step of length 0.
    """
    lost = length = 0.0
    for name in slice_.moved:
        origin = slice_.origin[name].detach()
        value, squares = own_shard(origin).reshape(-1), torch.zeros(2, dtype=torch.float64)
        for rows in slice_.rows(name):
            part = value[rows.start : rows.stop].cpu()
            steps = torch.stack([step.cpu() for step in rows.steps], dim=-1)
            step = steps @ torch.tensor(weights).to(steps)
            moved = precise(part) + step
            lost_here = as_float64(moved.to(part).to(moved) - moved)
            squares += torch.stack([part.abs().square().sum() for part in (lost_here, as_float64(step))])
        sums = summed(squares, origin).tolist()
        lost, length = lost + sums[0], length + sums[1]
    return math.sqrt(lost / length) if length else None
