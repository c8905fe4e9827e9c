"""One call of a torch function, its arguments by name, and the axes along which layers read units."""

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
# Operations that read units: the position of the argument that holds them, and their axis, counted from the end.
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
        """The arguments by name; ``names`` are those of the positional arguments, in order."""
        return dict(zip(names, self.args, strict=False)) | self.kwargs


def tensors_in(arguments: Any) -> list[Tensor]:
    """The tensors among arguments or results, in order."""
    if isinstance(arguments, Tensor):
        return [arguments]
    parts = arguments.values() if isinstance(arguments, dict) else arguments
    return [each for part in parts for each in tensors_in(part)] if isinstance(arguments, dict | list | tuple) else []


def trailing(count: int) -> list[str]:
    """Names of ``count`` axes, counted from the last one: axes that broadcasting pairs have the same name."""
    return [str(k) for k in range(count, 0, -1)]


def spatial(count: int) -> list[str]:
    """Names of the ``count`` spatial axes of a convolution or of pooling."""
    return [f"space {k}" for k in range(count)]


def read_by(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Tensor, int]:
    """The tensor that the operation ``name`` of `READ_AXES` reads, and the axis of its units, counted from the end."""
    position, axis = READ_AXES[name]
    return args[position] if len(args) > position else kwargs["input" if position == 0 else "mat1"], axis
