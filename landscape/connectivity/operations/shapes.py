"""Rules of operations that put entries at other places: changes of shape, repetition, joining, padding."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from landscape.connectivity.operations.call import Operation, tensors_in
from landscape.connectivity.units import PINNED

if TYPE_CHECKING:
    from landscape.connectivity.coupling import Tracer

__all__ = ["as_complex", "as_real", "joined", "padded", "repeated", "shaped"]


def shaped(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    labels = tracer.labels.of(operation.inputs[0])
    labels = labels.clone() if _is_in_place(operation.function) else labels
    args = operation.args[1:]
    if operation.args and operation.args[0] is not operation.inputs[0]:
        tracer.refuse(operation.name)
    return tensors_in(operation.function(labels, *args, **{k: v for k, v in operation.kwargs.items() if k != "input"}))


def repeated(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """The copies of a unit become its children; its copies for different samples of the batch count as one."""
    source = operation.inputs[0]
    labels = tracer.labels.of(source)
    (result,) = shaped(tracer, operation)
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
    return [torch.from_numpy(tracer.labels.units.copies(result.numpy(), number.numpy()))]


def as_complex(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """The real and the imaginary part of a number belong to one unit from here on."""
    with tracer:
        real, imaginary = operation.inputs[0].unbind(-1)
        result = real + imaginary
    return [tracer.labels.of(result)]


def as_real(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    return [tracer.labels.of(operation.inputs[0])[..., None].expand(operation.result.shape)]


def joined(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """Concatenation and stacking.

    Along the axis of the units, the units of all parts lie side by side. Along another axis, the units of all parts
    at the same place become one.
    """
    parts = [tensor for tensor in operation.inputs if tensor.numel()]
    new = operation.name == "stack"
    axis = operation.kwargs.get("dim", operation.args[1] if len(operation.args) > 1 else 0)
    axis = 1 if operation.name == "hstack" and parts[0].ndim > 1 else axis
    axis %= operation.result.ndim
    axes = [str(k) for k in range(parts[0].ndim)]
    factors = [tracer.labels.factors(part, axes)[0] for part in parts]
    if not new and not any(str(axis) in factor.axes for each in factors for factor in each):
        operands = [(part, [None if k == axis else name for k, name in enumerate(axes)]) for part in parts]
        return [tracer.contract(operands, axes, operation.result.shape)]
    labels = []
    for part in parts:
        mine = tracer.labels.of(part)
        if bool((mine < 0).any()):
            combined = tracer.labels.units.combine(tracer.labels.factors(part, axes)[0])
            mine = tracer.spread(combined, axes, part.shape)
        labels.append(mine)
    return [torch.stack(labels, axis) if new else torch.cat(labels, axis)]


def padded(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    known = operation.arguments(("input", "pad", "mode"))
    labels = tracer.labels.of(known["input"]).double()  # some ways of padding do not take integers
    return [torch.nn.functional.pad(labels, known["pad"], known.get("mode", "constant")).long()]


def _is_in_place(function: Any) -> bool:
    name = getattr(function, "__name__", "")
    return name.endswith("_") and not name.endswith("__")
