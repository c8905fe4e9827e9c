"""The check that two copies of a network share no state that a forward pass changes, by two interleaved passes."""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from landscape.points import copy_of
from landscape.runtime.watching import WatchingMode

__all__ = ["are_independent"]

PATIENCE = 20.0  # seconds to wait for the next operation of the other pass
ROUNDING = 1e3  # units in the last place by which two passes over the same batch may differ


@torch.no_grad()
def are_independent(model: nn.Module, run: Callable[[nn.Module, Any], Tensor], batches: tuple[Any, Any]) -> bool:
    """Whether a pass of ``model`` and one of a copy, run alternately operation by operation, give the same as alone.

    The copy has other weights and gets the second batch. If a pass stores values in a closure, a global variable or a
    class and reads them again, it then reads those of the other pass, and its outputs change. An exception in one of
    the passes counts as dependence.
    """
    twin = copy_of(model)
    for parameter in twin.parameters():
        if parameter.is_floating_point():
            parameter.mul_(1.25)
    networks = (model, twin)
    alone = [run(network, batch) for network, batch in zip(networks, batches, strict=True)]
    turns = _Turns()
    outputs: list[Tensor | None] = [None, None]
    failed: list[BaseException] = []

    def work(index: int) -> None:
        try:
            with torch.no_grad(), _InTurns(turns, index):
                outputs[index] = run(networks[index], batches[index])
        except BaseException as error:
            failed.append(error)
        finally:
            turns.leave(index)

    threads = [threading.Thread(target=work, args=(index,), name=f"landscape twin {index}") for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return not failed and all(_close(a, b) for a, b in zip(outputs, alone, strict=True))


class _Turns:
    """Lets two threads run alternately, one operation at a time."""

    def __init__(self) -> None:
        self.now, self.ended = 0, set[int]()
        self.changed = threading.Condition()

    def next(self, index: int) -> None:
        """Give the turn to the other thread and wait until it comes back."""
        with self.changed:
            if self.now == index and not self.ended:
                self.now = 1 - index
                self.changed.notify_all()
            if not self.changed.wait_for(lambda: self.now == index or self.ended, PATIENCE):
                raise TimeoutError("the other pass does not reach its next operation")

    def leave(self, index: int) -> None:
        """End the alternation, so that the other thread continues alone."""
        with self.changed:
            self.ended.add(index)
            self.changed.notify_all()


class _InTurns(WatchingMode):
    def __init__(self, turns: _Turns, index: int):
        super().__init__()
        self.turns, self.index = turns, index

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.turns.next(self.index)
        return function(*args, **(kwargs or {}))


def _close(outputs: Tensor | None, alone: Tensor) -> bool:
    if outputs is None or outputs.shape != alone.shape:
        return False
    eps = ROUNDING * torch.finfo(alone.dtype).eps
    return torch.allclose(outputs, alone, rtol=eps, atol=eps, equal_nan=True)
