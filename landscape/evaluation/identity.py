"""What the numbers of a surface depend on, and whether all ranks are about to compute the same ones."""

import math
from typing import Any

import numpy as np
import torch

from landscape.objective.identity import objective_identity
from landscape.objective.objectives import Objective
from landscape.points import Point, as_float64
from landscape.runtime import ranks
from landscape.slices.planes import Slice

__all__ = ["check_ranks", "identity_of"]

CLOSE = 1e-4  # difference that the arithmetic of another machine may make to a slice
OWN = ("slice", "first losses")  # parts of an identity that rounding may change


def identity_of(objective: Objective, slice_: Slice, axes: tuple[np.ndarray, ...], per_sample: bool) -> dict[str, Any]:
    """All that the numbers depend on; two evaluations that share it agree, whatever method and batch size."""
    return {
        "slice": slice_.fingerprint,
        "data": objective.samples.description["fingerprint"],
        "axes": [[len(axis), float(axis[0]), float(axis[-1])] for axis in axes],
        "per-sample": per_sample,
        **objective_identity(objective),
    }


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
