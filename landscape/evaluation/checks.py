"""Checks of a surface before it is returned, at the networks that its slice goes through and at the origin."""

import itertools
import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.evaluation.ledger import Ledger
from landscape.evaluation.methods.protocol import Evaluator
from landscape.evaluation.proof import HUGE, agree, allowed_difference, rounded_otherwise
from landscape.objective.objectives import Objective
from landscape.points import Point, as_float64, named_parameters
from landscape.runtime import ranks
from landscape.slices.planes import Slice

__all__ = ["check_networks", "check_origin"]

CHANGED = 1e-4  # relative change of a parameter from which on its network counts as trained further since


@torch.no_grad()
def check_networks(objective: Objective, slice_: Slice) -> list[dict[str, Any]]:
    """Compare the losses at every network on ``slice_`` with the losses of that network in its own forward pass.

    Both are computed on the samples of `Batches.few`, under the BatchNorm policy that ``objective`` uses on this slice.
    Networks that have changed since the slice was made are skipped.

    Returns:
        The coordinates and both mean losses of every network, for the metadata.

    Raises:
        InputError: The losses differ, because the networks differ in more than parameters and buffers.
    """
    networks, checks = slice_.held, []
    if networks is None or objective.network.in_place:  # in place there is no copy to compare with another network
        return []
    for number, place in enumerate(networks.places):
        model, point = networks.own(number), slice_(*place)
        if model is None or any(_is_changed(value, point[name]) for name, value in named_parameters(model)):
            continue
        few = objective.on_few_samples()
        of_model, parameters = few.of_network(model), dict[str, Tensor](named_parameters(model))
        losses, expected = few.on(slice_, *place).double(), of_model(parameters).double()
        means = [float(values.mean()) for values in (losses, expected)]
        exact = all(value.dtype == torch.float64 for value in point.values())  # values of other dtypes were rounded
        rounding = (of_model(rounded_otherwise(parameters)).double() - expected).abs()
        if not agree(losses, expected, rounding, objective.dtype if exact else torch.float32):
            raise InputError(
                f"the network at {place} of this slice gives a loss of {means[1]:.6g} on {len(losses)} samples, but "
                f"the objective's network gives {means[0]:.6g} with its parameters and buffers: they are of different "
                "architectures or settings; make the objective from one of the networks of the slice"
            )
        checks.append({"coordinates": list(place), "loss": means[0], "model_loss": means[1]})
    return checks


def _is_changed(value: torch.Tensor, expected: torch.Tensor) -> bool:
    exact = as_float64(expected)
    difference = as_float64(value.detach().to(expected)) - exact
    return not float(difference.norm()) <= CHANGED * float(exact.norm())


def check_origin(objective: Objective, slice_: Slice, ledger: Ledger, evaluator: Evaluator) -> dict[str, Any] | None:
    """Compare the loss at the origin with the model's own loss on all samples.

    Returns:
        Both losses, for the metadata; None if the grid does not contain the origin.

    Raises:
        RuntimeError: The losses differ by more than rounding.
    """
    if not len(ledger.centre):
        return None
    # In the same batches there is no rounding, to tell which from an error would take a copy of the weights.
    size = evaluator.arrangement.batch_size if objective.network.in_place else None
    loss, expected = float(ledger.statistics.mean[ledger.centre[0]]), _model_loss(objective, slice_.origin, size)
    if objective.precision == "full" and not _agrees_at_origin(objective, slice_, ledger, loss, expected):
        raise RuntimeError(f"{evaluator.name}: loss {loss} at the origin, but the model's own loss is {expected}")
    if not math.isfinite(loss):
        warnings.warn(f"THE LOSS AT THE ORIGIN IS NOT FINITE ({loss}): is the model trained?", stacklevel=5)
    return {"loss": loss, "model_loss": expected}


def _agrees_at_origin(objective: Objective, slice_: Slice, ledger: Ledger, loss: float, expected: float) -> bool:
    """Whether both losses differ by rounding only; if the usual allowance is exceeded, the rounding is measured."""
    if not (math.isfinite(loss) and math.isfinite(expected)):
        return all(not math.isfinite(value) or abs(value) > HUGE for value in (loss, expected))
    changes = np.abs(ledger.statistics.mean[ledger.statistics.finished.numpy()] - expected)
    moved = float(np.median(changes[np.isfinite(changes)]))
    if abs(loss - expected) <= allowed_difference(objective.dtype, moved, abs(expected), 0.0):
        return True
    rounding = abs(_model_loss(objective, rounded_otherwise(slice_.origin)) - expected)
    return abs(loss - expected) <= allowed_difference(objective.dtype, moved, abs(expected), rounding)


def _model_loss(objective: Objective, point: Point, batch_size: int | None = None) -> float:
    """The mean loss at ``point`` by plain forward passes, with the batches divided among the ranks."""
    plain = objective.in_full_precision()
    with plain.arithmetic():
        if plain.network.is_sharded:
            return float(plain(point).double().mean())
        plain.move_to(point)
        mine = itertools.islice(plain.batches(batch_size), ranks.rank(), None, ranks.count())
        sums = (as_float64(plain.losses(batch)).sum() for _, batch in mine)
        total = float(sum(sums, torch.zeros((), dtype=torch.float64)))
    return float(sum(ranks.gathered(total)) / plain.size)
