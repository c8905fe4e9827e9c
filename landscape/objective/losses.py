"""Per-sample losses from the outputs of a network, and what a loss may give."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.errors import InputError

__all__ = ["IGNORED", "LOSSES", "Weighted", "check_labels", "check_range", "counted", "is_classification"]

IGNORED = -100  # a class label that does not count, as in torch.nn.CrossEntropyLoss


@dataclass(frozen=True, eq=False)
class Weighted:
    """What a callable loss gives where samples weigh differently: sum_n w_n v_n / sum_n w_n over all data.

    Whatever the batches: a class-weighted mean, or a mean over tokens or pixels that count, is the values v_n, each
    the average over the units of its sample, with their numbers as w_n.

    Example:
        >>> import torch.nn.functional as F
        >>> def loss(model, batch):
        ...     inputs, targets = batch
        ...     weights = torch.tensor([1.0, 10.0, 50.0])[targets]
        ...     return Weighted(F.cross_entropy(model(inputs), targets, reduction="none"), weights)
    """

    values: Tensor  # [batch]
    weights: Tensor  # [batch], finite, not negative, constant in the parameters


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(outputs)[target] [batch]; outputs [batch, C, ...]: the mean over those further axes that count."""
    losses = F.cross_entropy(outputs, targets, reduction="none")
    if losses.ndim == 1:
        return losses
    if targets.is_floating_point():
        return losses.flatten(1).mean(1)
    return losses.flatten(1).sum(1) / counted(targets).clamp(min=1)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over output units of (output - target)^2 [batch]; class labels stand for their one-hot vectors."""
    if _are_classes(outputs, targets):
        targets = F.one_hot(targets, outputs.shape[1])
    return (outputs - targets.reshape(outputs.shape)).square().reshape(len(outputs), -1).mean(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cross_entropy": cross_entropy, "mse": mse}


def counted(targets: Tensor) -> Tensor:
    """How many class labels of every sample count [batch]: those other than -100."""
    return (targets != IGNORED).reshape(len(targets), -1).sum(1)


def check_labels(outputs: Tensor, targets: Tensor, loss: str) -> None:
    """Raise InputError where ``targets`` cannot be labels for ``outputs`` under ``loss``, on one batch."""
    if outputs.is_complex() or targets.is_complex():
        raise InputError(f"{loss} needs real outputs and targets; pass a callable loss, such as one of abs()")
    if targets.dtype == torch.bool:
        raise InputError(
            f"{loss} does not take targets of bool: targets.long() makes them the classes 0 and 1, targets.float() "
            "makes numbers; for several yes-or-no labels pass loss=torch.nn.BCEWithLogitsLoss() and targets.float()"
        )
    if loss == "mse":
        if not _are_classes(outputs, targets) and outputs.numel() != targets.numel():
            raise InputError(f"mse: outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} do not match")
        return
    if outputs.ndim < 2:
        raise InputError(f"cross_entropy needs outputs [batch, classes]; the model gives {tuple(outputs.shape)}")
    _check_form(outputs, targets)


def check_range(classes: int, targets: Tensor, ignored: int | None = IGNORED) -> None:
    """Raise InputError where integer ``targets`` other than ``ignored`` are no index of the ``classes``."""
    low, high = (int(end) for end in targets.aminmax())
    if ignored in (low, high):
        counting = targets[targets != ignored]
        low, high = (int(end) for end in counting.aminmax()) if counting.numel() else (0, 0)
    if low >= 0 and high < classes:
        return
    advice = "use data that belong to this model"
    if classes == 1:
        advice = "for one output pass loss=torch.nn.BCEWithLogitsLoss() and targets of the shape of the outputs"
    elif low < 0 or high > classes:
        marker = low if low < 0 else high
        advice += (
            f", or, if {marker} marks labels that do not count, pass loss=torch.nn.CrossEntropyLoss(ignore_index="
            f"{marker}) or a callable"
        )
    raise InputError(
        f"labels run from {low} to {high} but the model has {classes} outputs (classes 0 to {classes - 1}); {advice}"
    )


def is_classification(targets: Tensor) -> bool:
    """Whether ``targets`` are one class label a sample, all of which count."""
    if targets.ndim != 1 or targets.is_floating_point() or targets.dtype == torch.bool:
        return False
    return not bool((targets == IGNORED).any())


def _are_classes(outputs: Tensor, targets: Tensor) -> bool:
    """Whether ``targets`` of "mse" are class labels: one integer a sample for several outputs."""
    return not targets.is_floating_point() and targets.ndim == 1 and outputs.ndim == 2 and outputs.shape[1] > 1


def _check_form(outputs: Tensor, targets: Tensor) -> None:
    """Raise InputError unless ``targets`` are class labels [batch, ...] or probabilities [batch, C, ...]."""
    places = (len(outputs), *outputs.shape[2:])
    floating = targets.is_floating_point()
    if targets.shape == (outputs.shape if floating else places):
        return
    given = f"targets {tuple(targets.shape)} of {str(targets.dtype).removeprefix('torch.')}"
    way = f"class labels are integers {list(places)}, probabilities floating-point {list(outputs.shape)}"
    if floating and targets.shape == places:
        way = "class labels are integers: targets.long()"
    elif not floating and targets.shape == outputs.shape:
        way = "one-hot vectors stand for the labels targets.argmax(1)"
    elif targets.shape == (len(outputs), 1, *outputs.shape[2:]):
        way = f"class labels have no axis of one: targets.squeeze(1){'.long()' if floating else ''}"
    raise InputError(f"cross_entropy does not take {given} for outputs {tuple(outputs.shape)}; {way}")
