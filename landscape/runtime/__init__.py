"""What a computation runs in: the state of torch, whatever the caller has set, and the state of several threads."""

from landscape.runtime.random_state import kept_random_state
from landscape.runtime.shared import OwnLock, Shared
from landscape.runtime.torch_state import float32_products, math_attention, own_torch_state, started_threads

__all__ = [
    "OwnLock",
    "Shared",
    "float32_products",
    "kept_random_state",
    "math_attention",
    "own_torch_state",
    "started_threads",
]
