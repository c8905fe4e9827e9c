"""Rules of operations that sum over units: layers, embeddings, matrix products and attention."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from landscape.connectivity.operations.call import CONVOLUTIONS, TRANSPOSED, Operation, spatial, trailing
from landscape.connectivity.units import PINNED
from landscape.errors import InputError

if TYPE_CHECKING:
    from landscape.connectivity.coupling import Tracer

__all__ = ["attention", "einsum", "embedding", "layer", "product", "sum_with_product"]

LAYER_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
TRANSPOSED_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups")


def layer(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """Linear and convolution layers, transposed ones too.

    The units of the input are those along the input axis of the weight, and the units of the output are those along its
    output axis.

    Raises:
        InputError: the weight is computed from other tensors, a convolution has groups of several channels, or a
            spatial axis of the input holds units.
    """
    name = operation.name
    transposed, space = name in TRANSPOSED, (CONVOLUTIONS | TRANSPOSED).get(name, 0)
    known = operation.arguments(TRANSPOSED_ARGUMENTS if transposed else LAYER_ARGUMENTS)
    weight, groups = known["weight"], known.get("groups", 1)
    if not tracer.labels.is_parameter(weight):
        raise InputError(f"cannot align: the weight of a {name} layer is no parameter, but computed from others")
    batch = [f"batch {k}" for k in range(known["input"].ndim - 1 - space)]
    read, made = [*batch, "in", *spatial(space)], [*batch, "out", *spatial(space)]
    kernel: list[str | None] = ["in", "out"] if transposed else ["out", "in"]
    channels = known["input"].shape[-1 - space]
    if groups > 1:
        if not groups == channels == operation.result.shape[-1 - space]:
            raise InputError(
                f"cannot align: {tracer.labels.name_of(weight)!r} is a {name} layer with groups={groups}; grouped "
                "convolutions are followed only where every channel is its own group"
            )
        kernel, read = ["out", None], made
    if space and any(
        axis in factor.axes for factor in tracer.labels.factors(known["input"], read)[0] for axis in spatial(space)
    ):
        raise InputError("cannot align: a layer reads another axis than the one that holds the units")
    operands: list[tuple[Tensor, Sequence[str | None]]] = [(known["input"], read), (weight, kernel + [None] * space)]
    labels = tracer.contract(operands, made, operation.result.shape)
    if (bias := known.get("bias")) is not None:
        labels = tracer.sum_with(operation.result, labels, bias, made[: made.index("out") + 1])
    return [labels]


def embedding(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    known = operation.arguments(("input", "weight"))
    weight = known["weight"]
    if not tracer.labels.is_parameter(weight):
        raise InputError("cannot align: the weight of an embedding is no parameter, but computed from others")
    for factor in tracer.labels.factors(weight, ["row", None])[0]:
        tracer.labels.units.join(factor.codes, np.array(PINNED))  # indices select the rows
    axes = [*(None for _ in range(known["input"].ndim)), "out"]
    return [tracer.contract([(weight, [None, "out"])], axes, operation.result.shape)]


def product(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    first, second = operation.args[:2] if len(operation.args) > 1 else operation.inputs
    return [tracer.contract(*_product_axes(first, second), operation.result.shape)]


def _product_axes(first: Tensor, second: Tensor) -> tuple[list[tuple[Tensor, list[str]]], list[str]]:
    """Both factors of a matrix product with the names of their axes, and the names of the axes of the product."""
    batch = [f"batch {k}" for k in range(max(first.ndim, second.ndim) - 2, 0, -1)]
    rows = ["row"] if first.ndim > 1 else []
    columns = ["column"] if second.ndim > 1 else []
    left = [*batch[len(batch) - max(first.ndim - 2, 0) :], *rows, "summed"]
    right = [*batch[len(batch) - max(second.ndim - 2, 0) :], "summed", *columns]
    return [(first, left), (second, right)], [*batch, *rows, *columns]


def sum_with_product(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """The operations addmm and baddbmm: a tensor plus a matrix product."""
    added, first, second = operation.inputs
    labels = tracer.contract(*_product_axes(first, second), operation.result.shape)
    return [tracer.sum_with(operation.result, labels, added, trailing(operation.result.ndim))]


def einsum(tracer: "Tracer", operation: Operation) -> list[Tensor]:
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


def attention(tracer: "Tracer", operation: Operation) -> list[Tensor]:
    """Scaled dot-product attention, computed by the products and the softmax that it consists of."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    known = operation.arguments(names)
    (query, key, value), mask = (known[name] for name in names[:3]), known.get("attn_mask")
    with tracer:
        if known.get("enable_gqa"):
            key, value = (each.repeat_interleave(query.shape[-3] // each.shape[-3], dim=-3) for each in (key, value))
        scores = torch.einsum("...qi,...ki->...qk", query, key)  # einsum is not counted among the calls of layers
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        result = torch.einsum("...qk,...ki->...qi", scores.softmax(-1), value)
    return [tracer.labels.of(result)]
