"""Modes that record which module reads which parameter in a pass, and whether Python reads values of tensors."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from landscape.runtime.watching import WatchingMode

__all__ = ["Decisions", "Read", "Reads", "is_differentiated"]

TO_PYTHON = {"__bool__", "__int__", "__float__", "__index__", "__array__", "__contains__", "item", "tolist", "numpy"}
TO_PYTHON |= {"equal", "allclose", "is_nonzero"}


@dataclass(frozen=True)
class Read:
    """An operation inside ``module`` (None: outside the network) read the parameter ``name`` at ``time``."""

    name: str
    module: nn.Module | None
    time: int


class Reads(WatchingMode):
    """Collects every `Read` of the ``parameters`` by an operation, also through views and under other names.

    ``where`` returns (the module that is running, or None outside the network; the time of the operation).
    """

    def __init__(self, parameters: dict[str, Tensor], where: Callable[[], tuple[nn.Module | None, int]]):
        super().__init__()
        self.ranges = [(name, p.data_ptr(), p.data_ptr() + p.nbytes) for name, p in parameters.items() if p.numel()]
        self.where, self.reads = where, set[Read]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in _tensors((args, kwargs)):
            start = tensor.data_ptr()
            for name, low, high in self.ranges:
                if low <= start < high:
                    self.reads.add(Read(name, *self.where()))
        return function(*args, **kwargs)


class Decisions(TorchFunctionMode):
    """Sets ``made`` if Python reads a value of a tensor, by which it may decide what to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.made = False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.made |= getattr(function, "__name__", "") in TO_PYTHON
        return function(*args, **(kwargs or {}))


def is_differentiated(tensor: Tensor) -> bool:
    """Whether derivatives are taken through ``tensor``, by autograd, forward mode or torch.func."""
    dual = forward_ad.unpack_dual(tensor).tangent is not None
    return tensor.requires_grad or dual or torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _tensors(tree: Any) -> Iterable[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
