"""The state in which computations run: torch's settings, random generators, threads, devices and ranks."""

from importlib import import_module
from typing import TYPE_CHECKING

from landscape.runtime.shared import OwnLock, Shared

if TYPE_CHECKING:
    from landscape.runtime.random_state import kept_random_state
    from landscape.runtime.torch_state import math_attention, own_torch_state, started_threads

__all__ = [
    "OwnLock",
    "Shared",
    "kept_random_state",
    "math_attention",
    "own_torch_state",
    "started_threads",
]


def __getattr__(name: str) -> object:
    """Load torch only when a name that needs it is used: results and figures import this package without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "random_state" if name == "kept_random_state" else "torch_state"
    return getattr(import_module(f"{__name__}.{module}"), name)
