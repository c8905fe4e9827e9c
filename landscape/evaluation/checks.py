"""What a surface is compared with before it is returned: the networks that its slice goes through, and the origin."""

import itertools
import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.evaluation.ledger import Ledger
from landscape.evaluation.proof import HUGE, agree, allowed_difference, rounded_otherwise
from landscape.objective.objectives import Objective
from landscape.points import Point, as_float64, named_parameters
from landscape.runtime import ranks
from landscape.slices.planes import Slice

__all__ = ["check_networks", "check_origin"]

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
    if held is None or objective.network.in_place:  # of which there is no copy that could be another network
        return []
    for number, place in enumerate(held.places):
        model, point = held.own(number), slice_(*place)
        if model is None or any(_moved(value, point[name]) for name, value in named_parameters(model)):
            continue
        few = objective.on_few_samples()
        own, parameters = few.of_network(model), dict[str, Tensor](named_parameters(model))
        losses, expected = few.on(slice_, *place).double(), own(parameters).double()
        means = [float(values.mean()) for values in (losses, expected)]
        exact = all(value.dtype == torch.float64 for value in point.values())  # others were rounded
        rounding = (own(rounded_otherwise(parameters)).double() - expected).abs()
        if not agree(losses, expected, rounding, objective.dtype if exact else torch.float32):
            raise InputError(
                f"the network at {place} of this slice gives a loss of {means[1]:.6g} on {len(losses)} samples, but "
                f"the objective's network gives {means[0]:.6g} with its parameters and buffers: they are of different "
                "architectures or settings; make the objective from one of the networks of the slice"
            )
        checks.append({"coordinates": list(place), "loss": means[0], "model_loss": means[1]})
    return checks


def _moved(value: torch.Tensor, expected: torch.Tensor) -> bool:
    exact = as_float64(expected)
    difference = as_float64(value.detach().to(expected)) - exact
    return not float(difference.norm()) <= MOVED * float(exact.norm())


def check_origin(objective: Objective, slice_: Slice, ledger: Ledger, method: str) -> dict[str, Any] | None:
    """Compare the value at the origin with the model's own loss on all samples; both, for the metadata.

    None where the grid does not contain the origin.

    Raises:
        RuntimeError: they differ by more than rounding.
    """
    if not len(ledger.centre):
        return None
    loss, expected = float(ledger.statistics.mean[ledger.centre[0]]), _model_loss(objective, slice_.origin)
    if objective.precision == "full" and not _agrees_at_origin(objective, slice_, ledger, loss, expected):
        raise RuntimeError(f"{method}: loss {loss} at the origin, but the model's own loss is {expected}")
    if not math.isfinite(loss):
        warnings.warn(f"THE LOSS AT THE ORIGIN IS NOT FINITE ({loss}): is the model trained?", stacklevel=4)
    return {"loss": loss, "model_loss": expected}


def _agrees_at_origin(objective: Objective, slice_: Slice, ledger: Ledger, loss: float, expected: float) -> bool:
    """Whether both differ by rounding, which is measured on all samples where the usual amount is not enough."""
    if not (math.isfinite(loss) and math.isfinite(expected)):
        return all(not math.isfinite(value) or abs(value) > HUGE for value in (loss, expected))
    changes = np.abs(ledger.statistics.mean[ledger.statistics.done.numpy()] - expected)
    moved = float(np.median(changes[np.isfinite(changes)]))
    if abs(loss - expected) <= allowed_difference(objective.dtype, moved, abs(expected), 0.0):
        return True
    rounding = abs(_model_loss(objective, rounded_otherwise(slice_.origin)) - expected)
    return abs(loss - expected) <= allowed_difference(objective.dtype, moved, abs(expected), rounding)


def _model_loss(objective: Objective, point: Point) -> float:
    """The mean loss at ``point`` by plain forward passes; every rank takes its share of the batches."""
    plain = objective.in_full_precision()
    with plain.arithmetic():
        plain.move_to(point)
        mine = itertools.islice(plain.batches(), ranks.rank(), None, ranks.count())
        total = sum(float(plain.losses(batch).double().sum()) for _, batch in mine)
    return float(sum(ranks.gathered(total)) / plain.size)
