"""Lengths and angles of the directions of slices, and the share of their steps that is lost by rounding."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from landscape.points import as_float64, cosine, is_half, norm, precise
from landscape.runtime import own_torch_state
from landscape.runtime.shards import own_shard, summed
from landscape.slices.drawn import CHUNK

if TYPE_CHECKING:
    from landscape.slices.planes import Slice

__all__ = ["Rounding", "geometry_of", "rounding_of"]


@dataclass(frozen=True)
class Rounding:
    """How much of a step of the parameters is lost by rounding to half precision."""

    lost: float  # |rounded(origin + step) - origin - step| / |step|
    unchanged: float  # share of the entries with a nonzero step that stay as they are


@own_torch_state()
@torch.no_grad()
def geometry_of(slice_: "Slice") -> dict[str, Any]:
    """Lengths of origin and directions, |direction| / |origin|, and the cosine between two directions.

    For parameters in half precision, "rounding" is the share of each direction that is lost by rounding; else None.
    """
    if slice_.draws:
        origin, lengths, between = _drawn_geometry(slice_)
    else:
        origin, lengths = norm(slice_.origin), [norm(direction) for direction in slice_.directions]
        between = cosine(*slice_.directions) if len(slice_.directions) == 2 else math.nan
    rounding = rounding_of(slice_, torch.eye(len(lengths)).tolist())
    return {
        "origin_norm": origin,
        "direction_norms": lengths,
        "relative_norms": [length / origin if origin else None for length in lengths],
        "cosine": between if len(lengths) == 2 else None,
        "rounding": None if rounding is None else [unit and unit.lost for unit in rounding],
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


@own_torch_state()
@torch.no_grad()
def rounding_of(slice_: "Slice", weights: Sequence[Sequence[float]]) -> list[Rounding | None] | None:
    """The loss by rounding of the steps sum_i w_i directions[i] from the origin, for every w of ``weights``.

    An entry is None for a step of length 0. The result is None if no parameter is in half precision.
    """
    if not any(is_half(value) for value in slice_.origin.values()):
        return None
    sums = torch.zeros(len(weights), 4, dtype=torch.float64)
    for name in slice_.moved:
        origin = slice_.origin[name].detach()
        value, here = own_shard(origin).reshape(-1), torch.zeros_like(sums)
        for rows in slice_.rows(name):
            part, steps = value[rows.start : rows.stop].cpu(), [step.cpu() for step in rows.steps]
            for number, factors in enumerate(weights):
                step = sum((factor * step for factor, step in zip(factors, steps, strict=True)), precise(part) * 0)
                here[number] += _rounded(part, step)
        sums += summed(here, origin)
    return [Rounding(math.sqrt(lost / size), same / some) if size else None for lost, size, same, some in sums.tolist()]


def _rounded(part: Tensor, step: Tensor) -> Tensor:
    """The terms [4] of `Rounding` for one part of a parameter.

    They are |rounded(part + step) - part - step|^2, |step|^2, and two numbers of entries with a nonzero step: that of
    the entries that stay as they are, and that of all.
    """
    moved = precise(part) + step
    rounded, moves = moved.to(part), step != 0
    squares = [as_float64(values).abs().square().sum() for values in (rounded.to(moved) - moved, step)]
    return torch.stack([*squares, (moves & (rounded == part)).sum().double(), moves.sum().double()])
