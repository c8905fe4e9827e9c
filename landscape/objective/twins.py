"""Whether two copies of a network share state that a forward pass changes, tried in a strict interleaving."""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from landscape.points import copy_of
from landscape.runtime.watching import WatchingMode

__all__ = ["are_independent"]

PATIENCE = 20.0  # seconds for one operation, after which the two passes are not waited for
ROUNDING = 1e3  # units in the last place by which two passes over the same batch may differ


@torch.no_grad()
def are_independent(model: nn.Module, run: Callable[[nn.Module, Any], Tensor], batches: tuple[Any, Any]) -> bool:
    """Whether passes of ``model`` and of a copy of it, operation by operation in turns, give what each gives alone.

    The copy has other weights and the second batch: what one of them leaves in a closure, in a global variable or in a
    class, and takes for its own afterwards, is then that of the other. A failure counts as dependence.
    """
    twin = copy_of(model)
    for parameter in twin.parameters():
        if parameter.is_floating_point():
            parameter.mul_(1.25)
    networks = (model, twin)
    alone = [run(network, batch) for network, batch in zip(networks, batches, strict=True)]
    turns = _Turns()
    found: list[Tensor | None] = [None, None]
    failed: list[BaseException] = []

    def work(index: int) -> None:
        try:
            with torch.no_grad(), _InTurns(turns, index):
                found[index] = run(networks[index], batches[index])
        except BaseException as error:
            failed.append(error)
        finally:
            turns.leave(index)

    threads = [threading.Thread(target=work, args=(index,), name=f"landscape twin {index}") for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return not failed and all(_close(a, b) for a, b in zip(found, alone, strict=True))


class _Turns:
    """Lets one of two threads work at a time, and the other one at its next operation."""

    def __init__(self) -> None:
        self.now, self.gone = 0, set[int]()
        self.changed = threading.Condition()

    def next(self, index: int) -> None:
        """Give the turn to the other thread and wait until it comes back."""
        with self.changed:
            if self.now == index and not self.gone:
                self.now = 1 - index
                self.changed.notify_all()
            if not self.changed.wait_for(lambda: self.now == index or self.gone, PATIENCE):
                raise TimeoutError("the other pass does not come to its next operation")

    def leave(self, index: int) -> None:
        """Let the other thread work on by itself."""
        with self.changed:
            self.gone.add(index)
            self.changed.notify_all()


class _InTurns(WatchingMode):
    def __init__(self, turns: _Turns, index: int):
        super().__init__()
        self.turns, self.index = turns, index

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.turns.next(self.index)
        return function(*args, **(kwargs or {}))


def _close(found: Tensor | None, alone: Tensor) -> bool:
    if found is None or found.shape != alone.shape:
        return False
    eps = ROUNDING * torch.finfo(alone.dtype).eps
    return torch.allclose(found, alone, rtol=eps, atol=eps, equal_nan=True)
