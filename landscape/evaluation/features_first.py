"""Activations stored [features, samples], for networks of linear layers: what channels_last is to convolutions.

Torch's softmax, maxima and narrow matrix products are several times faster along the samples than along ten classes.
Shapes stay [samples, features]; only the order in memory changes, so that every other module works unaware.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["linears", "score"]


def linears(model: nn.Module) -> dict[nn.Module, Callable[[Tensor], Tensor]]:
    """Forwards of the linear layers of ``model`` that read and write [samples, features] in this order."""
    return {module: _forward(module) for module in model.modules() if type(module) is nn.Linear}


def _forward(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    def forward(inputs: Tensor) -> Tensor:
        if inputs.ndim != 2:
            return F.linear(inputs, layer.weight, layer.bias)
        if layer.bias is None:
            return torch.mm(layer.weight, inputs.mT).mT
        return torch.addmm(layer.bias[:, None], layer.weight, inputs.mT).mT

    return forward


def score(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy [K, n] and number of hits [K] of ``logits`` [K, C, n] at K points, ``targets`` [n]."""
    targets = targets.expand(len(logits), -1)
    losses = F.cross_entropy(logits, targets, reduction="none")
    top = logits.amax(1, keepdim=True)
    if torch.count_nonzero(logits == top) > losses.numel():  # ties: argmax, which is slow here, takes the first
        return losses, (logits.argmax(1) == targets).sum(1)
    return losses, (logits.gather(1, targets[:, None]) == top).sum((1, 2))
