"""Points in parameter space, each a plain ``dict[str, Tensor]`` keyed like ``named_parameters()``."""

import copy
import itertools
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel
from torch.overrides import TorchFunctionMode

from landscape.errors import InputError, InputTypeError
from landscape.runtime import own_torch_state

__all__ = [
    "Point",
    "SharedPoint",
    "aligned",
    "as_float64",
    "as_point",
    "as_real",
    "check_finite",
    "check_match",
    "check_values",
    "copy_of",
    "cosine",
    "cut",
    "flatten",
    "in_precision",
    "inner",
    "is_continuous",
    "is_no_step",
    "is_step",
    "model_at",
    "named_parameters",
    "no_step",
    "norm",
    "parameters_of",
    "point_moving",
    "precise",
    "unflatten",
    "unwrapped",
    "whole_step",
    "with_wrapped_names",
    "without_wrapped_names",
    "wrapped_by",
    "wrapper_free",
]

# Where a module of torch.compile, FSDP1, activation checkpointing or Lightning Fabric holds what it wraps.
INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
SHARDED = "sharded over several processes; gather the whole model first (full_tensor, or full_state_dict)"

Point = dict[str, Tensor]


@own_torch_state()
def parameters_of(model: nn.Module) -> Point:
    """Detached copies of all parameters of ``model`` in the order of ``named_parameters``, tied weights once.

    The names are those without wrappers of compilation or parallel training, see `unwrapped`.

    Raises:
        InputError: a parameter has no values that can be copied, for instance on the meta device.
    """
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"parameters_of takes a torch.nn.Module, not {type(model).__name__}")
    check_values(model)
    point = {name: parameter.detach().clone() for name, parameter in named_parameters(model)}
    return with_wrapped_names(point, model)


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
    """``name`` of a parameter without what modules that wrap others inside of a network add to it."""
    return ".".join(part for part in name.split(".") if part not in INSIDE)


def named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """(name, parameter) of all parameters of ``model``; the names are those without compilation and wrappers."""
    for name, parameter in unwrapped(model).named_parameters():
        yield wrapper_free(name), parameter


class _Renamed(dict[str, Tensor]):
    """A point whose values can also be looked up under the names that a wrapper gives them."""

    def __missing__(self, name: str) -> Tensor:
        if (plain := _without_wrappers(name, self)) not in self:
            raise KeyError(name)
        return self[plain]


class SharedPoint(_Renamed):
    """A point that shares the memory of those parameters with its network that it does not move."""

    def __init__(self, values: Mapping[str, Tensor], shared: Iterable[str]):
        super().__init__(values)
        self._versions = {name: values[name]._version for name in shared}

    def __reduce__(self) -> tuple[type[dict[str, Tensor]], tuple[dict[str, Tensor]]]:
        """Copies and pickles share nothing with the network."""
        return dict, ({**self},)

    def check_unchanged(self, names: Container[str] | None = None) -> None:
        """Raise InputError where the network has been changed since in what is shared, or in ``names`` of that."""
        for name, version in self._versions.items():
            if self[name]._version != version and (names is None or name in names):
                raise InputError(
                    f"the network has been changed since: its parameter {name!r} was not copied, as it is not moved "
                    "here; make the slice and the objective anew"
                )


@own_torch_state()
def point_moving(source: nn.Module | Point, names: Container[str]) -> SharedPoint:
    """The point of ``source`` to move ``names`` of: copies of these, all others shared with it."""
    if isinstance(source, nn.Module):
        check_values(source)
        values: Mapping[str, Tensor] = {name: value.detach() for name, value in named_parameters(source)}
    else:
        values = as_point(source)
    own = {name: value.clone() if name in names or value.is_inference() else value for name, value in values.items()}
    return SharedPoint(own, [name for name, value in own.items() if value is values[name]])


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
    """``point`` of ``model``; if the model is wrapped, `"module.weight"` also looks up `"weight"`."""
    own = (name for name, _ in model.named_parameters())
    return point if all(name in point for name in own) else _Renamed(point)


def check_values(model: nn.Module) -> None:
    """Raise InputError if a parameter or buffer of ``model`` has no values that can be changed."""
    for module in model.modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            _check_fsdp1(module)
    for name, value in itertools.chain(model.named_parameters(), model.named_buffers()):
        if (trouble := _trouble(value)) is not None:
            raise InputError(f"the parameter {name!r} {trouble}")


def _check_fsdp1(module: Any) -> None:
    """Raise InputError if a module of FSDP1 holds a part of its parameters, or all of them in one row."""
    if module.sharding_strategy.name != "NO_SHARD" and module.process_group.size() > 1:
        raise InputError(f"the model is {SHARDED}")
    if any("_flat_param" in name for name, _ in module.named_parameters()):
        raise InputError("FSDP holds all parameters of the model in one; wrap it with use_orig_params=True")


def _trouble(value: Tensor) -> str | None:
    """Why ``value`` cannot be changed, and what to do; None if it can."""
    if is_lazy(value):
        return "has no shape yet; run one batch through the model first"
    if type(value).__name__ == "FakeTensor" or value.device.type == "meta":
        return "is on the meta device and has no values; load the model's weights (into memory, not offloaded)"
    if hasattr(value, "device_mesh"):
        return f"is {SHARDED}"
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


@own_torch_state()
def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy of ``model``; computed tensors that it holds (such as those of weight_norm) are detached.

    Submodules that wrap another module, such as compiled ones, are replaced by copies of that module.
    """
    memo: dict[int, Any] = {}
    with _DetachedCopies():
        for module in reversed([*model.modules()]):  # what is innermost first
            if (held := wrapped_by(module)) is not None:
                memo[id(module)] = copy.deepcopy(held, memo)
        return copy.deepcopy(model, memo)


class _DetachedCopies(TorchFunctionMode):
    """Detaches tensors with a gradient history when they are copied, which torch would refuse."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            return memo.setdefault(id(tensor), tensor.detach().clone())
        return function(*args, **(kwargs or {}))


@own_torch_state()
def model_at(model: nn.Module, point: Point) -> nn.Module:
    """A copy of ``model``, buffers included, with the parameters of ``point``.

    Raises:
        InputError: ``point`` has other names or shapes than the parameters of ``model``.
    """
    moved = copy_of(unwrapped(model))
    check_match(point, dict(moved.named_parameters()))
    for name, parameter in moved.named_parameters():
        parameter.data.copy_(point[name])
    return moved


@own_torch_state()
def as_point(source: nn.Module | Point) -> Point:
    """The parameters of a module, or the point itself."""
    if isinstance(source, nn.Module):
        return parameters_of(source)
    if isinstance(source, dict) and all(isinstance(value, Tensor) for value in source.values()):
        # Tensors made under torch.inference_mode can take no part in derivatives; their copies can.
        return {name: value.clone() if value.is_inference() else value for name, value in source.items()}
    raise InputTypeError(f"a point is a module or a dict[str, Tensor], not {type(source).__name__}; see parameters_of")


def check_match(
    point: Mapping[str, Tensor], reference: Mapping[str, Tensor], what: str = "point", kind: str = "parameter"
) -> None:
    """Raise InputError unless both have the same names and shapes; the first difference is named."""
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


def is_continuous(tensor: Tensor) -> bool:
    """Whether ``tensor`` holds real or complex numbers; integers and booleans are never moved."""
    return tensor.is_floating_point() or tensor.is_complex()


def no_step(like: Tensor) -> Tensor:
    """The step of a parameter that is not moved: zeros of the shape of ``like`` in the memory of one number."""
    one = torch.zeros((), dtype=precise(like.new_empty(0)).dtype, device=like.device)
    return one.expand(like.shape) if like.numel() > 1 else one.new_zeros(like.shape)


def whole_step(steps: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Point:
    """The direction at the point ``like`` that has these ``steps``, and is zero elsewhere, see `no_step`."""
    return {name: steps[name] if name in steps else no_step(value) for name, value in like.items()}


def is_no_step(tensor: Tensor) -> bool:
    """Whether ``tensor`` is made by `no_step`, so that it need not be looked through."""
    return tensor.numel() > 1 and not any(tensor.stride()) and not bool(tensor.as_strided((), ()).any())


def is_step(tensor: Tensor) -> bool:
    """Whether an entry of the direction ``tensor`` is not zero."""
    return not is_no_step(tensor) and bool(tensor.any())


def precise(tensor: Tensor) -> Tensor:
    """``tensor`` in float32 if it is in half precision, whose sums and differences are rounded too coarsely."""
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor


def in_precision(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor`` in ``dtype``, or in its complex counterpart; integers and booleans are left unchanged."""
    if is_no_step(tensor):
        return in_precision(tensor.as_strided((), ()), dtype).expand(tensor.shape)
    if tensor.is_complex():
        return tensor.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def as_float64(tensor: Tensor) -> Tensor:
    """``tensor`` in float64 (complex128); on the CPU if its device is Apple's MPS, which has no float64."""
    moved = tensor.cpu() if tensor.device.type == "mps" else tensor
    return moved.to(torch.complex128) if moved.is_complex() else moved.double()


def as_real(tensor: Tensor) -> Tensor:
    """``tensor`` in float64; complex numbers get a last axis of size 2 for their real and imaginary parts."""
    exact = as_float64(tensor.detach()).resolve_conj().resolve_neg()
    return torch.view_as_real(exact) if exact.is_complex() else exact


@own_torch_state()
def inner(a: Point, b: Point) -> float:
    """Inner product Re sum_i conj(a_i) b_i, in float64."""
    total = 0.0
    for name, value in a.items():
        if is_no_step(value) or is_no_step(b[name]):
            continue
        first, second = as_float64(value).flatten(), as_float64(b[name]).flatten()
        if first.is_complex() or second.is_complex():
            total += torch.vdot(first.to(torch.complex128), second.to(torch.complex128)).real.item()
        else:
            total += torch.dot(first, second).item()
    return total


def norm(point: Point) -> float:
    """Euclidean norm of all parameters together, in float64."""
    return math.sqrt(inner(point, point))


def cosine(a: Point, b: Point) -> float:
    """Cosine of the angle between two directions; NaN if one of them is zero."""
    lengths = norm(a) * norm(b)
    return inner(a, b) / lengths if lengths else math.nan


@own_torch_state()
def flatten(point: Point) -> Tensor:
    """All parameters as one vector in float64 on the CPU; complex numbers become their real and imaginary parts."""
    return torch.cat([as_real(value.cpu()).flatten() for value in point.values()])


def aligned(tensor: Tensor) -> Tensor:
    """``tensor``, copied if its storage offset is odd, at which torch cannot view pairs as complex numbers."""
    return tensor.clone() if tensor.storage_offset() % 2 else tensor


def cut(vector: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """``vector`` [D] split into pieces of ``sizes``, see `aligned`."""
    return [aligned(piece) for piece in vector.split(list(sizes))]


@own_torch_state()
def unflatten(vector: Tensor, like: Point) -> Point:
    """The inverse of `flatten`: ``vector`` [D] as a point with the names and shapes of ``like``."""
    pieces = cut(vector, [value.numel() * (1 + value.is_complex()) for value in like.values()])
    point = {}
    for (name, value), piece in zip(like.items(), pieces, strict=True):
        pairs = value.is_complex()
        point[name] = torch.view_as_complex(piece.reshape(*value.shape, 2)) if pairs else piece.reshape(value.shape)
    return point
