"""One forward pass for a loss and its metrics, if they call the network with the same tensors."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landscape.objective.forwards import replaced_forwards
from landscape.objective.trees import leaf_names, leaves, map_tensors, tensors_of

__all__ = ["shared_forward"]

PLAIN = (int, float, str, type(None))


@contextlib.contextmanager
def shared_forward(model: nn.Module) -> Iterator[None]:
    """Inside the block, a call of ``model`` with the same inputs as the previous call returns the outputs of that call.

    Its input tensors must be the same objects, not changed since then, and its other inputs and the settings of
    autocast equal. While gradients are recorded every call runs the model.
    """
    original, last = model.forward, None

    @functools.wraps(original)
    def forward(*arguments: Any, **keywords: Any) -> Any:
        nonlocal last
        if torch.is_grad_enabled():
            return original(*arguments, **keywords)
        call = _State.of((arguments, keywords), model)
        if last is not None and call is not None and last.inputs.equals(call) and last.outputs_are_unchanged:
            return map_tensors(lambda tensor: tensor, last.outputs)  # in new containers, which the caller may change
        last = None  # first, so that its memory is free for this call
        outputs = original(*arguments, **keywords)
        if call is not None and all(isinstance(leaf, (Tensor, *PLAIN)) for leaf in leaves(outputs)):
            last = _Call(call, map_tensors(lambda tensor: tensor, outputs), _versions(outputs))
        return outputs

    with replaced_forwards({model: forward}):
        yield


@dataclass(frozen=True, eq=False)
class _State:
    """All that the outputs of a network depend on besides its weights."""

    names: list[str]
    values: list[Any]
    versions: list[int]
    settings: tuple[Any, ...]

    @classmethod
    def of(cls, arguments: Any, model: nn.Module) -> "_State | None":
        """The present state; None if it holds objects that cannot be compared."""
        values = leaves(arguments)
        if not all(
            isinstance(value, PLAIN) or (isinstance(value, Tensor) and not value.is_inference()) for value in values
        ):
            return None
        kinds = {value.device.type for value in values if isinstance(value, Tensor)} | {"cpu"}
        casts = [(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in sorted(kinds)]
        return cls(leaf_names(arguments), values, _versions(arguments), (model.training, *casts))

    def equals(self, other: "_State") -> bool:
        """Whether both have the same tensors, not changed in between, and equal values."""
        pairs = zip(self.values, other.values, strict=True) if len(self.values) == len(other.values) else ()
        same = all(a is b or (not isinstance(a, Tensor) and type(a) is type(b) and a == b) for a, b in pairs)
        return same and (self.names, self.versions, self.settings) == (other.names, other.versions, other.settings)


@dataclass(frozen=True, eq=False)
class _Call:
    """A call of a network, and its outputs."""

    inputs: _State
    outputs: Any
    versions: list[int]  # of the outputs

    @property
    def outputs_are_unchanged(self) -> bool:
        return _versions(self.outputs) == self.versions


def _versions(tree: Any) -> list[int]:
    return [tensor._version for tensor in tensors_of(tree)]
