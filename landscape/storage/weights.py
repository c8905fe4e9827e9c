"""Weights of networks that may be wrapped, and the building of networks that a file describes."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.runtime.watching import WatchingMode

__all__ = ["BoundedBuilding", "fitting_weights", "unwrapped_weights"]

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)
INSIDE = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # of compile, FSDP
FREE_NUMBERS, FREE_TENSORS = 2**24, 5_000  # that building may create in any case


def unwrapped_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of ``model`` with the names that it had before torch wrapped it (compile, DDP, averages)."""
    while isinstance(model, WRAPPERS) or hasattr(model, "_orig_mod"):
        inner: Any = model.module if isinstance(model, WRAPPERS) else model._orig_mod
        model = inner
    return {INSIDE.sub(r"\1", name): tensor for name, tensor in model.state_dict().items()}


def fitting_weights(found: Mapping[str, Any], network: nn.Module) -> dict[str, Tensor]:
    """The weights ``found`` under the names of ``network``; prefixes of wrappers are left out where the rest fits.

    Raises:
        InputError: names, shapes or types differ.
    """
    expected = network.state_dict()
    names = {name: INSIDE.sub(r"\1", name) for name in found}
    while set(names.values()) != expected.keys() and (shorter := _without_prefix(names)):
        names = shorter
    if set(names.values()) != expected.keys():
        names = {name: name for name in found}
    fitting = {name: found[old] for old, name in names.items()}
    if faults := [*_other_names(fitting, expected), *_other_tensors(fitting, expected)]:
        more = f"; {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InputError("; ".join(faults[:3]) + more)
    return fitting


def _without_prefix(names: dict[str, str]) -> dict[str, str]:
    """``names`` without the first part that all of them share ("module."); {} where they share none."""
    names = {old: name for old, name in names.items() if name != "n_averaged"}  # the counter of AveragedModel
    heads = {name.partition(".")[0] for name in names.values() if "." in name}
    if len(heads) != 1 or not all("." in name for name in names.values()):
        return {}
    return {old: name.partition(".")[2] for old, name in names.items()}


def _other_names(found: Mapping[str, Any], expected: Mapping[str, Tensor]) -> list[str]:
    listed = {"missing": expected.keys() - found.keys(), "unexpected": found.keys() - expected.keys()}
    return [
        f"{what} {', '.join(sorted(map(str, names))[:4])}{' ...' if len(names) > 4 else ''}"
        for what, names in listed.items()
        if names
    ]


def _other_tensors(found: Mapping[str, Any], expected: Mapping[str, Tensor]) -> list[str]:
    faults = []
    for name in found.keys() & expected.keys():
        given, wanted = found[name], expected[name]
        if not isinstance(given, Tensor):
            faults.append(f"{name} is a {type(given).__name__}, no tensor")
        elif given.shape != wanted.shape:
            faults.append(f"size mismatch for {name}: {list(given.shape)}, not {list(wanted.shape)}")
        elif _kind(given) != _kind(wanted):
            faults.append(f"{name} is of type {given.dtype}, not {wanted.dtype}")
    return sorted(faults)


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_complex(), tensor.is_floating_point()


class BoundedBuilding(WatchingMode):
    """Inside it, no more numbers and tensors are created than a network of ``size`` bytes of weights needs.

    A file of 2 kB may ask for a network of many GiB: this is refused before the memory is taken.
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
