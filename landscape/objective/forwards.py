"""Temporary replacement of the forward methods of modules."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

__all__ = ["has_own_forward", "input_of", "replaced_forwards"]


@contextlib.contextmanager
def replaced_forwards(replacements: dict[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Replace the forward methods of modules inside the block, and restore them afterwards, also after an error."""
    own = {module: module.__dict__["forward"] for module in replacements if has_own_forward(module)}
    try:
        for module, function in replacements.items():
            module.__dict__["forward"] = function
        yield
    finally:
        for module in replacements:
            module.__dict__.pop("forward", None)
        for module, function in own.items():
            module.__dict__["forward"] = function


def has_own_forward(module: nn.Module) -> bool:
    """Whether ``module`` has a forward method of its own, other than that of its class."""
    return "forward" in module.__dict__


def input_of(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor | None:
    """The argument of a layer that is called with a single tensor, by position or by name; None for other calls."""
    values = (*arguments, *keywords.values())
    return values[0] if len(values) == 1 and isinstance(values[0], Tensor) else None
