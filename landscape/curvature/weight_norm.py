"""Weight normalisation with correct second derivatives; torch's own takes the norm for a constant in them."""

import contextlib
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.weight_norm import WeightNorm

from landscape.objective.forwards import replaced_forwards

__all__ = ["exact_weight_norms"]


@contextlib.contextmanager
def exact_weight_norms(model: nn.Module) -> Iterator[None]:
    """Compute every weight_norm of ``model``, parametrization or hook, by elementary operations inside the block."""
    parts = [module for module in model.modules() if isinstance(module, parametrizations._WeightNorm)]
    hooks = [hook for module in model.modules() for hook in module._forward_pre_hooks.values()]
    older = [hook for hook in hooks if isinstance(hook, WeightNorm)]
    try:
        for hook in older:
            hook.__dict__["compute_weight"] = partial(_of_hook, hook)
        with replaced_forwards({module: partial(_forward, module.dim) for module in parts}):
            yield
    finally:
        for hook in older:
            hook.__dict__.pop("compute_weight", None)


def _of_hook(hook: WeightNorm, module: nn.Module) -> Tensor:
    return _forward(hook.dim, *(getattr(module, f"{hook.name}_{part}") for part in "gv"))


def _forward(axis: int, length: Tensor, direction: Tensor) -> Tensor:
    """g v / |v| with the norm over all axes but ``axis`` (over all for -1); Salimans and Kingma 2016, section 2."""
    return direction * (length / torch.norm_except_dim(direction, 2, axis))
