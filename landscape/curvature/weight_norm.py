"""Weight normalisation that can be differentiated twice: torch's own takes the norm for a constant the second time."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

__all__ = ["exact_weight_norms"]


def exact_weight_norms(model: nn.Module) -> dict[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    """A forward of elementary operations for every ``parametrizations.weight_norm`` of ``model``."""
    kind = parametrizations._WeightNorm
    return {module: partial(_forward, module.dim) for module in model.modules() if isinstance(module, kind)}


def _forward(axis: int, length: Tensor, direction: Tensor) -> Tensor:
    """g v / |v|, the norm over all axes but ``axis`` (all, for -1); Salimans and Kingma 2016, section 2."""
    return direction * (length / torch.norm_except_dim(direction, 2, axis))
