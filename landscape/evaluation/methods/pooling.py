"""Max-pooling without the indices that torch computes for the backward pass."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from landscape.objective.forwards import has_own_forward

__all__ = ["fast_pools"]


def fast_pools(model: nn.Module) -> dict[nn.Module, Callable[[Tensor], Tensor]]:
    """A faster forward function, with the same bits, for every plain 2 x 2 max-pooling layer of ``model``."""
    return {module: _pool_by_halves for module in model.modules() if _is_two_by_two(module)}


def _pool_by_halves(input: Tensor) -> Tensor:  # the name that torch gives it
    height, width = (size // 2 * 2 for size in input.shape[-2:])
    rows = torch.maximum(input[..., 0:height:2, :width], input[..., 1:height:2, :width])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])


def _is_two_by_two(module: nn.Module) -> bool:
    return type(module) is nn.MaxPool2d and (
        not has_own_forward(module)
        and module.kernel_size in (2, (2, 2))
        and module.stride in (2, (2, 2))
        and module.padding in (0, (0, 0))
        and module.dilation in (1, (1, 1))
        and not module.ceil_mode
        and not module.return_indices
    )
