"""The buffers of a network at the points of a slice: from the networks of the slice, or by the BatchNorm policy."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from landscape.errors import InputError
from landscape.objective.batch_norm import batch_norm_layers
from landscape.objective.network import Network, between
from landscape.objective.spectral_norm import spectral_layers
from landscape.points import Point, check_match
from landscape.slices.networks import buffers_of, persistent_buffers, statistics_names
from landscape.slices.planes import AnySlice, Slice

__all__ = ["buffer_ends", "check_buffers", "check_point", "check_positive", "check_source", "whole_slice"]

MODELS = "pass the models themselves, as in ll.interpolation_line(model_a, model_b)"


def whole_slice(network: Network, slice_: AnySlice) -> AnySlice:
    """``slice_``, with the parameters that it lacks taken from the objective's network.

    It lacks some if it was made from points that do not hold all parameters.
    """
    if not slice_.is_partial:
        return slice_
    network.source.check_unchanged(network.source.keys() - slice_.origin.keys())
    return slice_.within(network.source)


def check_buffers(network: Network, slice_: Slice) -> None:
    """Raise InputError if the buffers of the network on ``slice_`` are not determined.

    Raises:
        InputError: a slice made by hand does not declare the number of its networks; buffers differ between networks
            and cannot be interpolated, or are unknown; the policy "running" would use one network's BatchNorm
            statistics for several; the slice lies around a network with other buffers than the objective's; or a
            network was changed after the slice was made.
    """
    slice_.check_unchanged()
    if slice_.networks is None:
        _check_by_hand(network)
    elif slice_.networks > 1:
        _check_several(network, slice_)
    elif slice_.held:
        _check_one(network, slice_.held.ends[0], "the slice lies around")


def buffer_ends(model: nn.Module, slice_: Slice) -> tuple[Point, ...]:
    """The buffers at the origin of a slice through several networks, and at the end of each of its directions."""
    if slice_.held:
        return slice_.held.ends
    exact = {layer.left: torch.ones((), dtype=torch.float64) for layer in spectral_layers(model)}
    return (exact,) * (1 + len(slice_.directions)) if exact else ()


def check_positive(ends: Sequence[Point], slice_: Slice, axes: Sequence[np.ndarray]) -> None:
    """Raise InputError if a buffer that is positive in all networks, such as a variance, is not so on the whole grid.

    The interpolated buffers are computed at the corners of the grid, which ``axes`` holds as one array per dimension.
    """
    if not ends:
        return
    corners = torch.tensor(list(itertools.product(*[(axis[0], axis[-1]) for axis in axes])), dtype=torch.float64)
    positive = [name for name in ends[0] if all(_positive(end[name]) for end in ends)]
    for corner, weights in zip(corners.tolist(), slice_.weights(corners).tolist(), strict=True):
        values = between([{name: end[name] for name in positive} for end in ends], weights)
        for name in positive:
            if not _positive(values[name]):
                position = ", ".join(f"{coordinate:g}" for coordinate in corner)
                raise InputError(
                    f"the buffer {name!r} is positive in all networks of this slice, but would not be at ({position}); "
                    "choose ranges nearer to the networks, such as alpha_range=(0, 1)"
                )


def _positive(value: torch.Tensor) -> bool:
    return not value.is_complex() and value.dtype != torch.bool and bool((value > 0).all())


def _check_by_hand(network: Network) -> None:
    if network.has_batch_norm and network.batch_norm is None:
        raise InputError(
            "a slice made by hand does not tell whose BatchNorm statistics hold on it: say through how many networks "
            "it goes, as in ll.Line(point, (direction,), networks=1) around one or networks=2 between two, or choose "
            "batch_norm='running' or 'recalibrate' for the objective"
        )
    for name in persistent_buffers(network.model):
        raise InputError(
            f"a slice made by hand does not tell whose buffer {name!r} holds on it: for that of the objective's "
            f"network say networks=1, as in ll.Line(point, (direction,), networks=1); between several, {MODELS}"
        )


def _check_several(network: Network, slice_: Slice) -> None:
    if network.has_batch_norm and network.batch_norm == "running":
        raise InputError(
            f"batch_norm='running' on the {slice_.recipe.get('kind', 'slice')} would use one network's statistics for "
            "all: a barrier that does not exist; use 'recalibrate' or 'batch'"
        )
    if slice_.held:
        slice_.held.check()
        mine = {name: value for name, value in network.model.named_buffers() if name in slice_.held.ends[0]}
        layers = {layer.left for layer in spectral_layers(network.model)}
        known = {name: value for name, value in slice_.held.ends[0].items() if name not in layers}
        check_match(known, {name: value for name, value in mine.items() if name not in layers}, "slice", "buffer")
        return
    recomputed = {name for layer in spectral_layers(network.model) for name in (layer.left, layer.right)}
    for name in persistent_buffers(network.model):
        if name not in recomputed:
            raise InputError(
                f"the slice goes through several networks of which only the parameters are known, not the buffer "
                f"{name!r}: {MODELS}, or, where all have the buffers of the objective's network, say "
                "dataclasses.replace(slice_, networks=1)"
            )


def _check_one(network: Network, held: Point, what: str) -> None:
    by_policy = statistics_names(network.model) if network.batch_norm in ("recalibrate", "batch") else set()
    for name, mine in network.source_buffers.items():
        theirs = held.get(name)
        if theirs is None or name in by_policy or name.endswith("num_batches_tracked"):
            continue
        theirs = theirs.to(mine)
        if theirs.shape != mine.shape or not torch.equal(theirs.nan_to_num(), mine.nan_to_num()):
            raise InputError(
                f"{what} a network whose buffer {name!r} is not that of the objective's network; make the objective "
                "from that network, as it is now"
            )


def check_source(network: Network, source: nn.Module | Point) -> None:
    """Check the buffers of a network that is passed as a point.

    Raises:
        InputError: they differ from those of the objective's network; the message names the first that does.
    """
    if isinstance(source, nn.Module) and not network.ends:
        _check_one(network, buffers_of(source), "the point is that of")


def check_point(network: Network, settled: Network, point: nn.Module | Point) -> None:
    """Raise InputError for a point without buffers if its network needs statistics of normalisation layers.

    Raises:
        InputError: the statistics are neither known nor determined by a policy; the message names the layer.
    """
    if isinstance(point, nn.Module):
        return
    chosen = network.batch_norm or settled.batch_norm != "running"
    by_policy = set(batch_norm_layers(network.model)) if chosen else set()
    for name, module in network.model.named_modules():
        norm = isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None
        if norm and module not in by_policy:
            raise InputError(
                f"points hold no statistics of the layer {name!r}, which differ from one to the next; pass the models "
                "themselves, or for BatchNorm choose batch_norm='recalibrate' for the objective"
            )
