"""The order in which layers run, and which of them run several times, as observed in a pass over the data."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse.csgraph import connected_components
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ["Order", "watch_order"]


@dataclass(frozen=True)
class Order:
    """The order in which layers run, by their names; layers that never run are left out."""

    steps: tuple[tuple[str, ...], ...]  # groups in the order in which they run; layers that run alternately share one
    repeated: frozenset[str]  # layers that run several times in a pass
    outside: frozenset[str]  # layers whose running statistics are used outside of their forward pass

    def once(self, step: tuple[str, ...]) -> bool:
        """Whether ``step`` is a single layer that runs at most once in a pass."""
        return len(step) == 1 and step[0] not in self.repeated


def watch_order(layers: dict[str, nn.Module], forward: Callable[[Any], Any], batches: Iterable[Any]) -> Order:
    """The order in which the BatchNorm ``layers`` run for all ``batches``; a batch may skip some layers."""
    names, numbers = {layer: name for name, layer in layers.items()}, {name: k for k, name in enumerate(layers)}
    before = np.zeros((len(layers), len(layers)), dtype=bool)  # [i, j]: layer i runs before layer j
    calls: list[str] = []
    repeated, outside = set(), set()
    handles = [layer.register_forward_pre_hook(lambda layer, _: calls.append(names[layer])) for layer in names]
    try:
        for batch in batches:
            calls.clear()
            with _FunctionalUses(names) as functional:
                forward(batch)
            counts = Counter(calls)
            repeated |= {name for name, count in counts.items() if count > 1}
            outside |= {name for name, count in functional.counts.items() if count > counts[name]}
            for position, name in enumerate(calls):
                before[[numbers[earlier] for earlier in calls[: position + 1]], numbers[name]] = True
    finally:
        for handle in handles:
            handle.remove()
    return Order(_steps(list(layers), before), frozenset(repeated), frozenset(outside))


def _steps(names: list[str], before: np.ndarray) -> tuple[tuple[str, ...], ...]:
    """The strongly connected components of the graph of edges ``before``, in topological order."""
    count, group = connected_components(before, directed=True, connection="strong")
    ran = before.diagonal()
    members = [np.flatnonzero((group == k) & ran) for k in range(count)]
    waiting, steps = [layers for layers in members if len(layers)], []
    while waiting:
        others = np.concatenate(waiting)
        first = next(layers for layers in waiting if not before[np.setdiff1d(others, layers)][:, layers].any())
        waiting = [layers for layers in waiting if layers is not first]
        steps.append(tuple(names[k] for k in first))
    return tuple(steps)


class _FunctionalUses(TorchFunctionMode):
    """Counts the calls of `torch.nn.functional.batch_norm` with the running statistics of each layer."""

    def __init__(self, names: dict[nn.Module, str]):
        super().__init__()
        self.owners = {id(layer.running_mean): name for layer, name in names.items()}
        self.counts: Counter[str] = Counter()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") == "batch_norm":
            for value in (*args, *(kwargs or {}).values()):
                if id(value) in self.owners:
                    self.counts[self.owners[id(value)]] += 1
                    break
        return function(*args, **(kwargs or {}))
