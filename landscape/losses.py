"""Per-sample losses from the outputs of a network."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.errors import InputError

__all__ = ["LOSSES", "check_labels", "is_classification"]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(outputs)[target] [batch]; outputs [batch, C, ...], further axes are averaged per sample."""
    losses = F.cross_entropy(outputs, targets, reduction="none")
    return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over output units of (output - target)^2 [batch]; class labels stand for their one-hot vectors."""
    if not targets.is_floating_point():
        targets = F.one_hot(targets, outputs.shape[1])
    if outputs.numel() != targets.numel():
        raise InputError(f"mse: outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} do not match")
    return (outputs - targets.reshape(outputs.shape)).square().flatten(1).mean(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cross_entropy": cross_entropy, "mse": mse}


def check_labels(outputs: Tensor, targets: Tensor, loss: str) -> None:
    """Raise InputError where ``targets`` cannot be labels for ``outputs`` under ``loss``."""
    if loss == "cross_entropy" and outputs.ndim < 2:
        raise InputError(f"cross_entropy needs outputs [batch, classes]; the model gives {tuple(outputs.shape)}")
    if targets.is_floating_point():
        return
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= outputs.shape[1]:
        raise InputError(
            f"labels run from {low} to {high} but the model has {outputs.shape[1]} outputs "
            f"(classes 0 to {outputs.shape[1] - 1}); use data that belong to this model"
        )


def is_classification(targets: Tensor) -> bool:
    """Whether ``targets`` are one class label a sample."""
    return targets.ndim == 1 and not targets.is_floating_point() and targets.dtype != torch.bool
