"""Points as vectors: inner products, norms, and all parameters as one vector."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from landscape.checks import check_type
from landscape.points.point import Point
from landscape.points.tensors import as_float64, as_real, is_no_step
from landscape.runtime import own_torch_state
from landscape.runtime.shards import in_shards_of, own_shard, summed, whole

__all__ = ["aligned", "cosine", "cut", "flatten", "inner", "norm", "unflatten"]


@own_torch_state()
def inner(a: Point, b: Point) -> float:
    """Inner product Re sum_i conj(a_i) b_i, in float64; for tensors in shards, the sum over all shards."""
    for point in (a, b):
        check_type(point, dict, "inner(a, b)", "points, each a dict[str, Tensor]")
    total = 0.0
    for name, value in a.items():
        if is_no_step(value) or is_no_step(b[name]):
            continue
        pair = (own_shard(value), own_shard(in_shards_of(b[name], value)))
        first, second = (as_float64(part.detach()).flatten() for part in pair)
        if first.is_complex() or second.is_complex():
            product = torch.vdot(first.to(torch.complex128), second.to(torch.complex128)).real
        else:
            product = torch.dot(first, second)
        total += summed(product, value).item()
    return total


def norm(point: Point) -> float:
    """Euclidean norm of all parameters together, in float64."""
    return math.sqrt(inner(point, point))


def cosine(a: Point, b: Point) -> float:
    """Cosine of the angle between two directions; NaN if one of them is zero."""
    lengths = norm(a) * norm(b)
    return inner(a, b) / lengths if lengths else math.nan


@own_torch_state()
def flatten(point: Point) -> Tensor:
    """All parameters as one vector in float64 on the CPU; complex numbers become their real and imaginary parts."""
    return torch.cat([as_real(whole(value).cpu()).flatten() for value in point.values()])


def aligned(tensor: Tensor) -> Tensor:
    """``tensor``, copied if its storage offset is odd, at which torch cannot view pairs as complex numbers."""
    return tensor.clone() if tensor.storage_offset() % 2 else tensor


def cut(vector: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """``vector`` [D] split into pieces of ``sizes``, some of them copied, see `aligned`."""
    return [aligned(piece) for piece in vector.split(list(sizes))]


@own_torch_state()
def unflatten(vector: Tensor, like: Point) -> Point:
    """The inverse of `flatten`: ``vector`` [D] as a point with the names and shapes of ``like``."""
    pieces = cut(vector, [value.numel() * (1 + value.is_complex()) for value in like.values()])
    point = {}
    for (name, value), piece in zip(like.items(), pieces, strict=True):
        pairs = value.is_complex()
        point[name] = torch.view_as_complex(piece.reshape(*value.shape, 2)) if pairs else piece.reshape(value.shape)
    return point
