"""What the numbers of a surface depend on."""

import numpy as np

from landscape.objective import Objective
from landscape.slices import Slice

__all__ = ["difference", "identity_of"]


def identity_of(objective: Objective, slice_: Slice, axes: tuple[np.ndarray, ...], per_sample: bool) -> dict:
    """All that the numbers depend on; two evaluations that share it agree, whatever method and batch size."""
    return {
        "slice": slice_.fingerprint,
        "data": objective.samples.description["fingerprint"],
        "objective": objective.description,
        "axes": [[len(axis), float(axis[0]), float(axis[-1])] for axis in axes],
        "per-sample": per_sample,
        "first losses": objective.first_losses,
    }


def difference(found: dict, wanted: dict) -> str | None:
    """The first entry in which two identities differ, in words; None where they are the same."""
    for key, value in wanted.items():
        if key == "first losses" and _close(found.get(key), value):
            continue
        if found.get(key) != value:
            return f"its {key} is {found.get(key)}, not {value}"
    return None


def _close(found: list | None, wanted: list) -> bool:
    """Equal up to the rounding of another machine: they tell networks of the same weights and other code apart."""
    return (
        found is not None
        and len(found) == len(wanted)
        and bool(np.allclose(found, wanted, rtol=1e-2, atol=1e-3, equal_nan=True))
    )
