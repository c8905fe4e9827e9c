"""The share of the steps of a grid that is lost by rounding to half precision, if the parameters are in it."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.objective.network import Network
from landscape.slices.lengths import rounding_of
from landscape.slices.planes import Slice

__all__ = ["rounding_of_steps"]

BELOW = 0.5  # share of a step: where rounding takes more, the step is shorter than the distance of two numbers


def rounding_of_steps(network: Network, slice_: Slice, axes: Sequence[np.ndarray]) -> list[dict[str, Any]] | None:
    """The effect of rounding on one step of the grid along every axis, from the origin; None if nothing is rounded.

    Each entry has the ``step``, its share that is ``lost`` (|rounded(origin + step) - origin - step| / |step|), and the
    share of the moved numbers that are ``unchanged``.

    Warns:
        UserWarning: a step is below rounding.
    """
    if not network.rounds:
        return None
    steps = [float(axis[1] - axis[0]) for axis in axes]
    ends = [[step if k == number else 0.0 for k in range(len(steps))] for number, step in enumerate(steps)]
    roundings = rounding_of(slice_, [slice_.weights_at(*end) for end in ends])
    if roundings is None:
        return None
    entries = [
        {"step": step, "lost": one.lost, "unchanged": one.unchanged}
        for step, one in zip(steps, roundings, strict=True)
        if one is not None
    ]
    if worst := max((one for one in entries if one["lost"] > BELOW), key=lambda one: one["lost"], default=None):
        warnings.warn(
            f"A STEP OF THE GRID, {worst['step']:.2g}, IS BELOW ROUNDING to {network.dtype_text}, which takes "
            f"{worst['lost']:.0%} of its length and leaves {worst['unchanged']:.0%} of the parameters as they are; "
            "take a wider range or fewer points, or compute in torch.float32",
            stacklevel=4,
        )
    return entries
