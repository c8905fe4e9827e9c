"""Copies of networks, and networks at other points."""

import copy
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from landscape.checks import check_type
from landscape.points.checks import check_match, check_whole
from landscape.points.point import Point
from landscape.points.wrappers import unwrapped, wrapped_by
from landscape.runtime import own_torch_state

__all__ = ["copy_of", "model_at"]


@own_torch_state()
def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy of ``model``; computed tensors that it holds (such as those of weight_norm) are detached.

    Submodules that wrap another module, such as compiled ones, are replaced by copies of that module.

    Raises:
        InputError: the model is in shards over several processes.
    """
    check_whole(model)
    memo: dict[int, Any] = {}
    with _DetachedCopies():
        for module in reversed([*model.modules()]):  # innermost modules first
            if (held := wrapped_by(module)) is not None:
                memo[id(module)] = copy.deepcopy(held, memo)
        return copy.deepcopy(model, memo)


class _DetachedCopies(TorchFunctionMode):
    """Makes detached copies of tensors with a gradient history, which torch would refuse to copy."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            return memo.setdefault(id(tensor), tensor.detach().clone())
        return function(*args, **(kwargs or {}))


@own_torch_state()
def model_at(model: nn.Module, point: Point) -> nn.Module:
    """A copy of ``model``, buffers included, with the parameters of ``point``.

    Raises:
        InputError: ``point`` has other names or shapes than the parameters of ``model``.
    """
    check_type(model, nn.Module, "model_at(model, point)", "a torch.nn.Module")
    moved = copy_of(unwrapped(model))
    check_match(point, dict(moved.named_parameters()))
    for name, parameter in moved.named_parameters():
        parameter.data.copy_(point[name])
    return moved
