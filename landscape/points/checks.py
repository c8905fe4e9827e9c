"""Checks of points and of the values of parameters; the error names the first parameter that does not fit."""

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from landscape.errors import InputError
from landscape.points.point import Point
from landscape.runtime.shards import is_sharded

__all__ = ["check_finite", "check_match", "check_values", "check_whole"]

SHARDED = "sharded over several processes; gather the whole model first (full_tensor, or full_state_dict)"


def check_values(model: nn.Module) -> None:
    """Raise InputError if a parameter or buffer of ``model`` has no values that can be changed."""
    for module in model.modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            _check_fsdp1(module)
    for name, value in itertools.chain(model.named_parameters(), model.named_buffers()):
        if (trouble := _trouble(value)) is not None:
            raise InputError(f"the parameter {name!r} {trouble}")


def check_whole(model: nn.Module) -> None:
    """Raise InputError if a parameter of ``model`` is in shards over several processes."""
    if is_sharded(model):
        raise InputError(f"this needs the whole model in one process, but it is {SHARDED}")


def _check_fsdp1(module: Any) -> None:
    """Raise InputError if an FSDP1 module holds only a shard of its parameters, or all of them in one flat vector."""
    if module.sharding_strategy.name != "NO_SHARD" and module.process_group.size() > 1:
        raise InputError(f"the model is {SHARDED}, or shard it by fully_shard, which is evaluated as it is")
    if any("_flat_param" in name for name, _ in module.named_parameters()):
        raise InputError("FSDP holds all parameters of the model in one; wrap it with use_orig_params=True")


def _trouble(value: Tensor) -> str | None:
    """The reason why ``value`` cannot be changed, with a remedy; None if it can be changed."""
    if is_lazy(value):
        return "has no shape yet; run one batch through the model first"
    if type(value).__name__ == "FakeTensor" or value.device.type == "meta":
        return "is on the meta device and has no values; load the model's weights (into memory, not offloaded)"
    if value.is_quantized or value.dtype in (torch.qint8, torch.quint8, torch.qint32):
        return "is quantised; pass the model as it was before quantisation"
    if value.layout != torch.strided or value.is_nested:
        return "is sparse or nested; pass a model of dense tensors (to_dense)"
    return None


def check_finite(point: Point, what: str) -> None:
    """Raise InputError, with the name of the parameter, if ``point`` has NaN or infinite values."""
    for name, value in point.items():
        if not value.isfinite().all():
            raise InputError(
                f"the {what} holds NaN or infinite parameters, first in {name!r} (did its training diverge?)"
            )


def check_match(
    point: Mapping[str, Tensor], reference: Mapping[str, Tensor], what: str = "point", kind: str = "parameter"
) -> None:
    """Raise InputError, naming a difference, unless ``point`` and ``reference`` have the same names and shapes."""
    if point.keys() != reference.keys():
        name = sorted(point.keys() ^ reference.keys())[0]
        where = "lacks" if name in reference else "has the foreign"
        raise InputError(f"the {what} does not belong to this network: it {where} {kind} {name!r}")
    for name, value in reference.items():
        if point[name].shape != value.shape:
            raise InputError(
                f"the {what} does not belong to this network: {kind} {name!r} has shape "
                f"{tuple(point[name].shape)} instead of {tuple(value.shape)}"
            )
