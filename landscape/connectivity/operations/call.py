"""One call of a torch function, its arguments by name, and the axes of units in what layers read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

__all__ = [
    "CONVOLUTIONS",
    "READ_AXES",
    "TRANSPOSED",
    "Operation",
    "read_by",
    "spatial",
    "tensors_in",
    "trailing",
]

CONVOLUTIONS = {f"conv{space}d": space for space in (1, 2, 3)}
TRANSPOSED = {f"conv_transpose{space}d": space for space in (1, 2, 3)}
# Operations that read units, with the argument that holds them and the axis of that, counted from the end.
READ_AXES = {"linear": (0, -1), "addmm": (1, -1), "mm": (0, -1), "matmul": (0, -1)}
READ_AXES |= {name: (0, -1 - space) for name, space in (CONVOLUTIONS | TRANSPOSED).items()}


@dataclass(frozen=True)
class Operation:
    """One call of a torch function."""

    name: str
    function: Any
    args: Sequence[Any]
    kwargs: dict[str, Any]
    result: Any

    @cached_property
    def outputs(self) -> list[Tensor]:
        """The tensors of the result."""
        return tensors_in(self.result)

    @cached_property
    def inputs(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return tensors_in([self.args, self.kwargs])

    def arguments(self, names: Sequence[str]) -> dict[str, Any]:
        """The arguments by name."""
        return dict(zip(names, self.args, strict=False)) | self.kwargs


def tensors_in(arguments: Any) -> list[Tensor]:
    """The tensors among arguments or results, in order."""
    if isinstance(arguments, Tensor):
        return [arguments]
    parts = arguments.values() if isinstance(arguments, dict) else arguments
    return [each for part in parts for each in tensors_in(part)] if isinstance(arguments, dict | list | tuple) else []


def trailing(count: int) -> list[str]:
    """Names of ``count`` axes, equal where they are equally far from the last one."""
    return [str(k) for k in range(count, 0, -1)]


def spatial(count: int) -> list[str]:
    """Names of the ``count`` axes of space that a convolution or pooling goes over."""
    return [f"space {k}" for k in range(count)]


def read_by(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Tensor, int]:
    """What the operation ``name``, one of `READ_AXES`, reads, and the axis of the units there, from the end."""
    position, axis = READ_AXES[name]
    return args[position] if len(args) > position else kwargs["input" if position == 0 else "mat1"], axis
