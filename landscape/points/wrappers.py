"""Modules that wrap a network, and the names of parameters with and without them."""

from collections.abc import Container, Iterator

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from landscape.points.point import Point
from landscape.runtime.shards import reshard

__all__ = [
    "Renamed",
    "named_parameters",
    "unwrapped",
    "with_wrapped_names",
    "without_wrapped_names",
    "wrapped_by",
    "wrapper_free",
]

# Where a module of torch.compile, FSDP1, activation checkpointing or Lightning Fabric holds what it wraps.
INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")


def unwrapped(model: nn.Module) -> nn.Module:
    """``model`` without the wrappers torch.compile, DataParallel, DistributedDataParallel, FSDP1 and AveragedModel."""
    while True:
        if (held := wrapped_by(model)) is not None:
            inner: nn.Module | Tensor = held
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel | AveragedModel):
            inner = model.module
        else:
            return model
        assert isinstance(inner, nn.Module)
        model = inner


def wrapped_by(module: nn.Module) -> nn.Module | None:
    """What ``module`` wraps, see `INSIDE`; None where it wraps nothing."""
    return next((module._modules[key] for key in INSIDE if key in module._modules), None)


def wrapper_free(name: str) -> str:
    """The ``name`` of a parameter without the parts that wrapping modules inside a network add to it, see `INSIDE`."""
    return ".".join(part for part in name.split(".") if part not in INSIDE)


def named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """(name, parameter) of all parameters of ``model``; the names lack what compilation and wrappers add.

    For a network in shards these are the shards: parameters that its last pass has left gathered are sharded again.
    """
    reshard(model)
    for name, parameter in unwrapped(model).named_parameters():
        yield wrapper_free(name), parameter


class Renamed(dict[str, Tensor]):
    """A point whose values can also be looked up under the names that a wrapper gives them."""

    def __missing__(self, name: str) -> Tensor:
        if (plain := _without_wrappers(name, self)) not in self:
            raise KeyError(name)
        return self[plain]


def _without_wrappers(name: str, names: Container[str]) -> str:
    """``name`` without the prefixes of wrappers, removed until it is one of ``names``."""
    parts = wrapper_free(name).split(".")
    while ".".join(parts) not in names and parts[:1] == ["module"]:
        parts = parts[1:]
    return ".".join(parts)


def without_wrapped_names(point: Point, names: Container[str]) -> Point:
    """``point`` without the prefixes of wrappers, as in `"module.weight"`, in names that are not in ``names``."""
    if all(name in names for name in point):
        return point
    return {_without_wrappers(name, names): value for name, value in point.items()}


def with_wrapped_names(point: Point, model: nn.Module) -> Point:
    """``point`` of ``model``; if the model is wrapped, its names, such as `"module.weight"`, also find `"weight"`."""
    own = (name for name, _ in model.named_parameters())
    return point if all(name in point for name in own) else Renamed(point)
