"""Per-sample losses from the outputs of a network, and the weighted values of callable losses."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.errors import InputError
from landscape.presenting import Presented

__all__ = [
    "IGNORED",
    "LOSSES",
    "Weighted",
    "check_labels",
    "check_probabilities",
    "check_range",
    "counted",
    "is_classification",
]

IGNORED = -100  # the class label of elements to ignore, as in torch.nn.CrossEntropyLoss
SUM_TOLERANCE = 0.02  # largest deviation from 1 of a sum of class probabilities, which may be in half precision


@dataclass(frozen=True, eq=False, repr=False)
class Weighted(Presented):
    """The result of a callable loss for samples of different weight; the loss is sum_n w_n v_n / sum_n w_n.

    The sums run over all data, independent of the batches. For a class-weighted mean w_n is the weight of the class.
    For a mean over tokens or pixels v_n is the average over those of sample n that count, and w_n is their number.

    Example:
        >>> import torch.nn.functional as F
        >>> def loss(model, batch):
        ...     inputs, targets = batch
        ...     weights = torch.tensor([1.0, 10.0, 50.0])[targets]
        ...     return Weighted(F.cross_entropy(model(inputs), targets, reduction="none"), weights)
    """

    values: Tensor  # [batch]
    weights: Tensor  # [batch], finite, not negative, constant in the parameters

    @property
    def facts(self) -> dict[str, str]:
        parts = {"values": self.values, "weights": self.weights}
        return {name: f"{list(part.shape)} {part.dtype}".replace("torch.", "") for name, part in parts.items()}


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The losses [batch] -log softmax(outputs)[target] for outputs [batch, C, ...].

    ``targets`` are class labels [batch, ...] or class probabilities [batch, C, ...]. If a sample has several labels,
    such as one for each pixel, its loss is the mean over those that are not ignored, and 0 if all are.
    """
    losses = F.cross_entropy(outputs, targets, reduction="none")
    if losses.ndim == 1:
        return losses
    if targets.is_floating_point():
        return losses.flatten(1).mean(1)
    return losses.flatten(1).sum(1) / counted(targets).clamp(min=1)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """The losses [batch]: the mean of (output - target)^2 over the outputs of a sample; class labels become one-hot."""
    if _are_classes(outputs, targets):
        targets = F.one_hot(targets, outputs.shape[1])
    return (outputs - targets.reshape(outputs.shape)).square().reshape(len(outputs), -1).mean(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cross_entropy": cross_entropy, "mse": mse}


def counted(targets: Tensor) -> Tensor:
    """The number [batch] of class labels of each sample that are not ignored (-100)."""
    return (targets != IGNORED).reshape(len(targets), -1).sum(1)


def check_labels(outputs: Tensor, targets: Tensor, loss: str) -> None:
    """Raise InputError if the ``targets`` of a batch cannot be labels for its ``outputs`` under ``loss``."""
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
    """Raise InputError if integer ``targets`` other than ``ignored`` are not from 0 to ``classes`` - 1."""
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
            f", or, if {marker} marks labels to ignore, pass loss=torch.nn.CrossEntropyLoss(ignore_index="
            f"{marker}) or a callable"
        )
    raise InputError(
        f"labels run from {low} to {high} but the model has {classes} outputs (classes 0 to {classes - 1}); {advice}"
    )


def check_probabilities(classes: int, targets: Tensor) -> None:
    """Raise InputError if floating-point ``targets`` [batch, classes, ...] are no class probabilities."""
    trouble = None
    if classes == 1:
        trouble = "there is only one class"
    elif bool((targets < 0).any()):
        trouble = "some are negative"
    elif bool(((targets.float().sum(1) - 1).abs() > SUM_TOLERANCE).any()):
        trouble = "they do not sum to 1"
    if trouble:
        raise InputError(
            f"cross_entropy takes floating-point targets as class probabilities, but {trouble}; for regression pass "
            "loss='mse', for other weights of classes a callable loss"
        )


def is_classification(targets: Tensor) -> bool:
    """Whether ``targets`` are one class label for each sample, none of them ignored."""
    if targets.ndim != 1 or targets.is_floating_point() or targets.dtype == torch.bool:
        return False
    return not bool((targets == IGNORED).any())


def _are_classes(outputs: Tensor, targets: Tensor) -> bool:
    """Whether ``targets`` of "mse" are class labels: one integer for each sample with several outputs."""
    return not targets.is_floating_point() and targets.ndim == 1 and outputs.ndim == 2 and outputs.shape[1] > 1


def _check_form(outputs: Tensor, targets: Tensor) -> None:
    """Raise InputError unless ``targets`` are class labels [batch, ...] or probabilities [batch, C, ...]."""
    shape_of_labels = (len(outputs), *outputs.shape[2:])
    floating = targets.is_floating_point()
    if targets.shape == (outputs.shape if floating else shape_of_labels):
        return
    form = f"targets {tuple(targets.shape)} of {str(targets.dtype).removeprefix('torch.')}"
    advice = f"class labels are integers {list(shape_of_labels)}, probabilities floating-point {list(outputs.shape)}"
    if floating and targets.shape == shape_of_labels:
        advice = "class labels are integers: targets.long()"
    elif not floating and targets.shape == outputs.shape:
        advice = "one-hot vectors stand for the labels targets.argmax(1)"
    elif targets.shape == (len(outputs), 1, *outputs.shape[2:]):
        advice = f"class labels have no axis of one: targets.squeeze(1){'.long()' if floating else ''}"
    raise InputError(f"cross_entropy does not take {form} for outputs {tuple(outputs.shape)}; {advice}")
