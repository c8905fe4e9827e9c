"""A point in parameter space is a plain ``dict[str, Tensor]`` keyed like ``named_parameters()``."""

import copy
import math

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.runtime import own_torch_state

__all__ = [
    "Point",
    "as_float64",
    "as_point",
    "check_match",
    "copy_of",
    "cosine",
    "flatten",
    "inner",
    "model_at",
    "norm",
    "parameters_of",
    "unflatten",
]

Point = dict[str, Tensor]


@own_torch_state()
def parameters_of(model: nn.Module) -> Point:
    """Copies of all parameters of ``model``, detached, in ``named_parameters`` order; tied weights once."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"parameters_of takes a torch.nn.Module, not {type(model).__name__}")
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@own_torch_state()
def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy; weights that a hook computed (pruning, weight_norm), which torch does not copy, are detached."""
    computed = (value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor))
    return copy.deepcopy(model, {id(value): value.detach().clone() for value in computed if not value.is_leaf})


@own_torch_state()
def model_at(model: nn.Module, point: Point) -> nn.Module:
    """A copy of ``model``, buffers included, with the parameters of ``point``.

    Raises:
        InputError: ``point`` does not belong to this network.
    """
    moved = copy_of(model)
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
    raise TypeError(f"a point is a module or a dict[str, Tensor], not {type(source).__name__}; see parameters_of")


def check_match(point: Point, reference: Point, what: str = "point", kind: str = "parameter") -> None:
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


def as_float64(tensor: Tensor) -> Tensor:
    """``tensor`` in float64, on the CPU where its device has no float64 (Apple's MPS)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


@own_torch_state()
def inner(a: Point, b: Point) -> float:
    """Inner product sum_i a_i b_i, in float64."""
    return sum(torch.dot(as_float64(a[name]).flatten(), as_float64(b[name]).flatten()).item() for name in a)


def norm(point: Point) -> float:
    """Euclidean norm of all parameters together, in float64."""
    return math.sqrt(inner(point, point))


def cosine(a: Point, b: Point) -> float:
    """Cosine of the angle between two directions; NaN where one of them is zero."""
    lengths = norm(a) * norm(b)
    return inner(a, b) / lengths if lengths else math.nan


@own_torch_state()
def flatten(point: Point) -> Tensor:
    """All parameters in one vector, in float64, on the CPU."""
    return torch.cat([value.detach().cpu().double().flatten() for value in point.values()])


@own_torch_state()
def unflatten(vector: Tensor, like: Point) -> Point:
    """The parts of ``vector`` under the names and in the shapes of ``like``."""
    pieces = vector.split([value.numel() for value in like.values()])
    return {name: piece.reshape(value.shape) for (name, value), piece in zip(like.items(), pieces, strict=True)}
