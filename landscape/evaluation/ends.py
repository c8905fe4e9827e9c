"""The networks that a slice goes through give their own losses on it: tried on a few samples before the work."""

from typing import Any

import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.evaluation.proof import agree, rounded_otherwise
from landscape.objective.objectives import Objective
from landscape.points import as_float64, named_parameters
from landscape.slices.planes import Slice

__all__ = ["check_networks"]

MOVED = 1e-4  # share of its norm by which a parameter differs from that of a network that has been trained on since


@torch.no_grad()
def check_networks(objective: Objective, slice_: Slice) -> list[dict[str, Any]]:
    """Compare the losses at every network of ``slice_`` with those of the network itself, run as it is.

    Both under the BatchNorm policy of ``objective``, which is settled for the slice, on the samples of
    `Batches.few`. Networks that have been changed since the slice was made are left out.

    Returns:
        For every network its coordinates and both mean losses, for the metadata.

    Raises:
        InputError: they differ: what the networks differ in is neither a parameter nor a buffer.
    """
    held, checks = slice_.held, []
    if held is None:
        return []
    for number, place in enumerate(held.places):
        model, point = held.own(number), slice_(*place)
        if model is None or any(_moved(value, point[name]) for name, value in named_parameters(model)):
            continue
        few = objective.on_few_samples()
        own, parameters = few.of_network(model), dict[str, Tensor](named_parameters(model))
        found, expected = few.on(slice_, *place).double(), own(parameters).double()
        means = [float(losses.mean()) for losses in (found, expected)]
        exact = all(value.dtype == torch.float64 for value in point.values())  # others were rounded
        rounding = (own(rounded_otherwise(parameters)).double() - expected).abs()
        if not agree(found, expected, rounding, objective.dtype if exact else torch.float32):
            raise InputError(
                f"the network at {place} of this slice gives a loss of {means[1]:.6g} on {len(found)} samples, but the "
                f"objective's network gives {means[0]:.6g} with its parameters and buffers: they are of different "
                "architectures or settings; make the objective from one of the networks of the slice"
            )
        checks.append({"coordinates": list(place), "loss": means[0], "model_loss": means[1]})
    return checks


def _moved(value: torch.Tensor, expected: torch.Tensor) -> bool:
    exact = as_float64(expected)
    difference = as_float64(value.detach().to(expected)) - exact
    return not float(difference.norm()) <= MOVED * float(exact.norm())
