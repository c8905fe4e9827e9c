"""Which hidden units of a network may change places, found by watching one forward pass.

A hidden unit (a neuron, a channel) is a row of the layer that makes it, an entry of the normalisation after it and a
column, or a block of columns, of every layer that reads it. Two activations that are added tie their units together, so
a unit of a residual network runs through many layers. Units with as many entries in the same tensors may change places:
if all their entries do, the network computes the same function.
"""

from collections import defaultdict
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from landscape.errors import InputError
from landscape.objective.trees import map_tensors, tensors_of

__all__ = ["READERS", "Group", "operation_name", "trace_coupling"]

CONSTANT, FIXED = 0, 1  # codes of places that hold one value for all units, and of places that stand for themselves

# Layers that read units, with the axis they read, counted from the end: that of a convolution depends on its kernel.
READERS = {"linear": -1, "conv1d": -2, "conv2d": -3, "conv3d": -4}
READERS |= {name.replace("conv", "conv_transpose"): axis for name, axis in READERS.items() if name != "linear"}

LAYER_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
TRANSPOSED_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups")
NORM_ARGUMENTS = {
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias"),
    "instance_norm": ("input", "running_mean", "running_var", "weight", "bias"),
    "group_norm": ("input", "num_groups", "weight", "bias"),
    "prelu": ("input", "weight"),
}

# By name, without the underscores of methods and of work in place. Equivariant: a permutation of the units before is
# the same permutation after.
EQUIVARIANT = {
    "abs", "add", "celu", "clamp", "clamp_max", "clamp_min", "clone", "contiguous", "cos", "data", "detach", "div",
    "double", "dropout", "dropout1d", "dropout2d", "dropout3d", "elu", "exp", "expm1", "feature_dropout", "float",
    "gelu", "hardsigmoid", "hardswish", "hardtanh", "iadd", "idiv", "imul", "isub", "itruediv", "layer_norm",
    "leaky_relu", "lerp", "log", "log1p", "log_softmax", "logsigmoid", "maximum", "minimum", "mish", "mul",
    "multiply", "neg", "normalize", "pow", "radd", "rdiv", "reciprocal", "relu", "relu6", "requires_grad", "rms_norm",
    "rmul", "rrelu", "rsqrt", "rsub", "rtruediv", "selu", "sigmoid", "silu", "sin", "softmax", "softmin", "softplus",
    "softshrink", "softsign", "sqrt", "square", "sub", "subtract", "tanh", "tanhshrink", "threshold", "to",
    "true_divide", "truediv", "type", "type_as", "where",
}  # fmt: skip
SHAPING = {
    "T", "chunk", "expand", "expand_as", "flatten", "getitem", "index_select", "mT", "movedim", "narrow", "permute",
    "ravel", "repeat", "reshape", "reshape_as", "select", "split", "squeeze", "swapaxes", "t", "transpose", "unbind",
    "unflatten", "unsqueeze", "view", "view_as",
}  # fmt: skip
JOINING = {"cat", "concat", "concatenate", "hstack", "stack"}
REDUCING = {"amax", "amin", "logsumexp", "max", "mean", "median", "min", "prod", "std", "sum", "var"}
POOLING = {f"{kind}_pool{d}d" for kind in ("adaptive_avg", "adaptive_max", "avg", "lp", "max") for d in (1, 2, 3)}
POOLING |= {"interpolate", "upsample"}
FILLING = {"full", "full_like", "new_full", "new_ones", "new_zeros", "ones", "ones_like", "zeros", "zeros_like"}


Places = dict[tuple[Any, ...], np.ndarray]  # key of `_Tracer.codes` -> positions of one unit


@dataclass(frozen=True, eq=False)
class Group:
    """Units of which every permutation, carried out at all places, leaves the function of the network as it is."""

    name: str  # the first layer that makes them
    places: dict[tuple[str, int], np.ndarray]  # (parameter or buffer, axis) -> positions [units, r] along the axis
    readings: dict[int, np.ndarray]  # number of the layer call that reads them -> positions [units, r] in what it reads

    @property
    def size(self) -> int:
        """How many units there are."""
        return len(next(iter(self.places.values())))


@torch.no_grad()
def trace_coupling(model: nn.Module, inputs: Tensor) -> list[Group]:
    """The groups of hidden units of ``model`` that may change places, in the order in which they are made.

    Units are followed through linear and (also depthwise) convolution layers, normalisation, elementwise functions,
    pooling, reductions, changes of shape, concatenation, zero padding and additions, whether they are modules or
    functions. Inputs and outputs stay as they are, and units never leave their group of a GroupNorm layer. A parameter
    that several layers share couples the units of all of them.

    Args:
        model: in eval mode.
        inputs: two samples or more.

    Raises:
        InputError: an operation through which units cannot be followed; it is named.
    """
    tracer = _Tracer(model)
    with tracer:
        outputs = model(inputs)
    return tracer.groups(outputs)


def operation_name(function: Any) -> str:
    """The name of a torch function, without the underscores of methods and of work in place."""
    name = getattr(function, "__name__", str(function))
    if name == "__get__":  # a property
        name = function.__self__.__name__
    return name.strip("_")


class _Tracer(TorchFunctionMode):
    """Labels every place of every activation with the code of its unit, and notes which codes are one unit."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.names = {id(tensor): name for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
        self.labels: dict[int, tuple[Tensor, Tensor]] = {}  # id -> (tensor, its labels); the tensor keeps its id
        # ("place", tensor, axis), ("reading", call), ("pen", ...) -> codes
        self.codes: dict[tuple[Any, ...], Tensor] = {}
        self.pairs: list[Tensor] = [torch.empty(2, 0, dtype=torch.int64)]  # codes of one unit
        self.count, self.calls = 2, 0
        self._known = (self.names, self.labels)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = operation_name(function)
        result = function(*args, **kwargs)
        outputs = tensors_of(result)
        if name in FILLING:
            self._set(result, torch.full(result.shape, CONSTANT))
        elif outputs and any(id(tensor) in known for tensor in tensors_of([args, kwargs]) for known in self._known):
            labels = self._rule(name)(name, function, args, kwargs, result)
            for output, value in zip(outputs, tensors_of(labels), strict=True):
                self._set(output, value)
        return result

    def groups(self, outputs: Any) -> list[Group]:
        """What may change places when ``outputs`` stay as they are."""
        if not isinstance(outputs, Tensor):
            raise InputError(f"the model returns {type(outputs).__name__}; units can be aligned where it is one tensor")
        self._couple(self._labels_of(outputs), torch.full(outputs.shape, FIXED))
        pairs = torch.cat(self.pairs, dim=1).numpy()
        graph = coo_matrix((np.ones(pairs.shape[1]), pairs), shape=(self.count, self.count))
        component = connected_components(graph, directed=False)[1]
        units: dict[int, Places] = defaultdict(dict)
        for key, codes in self.codes.items():
            owner = component[codes.numpy()]
            order = np.argsort(owner, kind="stable")
            found, starts = np.unique(owner[order], return_index=True)
            for unit, positions in zip(found, np.split(order, starts[1:]), strict=True):
                units[unit][key] = positions
        units.pop(component[FIXED], None)
        alike: dict[tuple[Any, ...], list[Places]] = defaultdict(list)
        for places in units.values():
            alike[tuple((key, len(positions)) for key, positions in places.items())].append(places)
        return _named_groups([members for members in alike.values() if len(members) > 1])

    def _rule(self, name: str) -> Callable[..., Any]:
        """The rule for the operation ``name``: (name, function, args, kwargs, result) -> labels of the result."""
        rules: tuple[tuple[Container[str], Callable[..., Any]], ...] = (
            (READERS, self._layer),
            (NORM_ARGUMENTS, self._channelwise),
            (EQUIVARIANT, self._equivariant),
            (SHAPING, self._shaped),
            (JOINING, self._joined),
            (REDUCING, self._reduced),
            (POOLING, self._pooled),
            (("pad",), self._padded),
        )
        return next((rule for names, rule in rules if name in names), self._unknown)

    def _layer(self, name: str, function: Any, args: Any, kwargs: Any, result: Any) -> Any:
        names = TRANSPOSED_ARGUMENTS if "transpose" in name else LAYER_ARGUMENTS
        given = dict(zip(names, args, strict=False)) | kwargs
        weight, bias, groups = given["weight"], given.get("bias"), given.get("groups", 1)
        if id(weight) not in self.names:
            raise InputError(f"cannot align: the weight of a {name} layer is no parameter, but computed from others")
        read = _along(self._labels_of(given["input"]), READERS[name])
        if groups == 1:
            inner, outer = (0, 1) if "transpose" in name else (1, 0)
            self._couple(self._place(weight, inner), read)
            made = self._place(weight, outer)
        elif groups == len(read) == result.shape[READERS[name]]:  # depthwise
            made = self._place(weight, 0)
            self._couple(made, read)
        else:
            raise InputError(
                f"cannot align: {self.names[id(weight)]!r} is a {name} layer with groups={groups}; "
                "grouped convolutions are followed only where every channel is its own group"
            )
        self.codes["reading", self.calls] = read
        self.calls += 1
        if bias is not None:
            self._couple(self._labels_of(bias), made)
        return _spread(made, READERS[name], result.shape)

    def _channelwise(self, name: str, function: Any, args: Any, kwargs: Any, result: Any) -> Any:
        given = dict(zip(NORM_ARGUMENTS[name], args, strict=False)) | kwargs
        labels, groups = self._labels_of(given.pop("input")), given.get("num_groups", 1)
        if 1 < groups < labels.shape[1]:
            for number, codes in enumerate(_along(labels, 1).chunk(groups)):
                self.codes["pen", len(self.codes), number] = codes
        vectors = [self._labels_of(given[key]) for key in NORM_ARGUMENTS[name] if isinstance(given.get(key), Tensor)]
        return self._merged([labels, *(vector.view(-1, *[1] * (labels.ndim - 2)) for vector in vectors)])

    def _equivariant(self, name: str, function: Any, args: Any, kwargs: Any, result: Any) -> Any:
        labels = [self._labels_of(tensor) for tensor in tensors_of([args, kwargs])]
        return self._merged(labels).expand(result.shape)

    def _shaped(self, name: str, function: Any, args: Any, kwargs: Any, result: Any) -> Any:
        return function(self._labels_of(args[0]).clone(), *args[1:], **kwargs)

    def _joined(self, name: str, function: Any, args: Any, kwargs: Any, result: Any) -> Any:
        return function(*map_tensors(self._labels_of, args), **map_tensors(self._labels_of, kwargs))

    def _padded(self, name: str, function: Any, args: Any, kwargs: Any, result: Any) -> Any:
        given = dict(zip(("input", "pad", "mode"), args, strict=False)) | kwargs
        labels = self._labels_of(given["input"]).double()  # some ways of padding do not take integers
        return torch.nn.functional.pad(labels, given["pad"], given.get("mode", "constant")).long()

    def _reduced(self, name: str, function: Any, args: Any, kwargs: Any, result: Any) -> Any:
        labels = self._labels_of(args[0])
        axes = kwargs.get("dim", args[1] if len(args) > 1 else None)
        axes = tuple(range(labels.ndim)) if axes is None else (axes,) if isinstance(axes, int) else tuple(axes)
        axis, shape = _unit_axis(labels), tensors_of(result)[0].shape
        if axis is not None and axis in [k % labels.ndim for k in axes]:
            reduced = torch.full(shape, FIXED)  # the same whatever the order of the units
        else:
            reduced = labels.amax(axes, keepdim=len(shape) == labels.ndim)
        return [reduced] * len(tensors_of(result))

    def _pooled(self, name: str, function: Any, args: Any, kwargs: Any, result: Any) -> Any:
        labels = self._labels_of(args[0] if args else kwargs["input"])
        space = int(name[-2]) if name[-1] == "d" else labels.ndim - 2
        axis = _unit_axis(labels)
        if axis is not None and axis >= labels.ndim - space:
            self._unknown(f"{name} over units")
        kept = labels.amax(tuple(range(-space, 0)), keepdim=True)
        return [kept.expand(tensor.shape) for tensor in tensors_of(result)]

    def _unknown(self, name: str, *_: object) -> NoReturn:
        raise InputError(
            f"cannot align: the operation {name!r} is not one through which hidden units can be followed (linear and "
            "convolution layers, normalisation, elementwise functions, pooling, changes of shape, additions)"
        )

    def _merged(self, labels: list[Tensor]) -> Tensor:
        """Labels of an elementwise combination: units at one place are one unit."""
        axes = {axis - each.ndim for each in labels if (axis := _unit_axis(each)) is not None}
        if len(axes) > 1:
            self._unknown("broadcasting units against units")
        axis = next(iter(axes), None)
        shape = torch.broadcast_shapes(*(each.shape for each in labels))
        merged = torch.full(shape, CONSTANT)
        for each in labels:
            if axis is not None and shape[axis] > 1 and (each.ndim < -axis or each.shape[axis] == 1):
                continue  # the same for all units
            self._couple(each.expand(shape), merged)
            merged = torch.where(merged == CONSTANT, each, merged)
        return merged

    def _place(self, tensor: Tensor, axis: int) -> Tensor:
        """The codes along ``axis`` of a parameter or buffer, new ones when it is met first."""
        key = ("place", self.names[id(tensor)], axis)
        if key not in self.codes:
            self.codes[key] = torch.arange(self.count, self.count + tensor.shape[axis])
            self.count += tensor.shape[axis]
        return self.codes[key]

    def _labels_of(self, tensor: Tensor) -> Tensor:
        if id(tensor) in self.labels:
            return self.labels[id(tensor)][1]
        if id(tensor) in self.names:
            axes = [axis for axis, size in enumerate(tensor.shape) if size > 1]
            if len(axes) > 1:
                name, shape = self.names[id(tensor)], tuple(tensor.shape)
                raise InputError(f"cannot align: {name!r} {shape} is used outside of a linear or convolution layer")
            if axes:
                return _spread(self._place(tensor, axes[0]), axes[0] - tensor.ndim, tensor.shape)
        return torch.full(tensor.shape, CONSTANT if tensor.numel() == 1 else FIXED)

    def _set(self, tensor: Tensor, labels: Tensor) -> None:
        self.labels[id(tensor)] = (tensor, labels)
        if bool((labels == FIXED).all()):
            del self.labels[id(tensor)]

    def _couple(self, first: Tensor, second: Tensor) -> None:
        """Note that the codes at equal places are one unit."""
        first, second = torch.broadcast_tensors(first, second)
        differ = (first != second) & (first != CONSTANT) & (second != CONSTANT)
        pairs = (first[differ] * self.count + second[differ]).unique()  # of numbers: much faster than of columns
        self.pairs.append(torch.stack([pairs // self.count, pairs % self.count]))


def _along(labels: Tensor, axis: int) -> Tensor:
    """The codes [n] along ``axis``; what is constant there counts as fixed."""
    rows = labels.movedim(axis, 0).flatten(1)
    codes = rows.amax(1)
    if bool(((rows != codes[:, None]) & (rows != CONSTANT)).any()):
        raise InputError("cannot align: a layer reads another axis than the one that holds the units")
    return codes.clamp(min=FIXED)


def _spread(codes: Tensor, axis: int, shape: tuple[int, ...]) -> Tensor:
    """Labels of ``shape`` that are ``codes`` along ``axis``, counted from the end."""
    return codes.view(-1, *[1] * (-axis - 1)).expand(shape)


def _unit_axis(labels: Tensor) -> int | None:
    """The axis along which the units differ, None where there is none."""
    axes = []
    for axis in range(labels.ndim):
        head, tail = labels.narrow(axis, 0, labels.shape[axis] - 1), labels.narrow(axis, 1, labels.shape[axis] - 1)
        if bool(((head != tail) & (head != CONSTANT) & (tail != CONSTANT)).any()):
            axes.append(axis)
    if len(axes) > 1:
        raise InputError("cannot align: an activation holds units along two of its axes")
    return axes[0] if axes else None


def _named_groups(alike: list[list[Places]]) -> list[Group]:
    groups: list[Group] = []
    taken: dict[str, int] = defaultdict(int)
    for members in alike:
        first = next(key for key in members[0] if key[0] == "place")
        members = sorted(members, key=lambda places: places[first][0])
        stacked = {key: np.stack([places[key] for places in members]) for key in members[0]}
        name = first[1].rpartition(".")[0] or first[1]
        taken[name] += 1
        groups.append(
            Group(
                name if taken[name] == 1 else f"{name} ({taken[name]})",
                {(key[1], key[2]): positions for key, positions in stacked.items() if key[0] == "place"},
                {key[1]: positions for key, positions in stacked.items() if key[0] == "reading"},
            )
        )
    return groups
