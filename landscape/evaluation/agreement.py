"""Whether all ranks are about to evaluate the same: networks, directions, data, grid and settings."""

import math
from typing import Any

import torch

from landscape.points import Point, as_float64
from landscape.runtime import ranks
from landscape.slices.planes import Slice

__all__ = ["check_ranks"]

CLOSE = 1e-4  # difference that the arithmetic of another machine may make to a slice
OWN = ("slice", "first losses")  # parts of an identity that rounding may change


def check_ranks(identity: dict[str, Any], slice_: Slice, /, **settings: Any) -> None:
    """Compare the ``identity`` of an evaluation, and how well it is asked for, between all ranks.

    Raises:
        Disagreement: they differ; the rank and what it has otherwise are named.
    """
    if ranks.count() == 1:
        return
    ranks.check_agreement({name: value for name, value in identity.items() if name not in OWN} | settings)
    if len(set(ranks.gathered(slice_.fingerprint))) == 1:
        return
    first, *others = ranks.gathered([_signature(point) for point in (slice_.origin, *slice_.directions)])
    for number, other in enumerate(others, 1):
        for part, (ours, theirs) in enumerate(zip(first, other, strict=True)):
            if not all(
                math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE * ours[0]) for a, b in zip(ours, theirs, strict=True)
            ):
                what = f"direction {part} (another seed?)" if part else "network (another checkpoint?)"
                raise ranks.Disagreement(number, f"has another {what} than rank 0")


def _signature(point: Point) -> list[float]:
    """The norm of ``point``, and its inner products with fixed random signs."""
    generator = torch.Generator().manual_seed(0)
    sums = torch.zeros(4, dtype=torch.float64)
    for value in point.values():
        flat = as_float64(value.detach().cpu()).flatten()
        signs = 2 * torch.randint(0, 2, (3, len(flat)), generator=generator, dtype=torch.float64) - 1
        sums += torch.cat([flat.square().sum()[None], signs @ flat])
    return [math.sqrt(sums[0]), *sums[1:].tolist()]
