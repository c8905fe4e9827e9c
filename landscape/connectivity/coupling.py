"""The hidden units of a network that can be permuted, found by watching one forward pass.

A hidden unit (a neuron, a channel, a dimension of the residual stream) is a row of the layer that makes it, an entry of
the normalisation after it, and a column, or a block of columns, of every layer that reads it. Adding two activations
couples their units, so a unit of a residual network extends through many layers. An attention head is a block of such
units. Units with equally many entries in the same tensors can be exchanged: if all their entries are exchanged, the
network computes the same function.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from landscape.connectivity.groups import Group, Reading, groups_of
from landscape.connectivity.inputs import Inputs, run
from landscape.connectivity.labels import Labels
from landscape.connectivity.operations import (
    FILLING,
    LEAVING,
    READ_AXES,
    RULES,
    Operation,
    Watch,
    read_by,
    tensors_in,
    trailing,
)
from landscape.connectivity.units import PINNED, SAME, Factor
from landscape.errors import InputError

__all__ = ["Coupling", "Tracer", "trace_coupling"]


@dataclass(frozen=True, eq=False)
class Coupling:
    """The groups of units of a network that can be permuted."""

    groups: list[Group]  # in the order in which their units are made
    precision: float  # the largest machine epsilon of the dtypes in which the pass computed


@torch.no_grad()
def trace_coupling(model: nn.Module, inputs: Inputs, constants: Collection[str] = ()) -> Coupling:
    """The groups of hidden units of ``model`` that can be permuted, in the order in which they are made.

    Units are followed through linear, convolution (also depthwise) and embedding layers, attention, normalisation,
    elementwise functions, pooling, reductions, changes of shape, concatenation, zero padding and additions, whether
    they are modules or functions. The components of inputs and outputs are not permuted. A parameter that several
    layers share couples the units of all of them.

    Args:
        model: A network in eval mode.
        inputs: At least two samples.
        constants: Names of buffers that are not permuted; units can be exchanged if such a buffer is equal for them.

    Raises:
        InputError: The pass contains an operation through which units cannot be followed; the message names it.
    """
    samples = len(tensors_in(inputs)[0])
    tracer = Tracer(model, samples, constants)
    with tracer:
        outputs = run(model, inputs)
    tracer.labels.pin(outputs)
    return Coupling(groups_of(tracer.labels.units, tracer.labels.held), tracer.precision)


class Tracer(Watch):
    """A watch that labels the result of every operation with units, from the labels of its operands."""

    def __init__(self, model: nn.Module, samples: int, constants: Collection[str]):
        super().__init__()
        self.labels, self.samples, self.precision = Labels(model, constants), samples, 0.0

    def watched(self, name: str, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        has_units = any(map(self.labels.knows, tensors_in([args, kwargs])))
        if has_units and name in READ_AXES:
            self._note(Reading(self.calls), *read_by(name, args, kwargs))
        result = function(*args, **kwargs)
        if has_units and tensors_in(result):
            self._follow(Operation(name, function, args, kwargs, result))
        elif has_units and name in LEAVING:
            self.refuse(name)
        elif name in FILLING:
            self.labels.put(result, torch.full((), SAME).expand(result.shape))
        if name in READ_AXES:
            self._note(Reading(self.calls, "made"), result, READ_AXES[name][1])
            self.calls += 1
        return result

    def _follow(self, operation: Operation) -> None:
        if rule := RULES.get(operation.name):
            for output, labels in zip(operation.outputs, rule(self, operation), strict=True):
                self.labels.put(output, labels)
                if output.is_floating_point():
                    self.precision = max(self.precision, torch.finfo(output.dtype).eps)
        elif not self.labels.are_same(filter(self.labels.knows, operation.inputs)):
            self.refuse(operation.name)

    def _note(self, reading: Reading, tensor: Tensor, axis: int) -> None:
        """Store the units of a tensor that a layer reads or makes, if they vary along ``axis`` (negative) only."""
        factors = self.labels.factors(tensor, trailing(tensor.ndim))[0] if self.labels.knows(tensor) else []
        if [factor.axes for factor in factors] == [(str(-axis),)]:
            self.labels.held[reading] = factors[0].codes

    def refuse(self, name: str) -> NoReturn:
        raise InputError(
            f"cannot align: the operation {name!r} is not one through which hidden units can be followed (linear and "
            "convolution layers, embeddings, attention, normalisation, elementwise functions, pooling, changes of "
            "shape, additions)"
        )

    def contract(
        self, operands: Iterable[tuple[Tensor, Sequence[str | None]]], axes: Sequence[str | None], shape: Sequence[int]
    ) -> Tensor:
        """Labels of the sum of products of ``operands`` over all axes except ``axes``, those of the result.

        Args:
            operands: Tensors with the names of their axes, as in `torch.einsum`.
            axes: Names of the axes of the result.
            shape: Shape of the result.
        """
        factors, still = list[Factor](), dict[str, int]()
        for tensor, names in operands:
            more, unmoved = self.labels.factors(tensor, names)
            factors += more
            still |= {axis: tensor.shape[names.index(axis)] for axis in unmoved}
        moving = {axis for factor in factors for axis in factor.axes}
        # If the values of an operand vary along an axis but its units do not, units of others cannot move along it.
        factors += [Factor((k,), self.labels.units.fresh(n, pinned=True)) for k, n in still.items() if k in moving]
        inner = [factor for factor in factors if not set(factor.axes) <= set(axes)]
        outer = [factor for factor in factors if set(factor.axes) <= set(axes)]
        if summed := self.labels.units.combine(inner):
            blocks = self.labels.units.reduce(summed, set(summed.axes) - set(axes))
            outer += [blocks] if blocks else []
        return self.spread(self.labels.units.combine(outer), axes, shape)

    def elementwise(self, tensors: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """Labels of a result of ``shape`` whose elements are computed from those of ``tensors`` at the same place."""
        if self.labels.are_same(tensors):
            return torch.full((), SAME).expand(tuple(shape))
        parts = [tensor for tensor in tensors if self.labels.is_ambiguous(tensor)]
        others = [tensor for tensor in tensors if tensor is not parts[0]] if parts else []
        if parts and not any(self.labels.factors(tensor, trailing(tensor.ndim))[0] for tensor in others):
            return self._parameter_with(parts[0], others, shape)
        return self.contract([(tensor, trailing(tensor.ndim)) for tensor in tensors], trailing(len(shape)), shape)

    def _parameter_with(self, part: Tensor, others: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """Labels of a parameter combined with constants; it cannot be permuted along axes along which these vary."""
        constant = {axis for tensor in others for axis in self.labels.factors(tensor, trailing(tensor.ndim))[1]}
        for factor in self.labels.factors(part, trailing(part.ndim))[0]:
            if constant & set(factor.axes):
                self.labels.units.join(factor.codes, np.array(PINNED))
        return self.labels.of(part).expand(tuple(shape))

    def spread(self, factor: Factor | None, axes: Sequence[str | None], shape: Sequence[int]) -> Tensor:
        """Labels of ``shape`` with the units of ``factor`` along the named ``axes``."""
        if factor is None:
            return torch.full((), PINNED).expand(tuple(shape))
        codes = factor.aligned([axis for axis in axes if axis in factor.axes])
        sizes = [n if axis in factor.axes else 1 for axis, n in zip(axes, shape, strict=True)]
        return torch.from_numpy(np.ascontiguousarray(codes)).view(sizes).expand(tuple(shape))

    def sum_with(self, result: Tensor, labels: Tensor, other: Tensor, axes: Sequence[str]) -> Tensor:
        """Labels of the sum of a ``result`` with ``labels`` and ``other``, whose axes are the last of ``axes``."""
        self.labels.put(result, labels)
        every = [*axes, *(f"further {k}" for k in range(result.ndim - len(axes)))]
        return self.contract([(result, every), (other, axes[len(axes) - other.ndim :])], every, result.shape)
