"""Restoring the global random generators, unless another thread may be using them."""

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

__all__ = ["THREAD_NAME", "kept_random_state"]

THREAD_NAME = "landscape"  # prefix of the names of our threads, which distinguishes them from the caller's
IDLE = ("TMonitor",)  # classes of threads that never draw random numbers: the monitor of tqdm


@contextlib.contextmanager
def kept_random_state(draws: bool | Callable[[], bool] = False, device: torch.device | None = None) -> Iterator[None]:
    """Restore the global generators of Python, numpy and torch after the block, also if it raises.

    Other threads may have drawn random numbers during the block, and restoring the generators would make them draw the
    same numbers again. So, while other threads are running, the generators are restored only if the block itself
    ``draws`` random numbers; a function is called after the block to decide that.
    """
    before = _states(device)
    try:
        yield
    finally:
        after = _states(device)
        changed = [restore for name, (state, restore) in before.items() if not _equal(state, after[name][0])]
        if changed and ((draws() if callable(draws) else draws) or _alone()):
            for restore in changed:
                restore()


def _states(device: torch.device | None) -> dict[str, tuple[Any, Callable[[], None]]]:
    """name -> (state, function that restores it) of every generator."""
    legacy: Any = np.random.get_state(legacy=True)  # a tuple, although the type stub allows a dict
    python, cpu = random.getstate(), torch.get_rng_state()
    states = {
        "python": (python, lambda: random.setstate(python)),
        "numpy": ((legacy[0], legacy[1].tobytes(), *legacy[2:]), lambda: np.random.set_state(legacy)),
        "torch": (cpu, lambda: torch.set_rng_state(cpu)),
    }
    if device is None and torch.cuda.is_initialized():
        device = torch.device("cuda", torch.cuda.current_device())
    if device is not None and device.type != "cpu":
        module = torch.get_device_module(device.type)
        state = module.get_rng_state(device)
        states["device"] = (state, lambda: module.set_rng_state(state, device))
    return states


def _equal(a: object, b: object) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b


def _alone() -> bool:
    """Whether no threads are running that could draw random numbers, except this one and those of the computation."""
    return all(
        thread is threading.current_thread() or thread.name.startswith(THREAD_NAME) or type(thread).__name__ in IDLE
        for thread in threading.enumerate()
    )
