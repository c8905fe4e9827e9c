"""What the operations of torch do to the units of what they take: tables by name, and a rule for each of them.

A rule takes the tracer and an operation, and gives labels for each of its outputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from landscape.connectivity.units import PINNED, Factor
from landscape.errors import InputError

if TYPE_CHECKING:
    from landscape.connectivity.coupling import Tracer

__all__ = ["FILLING", "LEAVING", "READ_AXES", "RULES", "Operation", "Watch", "read_by", "tensors_in", "trailing"]

CONVOLUTIONS = {f"conv{space}d": space for space in (1, 2, 3)}
TRANSPOSED = {f"conv_transpose{space}d": space for space in (1, 2, 3)}
# Operations that read units, with the argument that holds them and the axis of that, counted from the end.
READ_AXES = {"linear": (0, -1), "addmm": (1, -1), "mm": (0, -1), "matmul": (0, -1)}
READ_AXES |= {name: (0, -1 - space) for name, space in (CONVOLUTIONS | TRANSPOSED).items()}

# Equivariant: a permutation of the units before is the same permutation after. By name, without the underscores of
# methods and of work in place.
EQUIVARIANT = {
    "abs", "add", "bitwise_and", "bitwise_not", "bitwise_or", "celu", "clamp", "clamp_max", "clamp_min", "clone",
    "conj", "contiguous", "cos", "data", "detach", "div", "double", "dropout", "dropout1d", "dropout2d", "dropout3d",
    "elu", "eq", "exp", "expm1", "feature_dropout", "float", "ge", "gelu", "gt", "hardsigmoid", "hardswish", "hardtanh",
    "iadd", "idiv", "imul", "imag", "isub", "itruediv", "le", "leaky_relu", "lerp", "log", "log1p", "logical_and",
    "logical_not", "logical_or", "logsigmoid", "lt", "masked_fill", "maximum", "minimum", "mish", "mul", "multiply",
    "ne", "neg", "pow", "radd", "rdiv", "real", "reciprocal", "relu", "relu6", "requires_grad", "rmul", "rpow", "rrelu",
    "rsqrt", "rsub", "rtruediv", "selu", "sigmoid", "silu", "sin", "softplus", "softshrink", "softsign", "sqrt",
    "square", "sub", "subtract", "tanh", "tanhshrink", "threshold", "true_divide", "truediv", "where",
}  # fmt: skip
CASTING = {"bfloat16", "half", "to", "type", "type_as"}  # which take only the first of two tensors
SHAPING = {
    "T", "chunk", "flatten", "flip", "gather", "getitem", "index_select", "mT", "movedim", "narrow", "permute", "ravel",
    "reshape", "reshape_as", "roll", "select", "split", "squeeze", "swapaxes", "t", "tensor_split", "transpose",
    "unbind", "unflatten", "unsqueeze", "view", "view_as",
}  # fmt: skip
REPEATING = {"expand", "expand_as", "repeat", "repeat_interleave", "tile"}
JOINING = {"cat", "concat", "concatenate", "hstack", "stack"}
REDUCING = {
    "amax",
    "amin",
    "linalg_vector_norm",
    "logsumexp",
    "max",
    "mean",
    "median",
    "min",
    "prod",
    "std",
    "sum",
    "var",
}
POOLING = {f"{kind}_pool{d}d" for kind in ("adaptive_avg", "adaptive_max", "avg", "lp", "max") for d in (1, 2, 3)}
POOLING |= {"interpolate", "upsample"}
FILLING = {"full", "full_like", "new_full", "new_ones", "new_zeros", "ones", "ones_like", "zeros", "zeros_like"}
LEAVING = {"array", "numpy", "tolist"}  # torch, so that what follows is not seen
PRODUCTS = {"bmm", "matmul", "mm", "mv"}

LAYER_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
TRANSPOSED_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups")
CHANNEL_ARGUMENTS = {
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias"),
    "group_norm": ("input", "num_groups", "weight", "bias"),
    "instance_norm": ("input", "running_mean", "running_var", "weight", "bias"),
    "prelu": ("input", "weight"),
}
NORMALISING_ARGUMENTS = {
    "layer_norm": ("input", "axes", "weight", "bias"),
    "log_softmax": ("input", "dim"),
    "normalize": ("input", "p", "dim"),
    "rms_norm": ("input", "axes", "weight"),
    "softmax": ("input", "dim"),
    "softmin": ("input", "dim"),
}


@dataclass(frozen=True)
class Operation:
    """One call of a torch function."""

    name: str
    function: Any
    args: Sequence[Any]
    kwargs: dict[str, Any]
    result: Any

    @cached_property
    def outputs(self) -> list[Tensor]:
        """The tensors of the result."""
        return tensors_in(self.result)

    @cached_property
    def inputs(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return tensors_in([self.args, self.kwargs])

    def arguments(self, names: Sequence[str]) -> dict[str, Any]:
        """The arguments by name."""
        return dict(zip(names, self.args, strict=False)) | self.kwargs


Rule = Callable[["Tracer", Operation], list[Tensor]]


def tensors_in(arguments: Any) -> list[Tensor]:
    """The tensors among arguments or results, in order."""
    if isinstance(arguments, Tensor):
        return [arguments]
    parts = arguments.values() if isinstance(arguments, dict) else arguments
    return [each for part in parts for each in tensors_in(part)] if isinstance(arguments, dict | list | tuple) else []


def operation_name(function: Any) -> str:
    """The name of a torch function, without the underscores of methods and of work in place."""
    name = getattr(function, "__name__", str(function))
    if name == "__get__":  # a property
        name = function.__self__.__name__
    return str(name).strip("_")


def entered(function: Any) -> Callable[..., Any] | None:
    """A function written in Python, without its own question whether it is watched; None for others."""
    if not isinstance(function, FunctionType) or function.__closure__:
        return None
    unwatched = {name: lambda *_: False for name in function.__globals__ if name.startswith("has_torch_function")}
    if not unwatched:
        return None
    inner = FunctionType(
        function.__code__, {**function.__globals__, **unwatched}, function.__name__, function.__defaults__
    )
    inner.__kwdefaults__ = function.__kwdefaults__
    return inner


class Watch(TorchFunctionMode, ABC):
    """Watches the calls of torch functions, also those inside of functions that are written in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0  # of layers

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, operation_name(function)
        if name not in RULES and (inner := entered(function)):
            with self:
                return inner(*args, **kwargs)
        return self.watched(name, function, args, kwargs)

    @abstractmethod
    def watched(self, name: str, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """What the function called ``name`` gives."""


def trailing(count: int) -> list[str]:
    """Names of ``count`` axes, equal where they are equally far from the last one."""
    return [str(k) for k in range(count, 0, -1)]


def read_by(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Tensor, int]:
    """What the operation ``name``, one of `READ_AXES`, reads, and the axis of the units there, from the end."""
    position, axis = READ_AXES[name]
    return args[position] if len(args) > position else kwargs["input" if position == 0 else "mat1"], axis


def _layer(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """Linear and convolution layers: what is read meets the input axis of the weight, what is made the output axis."""
    name = operation.name
    transposed, space = name in TRANSPOSED, (CONVOLUTIONS | TRANSPOSED).get(name, 0)
    known = operation.arguments(TRANSPOSED_ARGUMENTS if transposed else LAYER_ARGUMENTS)
    weight, groups = known["weight"], known.get("groups", 1)
    if not tracer.is_parameter(weight):
        raise InputError(f"cannot align: the weight of a {name} layer is no parameter, but computed from others")
    batch = [f"batch {k}" for k in range(known["input"].ndim - 1 - space)]
    read, made = [*batch, "in", *_spatial(space)], [*batch, "out", *_spatial(space)]
    kernel: list[str | None] = ["in", "out"] if transposed else ["out", "in"]
    channels = known["input"].shape[-1 - space]
    if groups > 1:
        if not groups == channels == operation.result.shape[-1 - space]:
            raise InputError(
                f"cannot align: {tracer.name_of(weight)!r} is a {name} layer with groups={groups}; grouped "
                "convolutions are followed only where every channel is its own group"
            )
        kernel, read = ["out", None], made
    if space and any(
        axis in factor.axes for factor in tracer.factors(known["input"], read)[0] for axis in _spatial(space)
    ):
        raise InputError("cannot align: a layer reads another axis than the one that holds the units")
    operands: list[tuple[Tensor, Sequence[str | None]]] = [(known["input"], read), (weight, kernel + [None] * space)]
    labels = tracer.contract(operands, made, operation.result.shape)
    if (bias := known.get("bias")) is not None:
        labels = tracer.sum_with(operation.result, labels, bias, made[: made.index("out") + 1])
    return [labels]


def _spatial(count: int) -> list[str]:
    return [f"space {k}" for k in range(count)]


def _embedding(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    known = operation.arguments(("input", "weight"))
    weight = known["weight"]
    if not tracer.is_parameter(weight):
        raise InputError("cannot align: the weight of an embedding is no parameter, but computed from others")
    for factor in tracer.factors(weight, ["row", None])[0]:
        tracer.units.join(factor.codes, np.array(PINNED))  # numbers pick the rows
    axes = [*(None for _ in range(known["input"].ndim)), "out"]
    return [tracer.contract([(weight, [None, "out"])], axes, operation.result.shape)]


def _product(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    first, second = operation.args[:2] if len(operation.args) > 1 else operation.inputs
    return [tracer.contract(*_product_axes(first, second), operation.result.shape)]


def _product_axes(first: Tensor, second: Tensor) -> tuple[list[tuple[Tensor, list[str]]], list[str]]:
    """The names of the axes of a matrix product: batch axes, rows, columns and what is summed over."""
    batch = [f"batch {k}" for k in range(max(first.ndim, second.ndim) - 2, 0, -1)]
    rows = ["row"] if first.ndim > 1 else []
    columns = ["column"] if second.ndim > 1 else []
    left = [*batch[len(batch) - max(first.ndim - 2, 0) :], *rows, "summed"]
    right = [*batch[len(batch) - max(second.ndim - 2, 0) :], "summed", *columns]
    return [(first, left), (second, right)], [*batch, *rows, *columns]


def _sum_with_product(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """addmm and baddbmm."""
    added, first, second = operation.inputs
    labels = tracer.contract(*_product_axes(first, second), operation.result.shape)
    return [tracer.sum_with(operation.result, labels, added, trailing(operation.result.ndim))]


def _einsum(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    text = operation.args[0]
    operands = operation.inputs
    if not isinstance(text, str):
        tracer.refuse("einsum of numbered axes")
    inputs, _, output = text.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if "->" not in text:
        letters = inputs.replace(",", "").replace("...", "")
        output = "..." * ("..." in inputs) + "".join(sorted(k for k in set(letters) if letters.count(k) == 1))

    def axes(term: str, count: int) -> list[str]:
        head, dots, tail = term.partition("...")
        missing = count - len(head) - len(tail)
        return [*head, *(f"batch {k}" for k in range(missing, 0, -1)), *tail] if dots else [*head]

    named = [(tensor, axes(term, tensor.ndim)) for tensor, term in zip(operands, terms, strict=True)]
    return [tracer.contract(named, axes(output, operation.result.ndim), operation.result.shape)]


def _attention(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """Scaled dot-product attention, taken apart."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    known = operation.arguments(names)
    (query, key, value), mask = (known[name] for name in names[:3]), known.get("attn_mask")
    with tracer:
        if known.get("enable_gqa"):
            key, value = (each.repeat_interleave(query.shape[-3] // each.shape[-3], dim=-3) for each in (key, value))
        scores = torch.einsum("...qi,...ki->...qk", query, key)  # which is not counted among the calls of layers
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        result = torch.einsum("...qk,...ki->...qi", scores.softmax(-1), value)
    return [tracer.labels_of(result)]


def _channelwise(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """Normalisation of channels, along the second axis, by vectors with an entry for each."""
    names = CHANNEL_ARGUMENTS[operation.name]
    known = operation.arguments(names)
    activation, groups = known.pop("input"), known.get("num_groups", 1)
    vectors = [known[key] for key in names if isinstance(known.get(key), Tensor)]
    axes = [str(k) for k in range(activation.ndim)]
    if 1 < groups < activation.shape[1]:
        for factor in tracer.factors(activation, axes)[0]:
            if factor.axes != ("1",):
                raise InputError("cannot align: an activation holds units along two of its axes")
            tracer.units.reduce(Factor(("group", "channel"), factor.codes.reshape(groups, -1)), {"channel"})
    operands = [(activation, axes), *((vector, ["1"]) for vector in vectors if len(vector) > 1)]
    return [tracer.contract(operands, axes, operation.result.shape)]


def _normalised(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """Normalisation along axes: softmax and layer norm; then a scale and a shift of each entry."""
    names = NORMALISING_ARGUMENTS[operation.name]
    known = operation.arguments(names)
    activation = known["input"]
    if "axes" in names:
        count = len(known["axes"] if "axes" in known else known["normalized_shape"])
        over = range(activation.ndim - count, activation.ndim)
    else:
        over = range((known.get("dim") if known.get("dim") is not None else 1) % activation.ndim, activation.ndim)[:1]
    axes = [str(k) for k in range(activation.ndim)]
    if whole := tracer.units.combine(tracer.factors(activation, axes)[0]):
        tracer.units.reduce(whole, {str(k) for k in over})
    vectors = [known[key] for key in ("weight", "bias") if isinstance(known.get(key), Tensor)]
    return [tracer.elementwise([activation, *vectors], operation.result.shape)]


def _equivariant(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    return [tracer.elementwise(operation.inputs, operation.result.shape)]


def _cast(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    return [tracer.labels_of(operation.inputs[0])]


def _shaped(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    labels = tracer.labels_of(operation.inputs[0])
    labels = labels.clone() if _is_in_place(operation.function) else labels
    args = operation.args[1:]
    if operation.args and operation.args[0] is not operation.inputs[0]:
        tracer.refuse(operation.name)
    return tensors_in(operation.function(labels, *args, **{k: v for k, v in operation.kwargs.items() if k != "input"}))


def _is_in_place(function: Any) -> bool:
    name = getattr(function, "__name__", "")
    return name.endswith("_") and not name.endswith("__")


def _repeated(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """Copies of one unit are children of it; the copies for each sample of the batch are one."""
    source = operation.inputs[0]
    labels = tracer.labels_of(source)
    (result,) = _shaped(tracer, operation)
    if bool((labels <= PINNED).all()):
        return [result]
    places = operation.function(
        torch.arange(source.numel()).view(source.shape), *operation.args[1:], **operation.kwargs
    )
    if len(places) == tracer.samples and (source.ndim < places.ndim or source.shape[0] == 1):
        places = places[:1]
    number = torch.empty_like(places.flatten())
    order = places.flatten().sort(stable=True)
    first = torch.searchsorted(order.values, order.values)
    number[order.indices] = torch.arange(len(first)) - first
    number = number.view(places.shape).expand(result.shape)
    return [torch.from_numpy(tracer.units.copies(result.numpy(), number.numpy()))]


def _as_complex(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """Real and imaginary part are one unit from here on."""
    with tracer:
        real, imaginary = operation.inputs[0].unbind(-1)
        result = real + imaginary
    return [tracer.labels_of(result)]


def _as_real(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    return [tracer.labels_of(operation.inputs[0])[..., None].expand(operation.result.shape)]


def _joined(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """Side by side along the axis of the units, or along another one, where what lies at one place is one unit."""
    parts = [tensor for tensor in operation.inputs if tensor.numel()]
    new = operation.name == "stack"
    axis = operation.kwargs.get("dim", operation.args[1] if len(operation.args) > 1 else 0)
    axis = 1 if operation.name == "hstack" and parts[0].ndim > 1 else axis
    axis %= operation.result.ndim
    axes = [str(k) for k in range(parts[0].ndim)]
    factors = [tracer.factors(part, axes)[0] for part in parts]
    if not new and not any(str(axis) in factor.axes for each in factors for factor in each):
        operands = [(part, [None if k == axis else name for k, name in enumerate(axes)]) for part in parts]
        return [tracer.contract(operands, axes, operation.result.shape)]
    labels = []
    for part in parts:
        mine = tracer.labels_of(part)
        if bool((mine < 0).any()):
            combined = tracer.units.combine(tracer.factors(part, axes)[0])
            mine = tracer.spread(combined, axes, part.shape)
        labels.append(mine)
    return [torch.stack(labels, axis) if new else torch.cat(labels, axis)]


def _padded(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    known = operation.arguments(("input", "pad", "mode"))
    labels = tracer.labels_of(known["input"]).double()  # some ways of padding do not take integers
    return [torch.nn.functional.pad(labels, known["pad"], known.get("mode", "constant")).long()]


def _reduced(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    tensor = operation.inputs[0]
    tracer.check_whole(tensor)
    axes = [str(k) for k in range(tensor.ndim)]
    position = 2 if operation.name == "linalg_vector_norm" else 1
    over = operation.kwargs.get("dim", operation.args[position] if len(operation.args) > position else None)
    over = range(tensor.ndim) if over is None else (over,) if isinstance(over, int) else over
    reduced = {str(k % tensor.ndim) for k in over}
    whole = tracer.units.combine(tracer.factors(tensor, axes)[0])
    blocks = tracer.units.reduce(whole, reduced) if whole else None
    shape = operation.outputs[0].shape
    kept = axes if len(shape) == tensor.ndim else [axis for axis in axes if axis not in reduced]
    return [tracer.spread(blocks, kept, shape)] * len(operation.outputs)


def _pooled(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    name, tensor = operation.name, operation.inputs[0]
    space = int(name[-2]) if name[-1] == "d" else tensor.ndim - 2
    axes = [*(str(k) for k in range(tensor.ndim - space)), *_spatial(space)]
    factors, _ = tracer.factors(tensor, axes)
    if any(axis in factor.axes for factor in factors for axis in _spatial(space)):
        tracer.refuse(f"{name} over units")
    whole = tracer.units.combine(factors)
    return [tracer.spread(whole, axes, output.shape) for output in operation.outputs]


RULES: dict[str, Rule] = {
    name: rule
    for names, rule in (
        (("linear", *CONVOLUTIONS, *TRANSPOSED), _layer),
        (("embedding",), _embedding),
        (PRODUCTS, _product),
        (("addmm", "baddbmm"), _sum_with_product),
        (("einsum",), _einsum),
        (("scaled_dot_product_attention",), _attention),
        (CHANNEL_ARGUMENTS, _channelwise),
        (NORMALISING_ARGUMENTS, _normalised),
        (EQUIVARIANT, _equivariant),
        (CASTING, _cast),
        (SHAPING, _shaped),
        (REPEATING, _repeated),
        (("view_as_complex",), _as_complex),
        (("view_as_real",), _as_real),
        (JOINING, _joined),
        (REDUCING, _reduced),
        (POOLING, _pooled),
        (("pad",), _padded),
    )
    for name in names
}
