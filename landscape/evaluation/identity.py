"""What the numbers of a surface depend on."""

from typing import Any

import numpy as np

from landscape.objective.identity import objective_identity
from landscape.objective.objectives import Objective
from landscape.slices.planes import Slice

__all__ = ["identity_of"]


def identity_of(objective: Objective, slice_: Slice, axes: tuple[np.ndarray, ...], per_sample: bool) -> dict[str, Any]:
    """All that the numbers depend on; two evaluations that share it agree, whatever method and batch size."""
    return {
        "slice": slice_.fingerprint,
        "data": objective.samples.description["fingerprint"],
        "axes": [[len(axis), float(axis[0]), float(axis[-1])] for axis in axes],
        "per-sample": per_sample,
        **objective_identity(objective),
    }
