"""A memory layout [features, samples] of activations for networks of linear layers.

Torch's softmax, maxima and narrow matrix products are several times faster along the samples than along ten classes.
Shapes remain [samples, features]; only the order in memory changes, so that all other modules work as before.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.objective.forwards import has_own_forward

__all__ = ["Scorer", "linears"]

SAFE = 60.0  # margins up to this have finite exponentials in float32, even summed over 1e12 classes


def linears(model: nn.Module) -> dict[nn.Module, Callable[[Tensor], Tensor]]:
    """Forward functions of the linear layers of ``model`` that read and write activations in this layout."""
    plain = (module for module in model.modules() if type(module) is nn.Linear and not has_own_forward(module))
    return {module: _forward(module) for module in plain}


def _forward(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    def forward(input: Tensor) -> Tensor:  # the name that torch gives it
        if input.ndim != 2:
            return F.linear(input, layer.weight, layer.bias)
        if layer.bias is None:
            return torch.mm(layer.weight, input.mT).mT
        # vmap would take addmm apart into a product, a multiplication and a sum.
        return torch.mm(layer.weight, input.mT).add_(layer.bias[:, None]).mT

    return forward


class Scorer:
    """Computes cross-entropy and hits of logits [K, C, n] at K points for ``targets`` [n]."""

    def __init__(self, targets: Tensor):
        self.targets = targets
        samples = torch.arange(len(targets), device=targets.device)
        self.places = targets * len(targets) + samples  # indices of the true classes' logits in [C, n]
        self.ties: Tensor | None = None

    def __call__(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [K, n] and number of hits [K]; the logits are overwritten."""
        if self.ties is None:
            self.ties = self._ties(logits)
        own = logits.flatten(1).index_select(1, self.places)  # half the time of gather
        margins = logits.sub_(own[:, None]).add_(self.ties)
        top = margins.amax(1)
        if top.device.type == "cpu" and top.max() < SAFE:  # on an accelerator reading the value would wait for it
            return margins.exp_().sum(1).log_(), _count_hits(top)
        shift = top.clamp(min=0)
        losses = margins.sub_(shift[:, None]).exp_().sum(1).log_().add_(shift)
        return losses.masked_fill_(own == -torch.inf, torch.inf), _count_hits(top)

    def _ties(self, logits: Tensor) -> Tensor:
        """Tiny margins [C, n] that let classes before the true one win at equal logits, as in argmax."""
        classes = torch.arange(logits.shape[1], device=logits.device)
        before: Tensor = classes[:, None] < self.targets
        return before.to(logits.dtype) * float(torch.finfo(logits.dtype).tiny ** 0.4)


def _count_hits(top: Tensor) -> Tensor:
    """The number [K] of samples whose largest margin ``top`` [K, n] is the true class's; ``top`` is overwritten."""
    return top.le_(0).sum(1)  # in floating point, which torch sums several times faster than booleans
