"""The private network of an objective, whose parameters and buffers are set to those of a point."""

import contextlib
import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.batch_norm import Policy, has_batch_norm, use_batch_statistics
from landscape.objective.private_network import converted, private_copy, require_gradients
from landscape.objective.spectral_norm import spectral_layers
from landscape.points import (
    Point,
    aligned,
    check_match,
    copy_of,
    is_continuous,
    is_half,
    named_parameters,
    point_moving,
    without_wrapped_names,
)
from landscape.runtime import own_torch_state
from landscape.slices.networks import buffers_of, set_buffers, statistics_names, varying_names
from landscape.slices.planes import AnySlice, Slice
from landscape.storage.provenance import fingerprint

__all__ = ["Network", "between"]


class Network:
    """A private copy of a network in eval mode, whose parameters are replaced by those of a point.

    ``fixed`` holds the parameters that passes read from other memory, such as that of the caller's model, so that the
    loss does not follow a move of them. If passes write into parameters (``overwrites``), each pass gets copies of the
    values of the point.
    """

    in_place = False  # whether it is the caller's own network
    is_sharded = False  # whether every rank holds only a part of it
    shares_data = False  # whether each rank evaluates different batches in the same passes

    @own_torch_state()
    def __init__(self, model: nn.Module, device: torch.device, dtype: torch.dtype | None, batch_norm: Policy | None):
        self.device, self.batch_norm = device, batch_norm
        self.has_batch_norm = has_batch_norm(model)
        self.take_dtype(dtype, model.parameters())
        self.model = self._private(model)
        self.source = point_moving(model, ())  # the parameters of the caller's network, not copied
        self.source_buffers = buffers_of(self.model)
        self.ends: tuple[Point, ...] = ()  # buffers at the ends of the slice, if they vary on it
        self.fixed: Point = {}
        self.overwrites = False
        self._values: Point = {}  # values of the last point, kept if passes overwrite them

    def take_dtype(self, dtype: torch.dtype | None, values: Iterable[Tensor]) -> None:
        """Compute in ``dtype``; None leaves parameters in their own and computes losses in float32 or float64."""
        own = [value.dtype for value in values if is_continuous(value)]
        exact = bool(own) and all(kind in (torch.float64, torch.complex128) for kind in own)
        self.dtype = dtype or (torch.float64 if exact else torch.float32)  # of losses, and of points
        self.weights_dtype = dtype  # of all parameters; None: their own
        self.input_dtype = dtype or next((kind for kind in own if kind.is_floating_point), torch.float32)

    @property
    def dtype_text(self) -> str:
        """The dtypes of the parameters, without "torch.", separated by commas if there are several."""
        kinds = (
            [self.dtype] if self.weights_dtype else sorted({value.dtype for value in self.model.parameters()}, key=str)
        )
        return ", ".join(str(kind).removeprefix("torch.") for kind in kinds)

    @property
    def weights_eps(self) -> float:
        """The largest machine epsilon of parameters in half precision, to which points are rounded; 0 without any."""
        values = self.model.parameters() if self.weights_dtype is None else ()
        kinds = {value.dtype for value in values if is_half(value)}
        return max((torch.finfo(kind).eps for kind in kinds), default=0.0)

    @property
    def rounds(self) -> bool:
        """Whether points are rounded to half precision, in which some parameters are."""
        return self.weights_eps > 0

    def lent(self) -> contextlib.AbstractContextManager[None]:
        """The context in which every use of the network happens."""
        return contextlib.nullcontext()

    def together(self) -> contextlib.AbstractContextManager[None]:
        """The context of all work of the ranks on a network in shards, see `ranks.together`."""
        return contextlib.nullcontext()

    def agree(self, **settings: Any) -> None:
        """Raise Disagreement unless all ranks of a network in shards have the same ``settings``."""

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of ``function(*arguments)``, which runs the network."""
        return function(*arguments)

    @property
    def description(self) -> dict[str, Any]:
        """The entries about the network in the metadata of a surface, of JSON types only."""
        return {}

    def in_precision(self, slice_: AnySlice) -> AnySlice:
        """``slice_`` in the dtype in which its points are computed; unchanged if parameters keep their own dtypes."""
        return slice_.to(self.dtype) if self.weights_dtype else slice_

    def move_along(self, slice_: Slice, coordinates: Sequence[float]) -> None:
        """Move the network to the point at ``coordinates`` of ``slice_``."""
        self.move_to(slice_(*coordinates))

    @property
    def renews(self) -> bool:
        """Whether statistics or other buffers depend on the point."""
        return self.batch_norm == "recalibrate" or bool(self.ends)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters by name; those that are tied appear once."""
        return dict(self.model.named_parameters())

    def move_to(self, point: Point) -> None:
        """Move the network to ``point``.

        Raises:
            InputError: the point does not belong to this network, or moves a parameter that the loss does not follow.
        """
        own = self.parameters
        point = without_wrapped_names(point, own)
        check_match(point, own)
        self._place(point, own)

    def place(self, point: Mapping[str, Tensor]) -> None:
        """Like `move_to`, for a point with exactly the names of this network."""
        self._place(point, self.parameters)

    def _place(self, point: Mapping[str, Tensor], own: Mapping[str, nn.Parameter]) -> None:
        values = self._own(point, own)
        for name, fixed in self.fixed.items():
            if bool(((values[name] - fixed).abs() > 4 * torch.finfo(fixed.dtype).eps * fixed.abs()).any()):
                raise InputError(_not_followed(name))
        self._values = values if self.overwrites else {}
        for name, parameter in own.items():
            parameter.data = values[name].clone() if self.overwrites else values[name]

    def renew(self) -> None:
        """Restore the values of the last point, if passes overwrite parameters."""
        if self.overwrites:
            for name, parameter in self.model.named_parameters():
                parameter.data = self._values[name].clone()

    def check_overwritten(self) -> None:
        """Raise InputError if the last pass has changed a parameter, which autograd does not take into account.

        Losses at such a point are right, but derivatives are not.
        """
        if not self.overwrites:
            return
        for name, parameter in self.model.named_parameters():
            if not torch.equal(parameter.data, self._values[name]):
                raise InputError(
                    f"the forward pass overwrites parameter {name!r} at this point, which derivatives do not include; "
                    "write the limited weights into the model first, or limit them in a differentiable way"
                )

    def note_memory(self, source: nn.Module, elsewhere: set[str], written: set[str]) -> None:
        """Take note of the parameters of ``source`` that passes read ``elsewhere``, and of those ``written``."""
        own = {name: value.detach() for name, value in named_parameters(source)}
        self.fixed = {name: self._converted(value, value).clone() for name, value in own.items() if name in elsewhere}
        self.overwrites = bool(written)
        self.place(own if self.overwrites else self.parameters)

    def check_followed(self, names: Iterable[str]) -> None:
        """Raise InputError if passes read one of the parameters ``names``, which are to be moved, from other memory."""
        for name in names:
            if name in self.fixed:
                raise InputError(_not_followed(name))

    def set_between(self, weights: Sequence[float]) -> None:
        """Set the buffers interpolated between several networks, see `between`.

        ``weights`` are those of the directions of a slice.
        """
        if self.ends:
            set_buffers(self.model, between(self.ends, weights))

    def take_buffers(self, ends: Sequence[Point]) -> None:
        """Set the buffers that are equal at all ``ends``, and store the others, which `set_between` interpolates."""
        moved = {layer.left for layer in spectral_layers(self.model)} | set(varying_names(ends))
        set_buffers(self.model, {name: value for name, value in ends[0].items() if name not in moved})
        if moved:
            self.ends = tuple({name: end[name].to(self.device) for name in moved} for end in ends)

    def buffer_fingerprint(self) -> str | None:
        """Fingerprint of the buffers that do not depend on the point; None if only BatchNorm statistics exist."""
        renewed = statistics_names(self.model) if self.batch_norm == "recalibrate" else set()
        if self.ends:
            layers = spectral_layers(self.model)
            renewed |= self.ends[0].keys() | {layer.right for layer in layers}
        kept = [buffer for name, buffer in self.model.named_buffers() if name not in renewed]
        return fingerprint(kept) if kept or self.batch_norm != "recalibrate" else None

    def of(self, model: nn.Module) -> "Network":
        """A private copy of another ``model``, with its present buffers and the settings of this one."""
        other = copy.copy(self)
        other.model, other.ends = self._private(model), ()
        other.source = point_moving(model, ())
        if any(parameter.requires_grad for parameter in self.model.parameters()):
            require_gradients(other.model)
        return other

    def twin(self) -> "Network":
        """A copy that shares neither parameters nor buffers with this network."""
        twin = copy.copy(self)
        twin.model = copy_of(self.model)
        return twin

    def in_double(self) -> "Network":
        """A copy in float64."""
        double = self.twin()
        double.model = double.model.double()
        double.take_dtype(torch.float64, ())
        return double

    def under(self, policy: Policy) -> "Network":
        """The same network with the BatchNorm policy ``policy``."""
        other = copy.copy(self)
        other.batch_norm = policy
        return other

    def _private(self, model: nn.Module) -> nn.Module:
        private = private_copy(model, self.device, self.weights_dtype)
        if self.batch_norm == "batch":
            use_batch_statistics(private)
        return private

    def _own(self, point: Mapping[str, Tensor], own: Mapping[str, nn.Parameter]) -> Point:
        """The values of ``point`` on the device and in the dtype of the network."""
        values = {}
        for name, parameter in own.items():
            value = aligned(self._converted(point[name].detach(), parameter))
            if value.numel() and value.data_ptr() == self.source[name].data_ptr():
                value = value.clone()  # passes may write into it, though they did not when they were watched
            whole = value.dtype != parameter.dtype
            values[name] = value.round().to(parameter.dtype) if whole else value
            if whole and not torch.allclose(values[name].to(value.dtype), value):
                raise InputError(f"parameter {name!r} holds whole numbers ({parameter.dtype}), so it cannot be moved")
        return values

    def _converted(self, value: Tensor, like: Tensor) -> Tensor:
        """``value`` on the device of the network, in the dtype that the parameter ``like`` has there."""
        own = like.dtype if like.is_floating_point() else None
        return converted(value, self.device, self.weights_dtype or own)


def between(ends: Sequence[Point], weights: Sequence[float]) -> Point:
    """(1 - sum_i w_i) ends[0] + sum_i w_i ends[i], exact at the ends; ends[0] if there are no ``weights``."""
    first, *others = ends
    weights = weights or [0.0] * len(others)
    rest = 1 - sum(weights)
    return {
        name: sum((w * end[name] for w, end in zip(weights, others, strict=True)), rest * value)
        for name, value in first.items()
    }


def _not_followed(name: str) -> str:
    return (
        f"the loss does not follow parameter {name!r}: forward, a hook or the loss reads it from the model that was "
        "passed in, or keeps what was computed from it; use the network that each of them is called with, and compute "
        "everything again in every pass"
    )
