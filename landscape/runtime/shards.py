"""Tensors of which every rank holds a shard: the DTensors of torch.distributed.

Nothing here imports torch.distributed before a DTensor exists. Functions that exchange values are called by all ranks
together, in the same order.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.runtime import ranks

__all__ = [
    "agree_on",
    "computes_in",
    "fsdp_modules",
    "group_of",
    "in_shards_of",
    "is_shard",
    "is_sharded",
    "only_kept_apart",
    "own_shard",
    "place_of",
    "reshard",
    "summed",
    "whole",
]


def is_shard(tensor: object) -> bool:
    """Whether ``tensor`` is a DTensor, of which a rank holds a part only."""
    return isinstance(tensor, Tensor) and hasattr(tensor, "device_mesh")


def is_sharded(model: object) -> bool:
    """Whether parameters of ``model`` are in shards over several ranks."""
    return isinstance(model, nn.Module) and (
        any(map(is_shard, model.parameters())) or any(True for _ in fsdp_modules(model))
    )


def fsdp_modules(model: nn.Module) -> Iterator[Any]:
    """The modules of ``model`` that fully_shard was called for."""
    for module in model.modules():
        if any(kind.__name__ == "FSDPModule" for kind in type(module).__mro__):
            yield module


def reshard(model: nn.Module) -> None:
    """Free what the last pass of ``model`` has gathered, so that its parameters are the shards again."""
    for module in fsdp_modules(model):
        module.reshard()


def group_of(model: nn.Module) -> Any:
    """The process group of the ranks that hold the shards of ``model``; None where these are all processes.

    Raises:
        InputError: there are several such groups.
    """
    from torch import distributed

    reshard(model)
    meshes = [value.device_mesh for value in model.parameters() if is_shard(value)]  # type: ignore[attr-defined]
    if meshes and all(mesh.size() == distributed.get_world_size() for mesh in meshes):
        return None
    if not meshes or meshes[0].ndim > 1 or any(mesh != meshes[0] for mesh in meshes):
        raise InputError(
            "parameters of the network are in shards over different groups of processes, or on a mesh of several axes "
            "that leaves some out; evaluate it on a mesh of all processes, or gather it first (full_state_dict)"
        )
    return meshes[0].get_group()


def agree_on(model: nn.Module, settings: dict[str, Any]) -> None:
    """Raise Disagreement unless all ranks ask for the same ``settings`` of something at ``model`` in shards."""
    if is_sharded(model):
        with ranks.together(group_of(model)):
            ranks.check_agreement(settings)


def only_kept_apart(model: nn.Module) -> bool:
    """Whether all shards are those of fully_shard, which are gathered before they are used.

    Otherwise ranks compute parts of one layer, for the same inputs.
    """
    kept = [value for module in fsdp_modules(model) for value in module.parameters()]
    shards = [value for value in model.parameters() if is_shard(value)]
    managed = {id(value) for value in kept}
    return all(id(value) in managed and _is_in_rows(value.placements) for value in shards)  # type: ignore[attr-defined]


def _is_in_rows(placements: Any) -> bool:
    """Whether a parameter is divided along the last axis of its mesh, and repeated along the others."""
    *others, last = placements
    return last.is_shard() and all(other.is_replicate() for other in others)


def computes_in(model: nn.Module) -> torch.dtype | None:
    """The lowest precision to which fully_shard rounds parameters for a pass; None where it rounds none."""
    policies = [getattr(module._get_fsdp_state(), "_mp_policy", None) for module in fsdp_modules(model)]
    kinds = [policy.param_dtype for policy in policies if policy is not None and policy.param_dtype is not None]
    return max(kinds, key=lambda kind: torch.finfo(kind).eps, default=None)


def place_of(tensor: Tensor) -> str | None:
    """Which shard of ``tensor`` this rank has, where other ranks have the same one; None where none has."""
    if not any(place.is_replicate() for place in tensor.placements):  # type: ignore[attr-defined]
        return None
    along = zip(tensor.device_mesh.get_coordinate(), tensor.placements, strict=True)  # type: ignore[attr-defined]
    return ", ".join(str(number) for number, place in along if not place.is_replicate())


def own_shard(tensor: Tensor) -> Tensor:
    """The part of ``tensor`` that this rank holds, in its memory; the tensor itself where it is in no shards."""
    if not is_shard(tensor):
        return tensor
    with torch.no_grad():
        shard: Tensor = tensor.to_local()  # type: ignore[attr-defined]
        return shard


def whole(tensor: Tensor) -> Tensor:
    """The tensor that the shards of all ranks make up."""
    if not is_shard(tensor):
        return tensor
    gathered: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return gathered


def in_shards_of(tensor: Tensor, like: Tensor) -> Tensor:
    """``tensor`` in the same shards as ``like``, or whole where that is.

    Raises:
        InputError: this version of torch cannot cut a tensor without sending it from one rank to the others.
    """
    if not is_shard(like):
        return whole(tensor)
    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    if is_shard(tensor):
        same = tensor.device_mesh == mesh and tensor.placements == placements  # type: ignore[attr-defined]
        return tensor if same else in_shards_of(whole(tensor), like)
    from torch.distributed.tensor import distribute_tensor

    try:
        cut: Tensor = distribute_tensor(tensor.to(like.device), mesh, placements, src_data_rank=None)
    except TypeError as error:
        raise InputError(
            f"networks in shards need a newer torch than {torch.__version__}; update it, or gather the network "
            "(full_state_dict)"
        ) from error
    return cut.clone()  # without the rest, of which it may be a view


def summed(partial: Tensor, like: Tensor) -> Tensor:
    """The sum of ``partial`` over the ranks among which the entries of ``like`` are divided."""
    if not is_shard(like):
        return partial
    from torch.distributed.tensor import DTensor, Partial, Replicate

    placements = [Replicate() if place.is_replicate() else Partial() for place in like.placements]  # type: ignore[attr-defined]
    return whole(DTensor.from_local(partial.to(like.device), like.device_mesh, placements))  # type: ignore[attr-defined]
