"""Watching the calls of torch functions while a network runs."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch.overrides import TorchFunctionMode

from landscape.connectivity.operations.tables import RULES

__all__ = ["Watch"]


def _name_of(function: Any) -> str:
    """The name of a torch function, without the underscores of special methods and of operations in place."""
    name = getattr(function, "__name__", str(function))
    if name == "__get__":  # a property
        name = function.__self__.__name__
    return str(name).strip("_")


def _entered(function: Any) -> Callable[..., Any] | None:
    """A copy of a torch function written in Python in which the calls that it makes are watched; None for others.

    The copy skips the usual check by which such a function hands itself over to ``__torch_function__`` as a whole.
    """
    if not isinstance(function, FunctionType) or function.__closure__:
        return None
    unwatched = {name: lambda *_: False for name in function.__globals__ if name.startswith("has_torch_function")}
    if not unwatched:
        return None
    inner = FunctionType(
        function.__code__, {**function.__globals__, **unwatched}, function.__name__, function.__defaults__
    )
    inner.__kwdefaults__ = function.__kwdefaults__
    return inner


class Watch(TorchFunctionMode, ABC):
    """Watches the calls of torch functions, also those inside of functions that are written in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0  # number of calls of layers

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, _name_of(function)
        if name not in RULES and (inner := _entered(function)):
            with self:
                return inner(*args, **kwargs)
        return self.watched(name, function, args, kwargs)

    @abstractmethod
    def watched(self, name: str, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The result of ``function``, whose name is ``name``, for these arguments."""
