"""Weights of networks that may be wrapped, and bounded building of networks that a file describes."""

import math
import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.runtime.shards import is_sharded
from landscape.runtime.watching import WatchingMode

__all__ = ["BoundedBuilding", "fitting_weights", "unwrapped_weights"]

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)
INSIDE = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # added by torch's wrappers
HEADS = frozenset(("module", "_orig_mod", "model", "net", "network"))  # attributes in which others keep a network
COUNTER = "n_averaged"  # of AveragedModel
FREE_NUMBERS, FREE_TENSORS = 2**24, 5_000  # numbers and tensors that building may always create


def unwrapped_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of ``model`` with the names without wrappers (torch.compile, parallel training, averages).

    Raises:
        InputError: the network is in shards over several processes.
    """
    while isinstance(model, WRAPPERS) or hasattr(model, "_orig_mod"):
        inner: Any = model.module if isinstance(model, WRAPPERS) else model._orig_mod
        model = inner
    if is_sharded(model):
        raise InputError(
            "the weights are in shards over several processes; give a network that holds all of them, into which those "
            "of get_model_state_dict with full_state_dict=True are loaded"
        )
    return {INSIDE.sub(r"\1", name): tensor for name, tensor in model.state_dict().items()}


def fitting_weights(stored: Mapping[str, Any], network: nn.Module) -> dict[str, Tensor]:
    """The ``stored`` weights under the names of ``network``; prefixes of wrappers are removed if more names then fit.

    If a training module keeps the network in an attribute such as ``model``, its own weights are left out, with a
    warning that lists them.

    Raises:
        InputError: names, shapes or types differ.
    """
    expected = network.state_dict()
    names = {name: name if stored.keys() == expected.keys() else INSIDE.sub(r"\1", name) for name in stored}
    head = _head(names.values(), expected)
    fitting = {name.removeprefix(head): stored[old] for old, name in names.items() if name.startswith(head)}
    if faults := [*_other_names(fitting, expected), *_other_tensors(fitting, expected)]:
        more = f"; {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InputError("; ".join(faults[:3]) + more)
    if others := sorted({name for name in names.values() if not name.startswith(head)} - {COUNTER}):
        more = f" and {len(others) - 4} more" if len(others) > 4 else ""
        warnings.warn(f"left out {', '.join(others[:4])}{more}, which do not begin with {head!r}", stacklevel=3)
    return fitting


def _head(names: Collection[str], expected: Collection[str]) -> str:
    """The beginning of ``names`` after which most of them are ``expected``: a prefix of all, or one of `HEADS`."""
    counts = Counter({"": 0})
    begun: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for depth in range(len(parts)):
            head, rest = "".join(f"{part}." for part in parts[:depth]), ".".join(parts[depth:])
            begun[head] += 1
            counts[head] += rest in expected
    every = len({*names} - {COUNTER})
    heads = [head for head in counts if begun[head] >= every or HEADS.issuperset(head.split(".")[:-1])]
    return max(heads, key=lambda head: (counts[head], -len(head)))


def _other_names(weights: Mapping[str, Any], expected: Mapping[str, Tensor]) -> list[str]:
    listed = {"missing": expected.keys() - weights.keys(), "unexpected": weights.keys() - expected.keys()}
    return [
        f"{what} {', '.join(sorted(map(str, names))[:4])}{' ...' if len(names) > 4 else ''}"
        for what, names in listed.items()
        if names
    ]


def _other_tensors(weights: Mapping[str, Any], expected: Mapping[str, Tensor]) -> list[str]:
    faults = []
    for name in weights.keys() & expected.keys():
        tensor, model = weights[name], expected[name]
        if not isinstance(tensor, Tensor):
            faults.append(f"{name} is a {type(tensor).__name__}, no tensor")
        elif tensor.shape != model.shape:
            faults.append(f"size mismatch for {name}: {list(tensor.shape)}, not {list(model.shape)}")
        elif _kind(tensor) != _kind(model):
            faults.append(f"{name} is of type {tensor.dtype}, not {model.dtype}")
    return sorted(faults)


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_complex(), tensor.is_floating_point()


class BoundedBuilding(WatchingMode):
    """A mode in which no more numbers and tensors can be created than a network with ``size`` bytes of weights needs.

    A damaged file of 2 kB may describe a network of many GiB, which is refused before the memory is allocated.
    """

    def __init__(self, size: int):
        super().__init__()
        self.numbers, self.tensors = max(FREE_NUMBERS, 4 * size), max(FREE_TENSORS, size)
        self.size = size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not any(isinstance(part, Tensor) for part in args) and args and isinstance(args[0], list | tuple):
            self.tensors -= 1
            self.numbers -= math.prod(part for part in args[0] if isinstance(part, int))
            if self.tensors < 0 or self.numbers < 0:
                raise InputError(f"the network it describes is far larger than its weights of {self.size:,} bytes")
        return func(*args, **(kwargs or {}))
