"""Rules of elementwise operations, and of those over entries along some axes: normalisation, reduction, pooling."""

from typing import TYPE_CHECKING

from torch import Tensor

from landscape.connectivity.operations.call import Operation, spatial
from landscape.connectivity.units import Factor
from landscape.errors import InputError

if TYPE_CHECKING:
    from landscape.connectivity.coupling import Tracer

__all__ = [
    "CHANNEL_ARGUMENTS",
    "NORMALISING_ARGUMENTS",
    "cast",
    "channelwise",
    "equivariant",
    "normalised",
    "pooled",
    "reduced",
]

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


def equivariant(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    return [tracer.elementwise(operation.inputs, operation.result.shape)]


def cast(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    return [tracer.labels.of(operation.inputs[0])]


def channelwise(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """Batch, group and instance norm and PReLU: vectors with one entry for each channel, along the second axis."""
    names = CHANNEL_ARGUMENTS[operation.name]
    known = operation.arguments(names)
    activation, groups = known.pop("input"), known.get("num_groups", 1)
    vectors = [known[key] for key in names if isinstance(known.get(key), Tensor)]
    axes = [str(k) for k in range(activation.ndim)]
    if 1 < groups < activation.shape[1]:
        for factor in tracer.labels.factors(activation, axes)[0]:
            if factor.axes != ("1",):
                raise InputError("cannot align: an activation holds units along two of its axes")
            tracer.labels.units.reduce(Factor(("group", "channel"), factor.codes.reshape(groups, -1)), {"channel"})
    operands = [(activation, axes), *((vector, ["1"]) for vector in vectors if len(vector) > 1)]
    return [tracer.contract(operands, axes, operation.result.shape)]


def normalised(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """Normalisation along axes, as in softmax and layer norm, with the scale and the shift of each entry after it."""
    names = NORMALISING_ARGUMENTS[operation.name]
    known = operation.arguments(names)
    activation = known["input"]
    if "axes" in names:
        count = len(known["axes"] if "axes" in known else known["normalized_shape"])
        over = range(activation.ndim - count, activation.ndim)
    else:
        over = range((known.get("dim") if known.get("dim") is not None else 1) % activation.ndim, activation.ndim)[:1]
    axes = [str(k) for k in range(activation.ndim)]
    if whole := tracer.labels.units.combine(tracer.labels.factors(activation, axes)[0]):
        tracer.labels.units.reduce(whole, {str(k) for k in over})
    vectors = [known[key] for key in ("weight", "bias") if isinstance(known.get(key), Tensor)]
    return [tracer.elementwise([activation, *vectors], operation.result.shape)]


def reduced(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    tensor = operation.inputs[0]
    if len(operation.inputs) == 2 and operation.name in ("max", "min"):  # torch.max(a, b), entry by entry
        return equivariant(tracer, operation)
    tracer.labels.check_whole(tensor)
    axes = [str(k) for k in range(tensor.ndim)]
    position = 2 if operation.name == "linalg_vector_norm" else 1
    over = operation.kwargs.get("dim", operation.args[position] if len(operation.args) > position else None)
    over = range(tensor.ndim) if over is None else (over,) if isinstance(over, int) else over
    reduced = {str(k % tensor.ndim) for k in over}
    whole = tracer.labels.units.combine(tracer.labels.factors(tensor, axes)[0])
    blocks = tracer.labels.units.reduce(whole, reduced) if whole else None
    shape = operation.outputs[0].shape
    kept = axes if len(shape) == tensor.ndim else [axis for axis in axes if axis not in reduced]
    return [tracer.spread(blocks, kept, shape)] * len(operation.outputs)


def pooled(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    name, tensor = operation.name, operation.inputs[0]
    space = int(name[-2]) if name[-1] == "d" else tensor.ndim - 2
    axes = [*(str(k) for k in range(tensor.ndim - space)), *spatial(space)]
    factors, _ = tracer.labels.factors(tensor, axes)
    if any(axis in factor.axes for factor in factors for axis in spatial(space)):
        tracer.refuse(f"{name} over units")
    whole = tracer.labels.units.combine(factors)
    return [tracer.spread(whole, axes, output.shape) for output in operation.outputs]
