"""Which hidden units of a network may change places, found by watching one forward pass.

A hidden unit (a neuron, a channel, a place of the residual stream) is a row of the layer that makes it, an entry of the
normalisation after it and a column, or a block of columns, of every layer that reads it. Two activations that are added
tie their units together, so a unit of a residual network runs through many layers. An attention head is a block of such
units. Units with as many entries in the same tensors may change places: if all their entries do, the network computes
the same function.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from landscape.connectivity.groups import Group, Place, Reading, groups_of
from landscape.connectivity.inputs import Inputs, run
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
from landscape.connectivity.units import PINNED, SAME, Factor, Units
from landscape.errors import InputError

__all__ = ["Coupling", "Tracer", "trace_coupling"]


@dataclass(frozen=True, eq=False)
class Coupling:
    """How the units of a network hang together."""

    groups: list[Group]  # of units that may change places
    precision: float  # the largest rounding of a number that the pass computed with, as a share of it


@torch.no_grad()
def trace_coupling(model: nn.Module, inputs: Inputs, constants: Collection[str] = ()) -> Coupling:
    """Which groups of hidden units of ``model`` may change places, in the order in which they are made.

    Units are followed through linear, convolution (also depthwise) and embedding layers, attention, normalisation,
    elementwise functions, pooling, reductions, changes of shape, concatenation, zero padding and additions, whether
    they are modules or functions. Inputs and outputs stay as they are. A parameter that several layers share couples
    the units of all of them.

    Args:
        model: in eval mode.
        inputs: two samples or more.
        constants: names of buffers that stay as they are; units that such a buffer treats alike may change places.

    Raises:
        InputError: an operation through which units cannot be followed; it is named.
    """
    samples = len(tensors_in(inputs)[0])
    tracer = Tracer(model, samples, constants)
    with tracer:
        outputs = run(model, inputs)
    tracer.pin(outputs)
    return Coupling(groups_of(tracer.units, tracer.held), tracer.precision)


@dataclass(frozen=True)
class _Elements:
    """Labels below zero: the elements of one parameter or buffer, of which only some have been taken."""

    start: int
    name: str
    shape: tuple[int, ...]


class Tracer(Watch):
    """Labels every place of every activation with its unit, operation by operation."""

    def __init__(self, model: nn.Module, samples: int, constants: Collection[str]):
        super().__init__()
        self.units, self.samples, self.constants = Units(), samples, constants
        self.tensors = dict([*model.named_parameters(), *model.named_buffers()])
        self.names = {id(tensor): name for name, tensor in self.tensors.items()}
        self.labels: dict[int, tuple[Tensor, Tensor]] = {}  # id -> (tensor, its labels); the tensor keeps its id
        self.held: dict[Place | Reading, np.ndarray] = {}  # the units that each of them holds
        self.unused: dict[Place, np.ndarray] = {}  # which entries along each axis the pass has not read
        self.elements: list[_Elements] = []
        self.precision = 0.0

    def watched(self, name: str, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        known = any(map(self.knows, tensors_in([args, kwargs])))
        if known and name in READ_AXES:
            self._note(Reading(self.calls), *read_by(name, args, kwargs))
        result = function(*args, **kwargs)
        if known and tensors_in(result):
            self._follow(Operation(name, function, args, kwargs, result))
        elif known and name in LEAVING:
            self.refuse(name)
        elif name in FILLING:
            self.label(result, torch.full((), SAME).expand(result.shape))
        if name in READ_AXES:
            self._note(Reading(self.calls, "made"), result, READ_AXES[name][1])
            self.calls += 1
        return result

    def _follow(self, operation: Operation) -> None:
        if rule := RULES.get(operation.name):
            for output, labels in zip(operation.outputs, rule(self, operation), strict=True):
                self.label(output, labels)
                if output.is_floating_point():
                    self.precision = max(self.precision, torch.finfo(output.dtype).eps)
        elif not all(bool((self.labels_of(tensor) == SAME).all()) for tensor in operation.inputs if self.knows(tensor)):
            self.refuse(operation.name)

    def _note(self, reading: Reading, tensor: Tensor, axis: int) -> None:
        """Keep the units of what a layer reads or makes, where they lie along one ``axis``, from the end."""
        factors = self.factors(tensor, trailing(tensor.ndim))[0] if self.knows(tensor) else []
        if [factor.axes for factor in factors] == [(str(-axis),)]:
            self.held[reading] = factors[0].codes

    def refuse(self, name: str) -> NoReturn:
        raise InputError(
            f"cannot align: the operation {name!r} is not one through which hidden units can be followed (linear and "
            "convolution layers, embeddings, attention, normalisation, elementwise functions, pooling, changes of "
            "shape, additions)"
        )

    def knows(self, tensor: Tensor) -> bool:
        """Whether units are held by ``tensor``, or may be."""
        return id(tensor) in self.labels or id(tensor) in self.names

    def label(self, tensor: Tensor, labels: Tensor) -> None:
        self.labels[id(tensor)] = (tensor, labels)
        if labels.numel() == 0 or (labels.flatten()[0] == PINNED and bool((labels == PINNED).all())):
            del self.labels[id(tensor)]

    def labels_of(self, tensor: Tensor) -> Tensor:
        """A unit for each place, or below zero the number of an element of a parameter."""
        if id(tensor) in self.labels:
            labels = self.labels[id(tensor)][1]
            return torch.where(labels < 0, labels, torch.from_numpy(self.units.root)[labels.clamp(min=0)])
        if id(tensor) not in self.names:
            return torch.full((), PINNED).expand(tensor.shape)
        start = sum(int(np.prod(each.shape)) for each in self.elements)
        self.elements.append(_Elements(start, self.names[id(tensor)], tuple(tensor.shape)))
        labels = -1 - torch.arange(start, start + tensor.numel()).view(tensor.shape)
        self.labels[id(tensor)] = (tensor, labels)
        return labels

    def is_parameter(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` is a parameter or buffer, or a part of one."""
        return id(tensor) in self.names or (id(tensor) in self.labels and bool((self.labels[id(tensor)][1] < 0).all()))

    def factors(self, tensor: Tensor, axes: Sequence[str | None]) -> tuple[list[Factor], list[str]]:
        """How units vary along the named ``axes`` of ``tensor``, and along which of them it varies but no units do."""
        named = {axis: k for k, axis in enumerate(axes) if axis is not None and tensor.shape[k] > 1}
        if id(tensor) not in self.labels:
            if id(tensor) in self.names:
                name = self.names[id(tensor)]
                return [Factor((axis,), self.place(name, k)) for axis, k in named.items()], []
            return [], [axis for axis, k in named.items() if _differs(tensor, k)]
        labels = self.labels_of(tensor)
        if bool((labels < 0).any()):
            return self._factors_of_elements(labels, named), []
        if bool((labels == SAME).all()):
            return [], []
        varying = [axis for axis, k in named.items() if _varies(labels, k)]
        still = [axis for axis, k in named.items() if axis not in varying and tensor.stride(k)]
        others = [k for k in range(labels.ndim) if k not in {named[axis] for axis in varying}]
        codes = _compressed(labels, others).numpy()
        return ([Factor(tuple(varying), codes)] if varying else []), still

    def _factors_of_elements(self, labels: Tensor, named: Mapping[str, int]) -> list[Factor]:
        """How the places of a parameter vary along the axes of a part of it, or of another shape of it."""
        number = -1 - labels.numpy()
        source = next(each for each in reversed(self.elements) if each.start <= number.min())
        factors = []
        for axis, index in enumerate(np.unravel_index(number - source.start, source.shape)):
            varying = [key for key, k in named.items() if _varies(torch.from_numpy(index + 1), k)]
            if varying:
                others = tuple(k for k in range(index.ndim) if k not in {named[key] for key in varying})
                codes = self.place(source.name, axis, used=index)[index.min(others) if others else index]
                factors.append(Factor(tuple(varying), codes))
        return factors

    def place(self, name: str, axis: int, used: Any = slice(None)) -> np.ndarray:
        """The units along an ``axis`` of a parameter or buffer, new ones when it is met first."""
        key = Place(name, axis)
        if key not in self.held:
            tensor = self.tensors[name]
            if name not in self.constants:
                self.held[key] = self.units.fresh(tensor.shape[axis])
            else:
                slices, number = np.unique(
                    tensor.movedim(axis, 0).reshape(tensor.shape[axis], -1).numpy(), axis=0, return_inverse=True
                )
                alike = self.units.fresh(len(slices), pinned=True) if len(slices) > 1 else np.array([SAME])
                self.held[key] = alike[number.ravel()]
            self.unused[key] = np.full(tensor.shape[axis], True)
        self.unused[key][used] = False
        return self.held[key]

    def contract(
        self, operands: Iterable[tuple[Tensor, Sequence[str | None]]], axes: Sequence[str | None], shape: Sequence[int]
    ) -> Tensor:
        """Labels of the sum of products of ``operands`` over all axes but those of the result, of ``shape``."""
        factors, still = list[Factor](), dict[str, int]()
        for tensor, names in operands:
            more, unmoved = self.factors(tensor, names)
            factors += more
            still |= {axis: tensor.shape[names.index(axis)] for axis in unmoved}
        moving = {axis for factor in factors for axis in factor.axes}
        # Where an operand differs from place to place, but none of its units, the units of the others cannot move.
        factors += [Factor((k,), self.units.fresh(n, pinned=True)) for k, n in still.items() if k in moving]
        inner = [factor for factor in factors if not set(factor.axes) <= set(axes)]
        outer = [factor for factor in factors if set(factor.axes) <= set(axes)]
        if summed := self.units.combine(inner):
            blocks = self.units.reduce(summed, set(summed.axes) - set(axes))
            outer += [blocks] if blocks else []
        return self.spread(self.units.combine(outer), axes, shape)

    def elementwise(self, tensors: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """Labels of what is computed from the elements at equal places, of ``shape``."""
        labels = [self.labels[id(tensor)][1] for tensor in tensors if id(tensor) in self.labels]
        if len(labels) == len(tensors) and all(bool((each == SAME).all()) for each in labels):
            return torch.full((), SAME).expand(tuple(shape))
        parts = [
            tensor for tensor in tensors if self.is_parameter(tensor) and sum(size > 1 for size in tensor.shape) > 1
        ]
        others = [tensor for tensor in tensors if tensor is not parts[0]] if parts else []
        if parts and not any(self.factors(tensor, trailing(tensor.ndim))[0] for tensor in others):
            return self._parameter_with(parts[0], others, shape)
        return self.contract([(tensor, trailing(tensor.ndim)) for tensor in tensors], trailing(len(shape)), shape)

    def _parameter_with(self, part: Tensor, others: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """Labels of a parameter and of constants, along which it cannot be permuted where they vary."""
        constant = {axis for tensor in others for axis in self.factors(tensor, trailing(tensor.ndim))[1]}
        for factor in self.factors(part, trailing(part.ndim))[0]:
            if constant & set(factor.axes):
                self.units.join(factor.codes, np.array(PINNED))
        return self.labels_of(part).expand(tuple(shape))

    def check_whole(self, tensor: Tensor) -> None:
        """Refuse to go on with a parameter of which it is not known along which axis it holds units."""
        if self.is_parameter(tensor) and sum(size > 1 for size in tensor.shape) > 1:
            raise InputError(
                f"cannot align: {self.name_of(tensor)!r} {tuple(tensor.shape)} is used outside of a linear, "
                "convolution or embedding layer"
            )

    def spread(self, factor: Factor | None, axes: Sequence[str | None], shape: Sequence[int]) -> Tensor:
        """Labels of ``shape`` that vary like ``factor`` along the named ``axes``."""
        if factor is None:
            return torch.full((), PINNED).expand(tuple(shape))
        codes = factor.aligned([axis for axis in axes if axis in factor.axes])
        sizes = [n if axis in factor.axes else 1 for axis, n in zip(axes, shape, strict=True)]
        return torch.from_numpy(np.ascontiguousarray(codes)).view(sizes).expand(tuple(shape))

    def sum_with(self, result: Tensor, labels: Tensor, other: Tensor, axes: Sequence[str]) -> Tensor:
        """Labels of a ``result`` with ``labels`` and ``other``, which has the last of ``axes``, added to it."""
        self.label(result, labels)
        every = [*axes, *(f"further {k}" for k in range(result.ndim - len(axes)))]
        return self.contract([(result, every), (other, axes[len(axes) - other.ndim :])], every, result.shape)

    def name_of(self, tensor: Tensor) -> str:
        """The name of a parameter, or that of which ``tensor`` is a part."""
        if id(tensor) in self.names:
            return self.names[id(tensor)]
        number = -1 - int(self.labels_of(tensor).flatten()[0])
        return next(each.name for each in reversed(self.elements) if each.start <= number)

    def pin(self, outputs: Iterable[Tensor]) -> None:
        """Note that the ``outputs`` stay as they are, and what the pass has not read."""
        for tensor in outputs:
            for factor in self.factors(tensor, trailing(tensor.ndim))[0]:
                self.units.join(factor.codes, np.array(PINNED))
        for key, unused in self.unused.items():
            self.units.join(self.held[key][unused], np.array(PINNED))


def _differs(tensor: Tensor, axis: int) -> bool:
    """Whether values differ along ``axis``, as far as is known: those of masks are compared."""
    if tensor.stride(axis) == 0:
        return False
    is_mask = tensor.dtype == torch.bool or (
        tensor.is_floating_point() and bool(((tensor == 0) | (tensor <= torch.finfo(tensor.dtype).min)).all())
    )
    return not is_mask or bool((tensor != tensor.narrow(axis, 0, 1)).any())


def _varies(labels: Tensor, axis: int) -> bool:
    """Whether different units lie along ``axis``; what is the same for all units may lie among them."""
    if labels.shape[axis] == 1 or labels.stride(axis) == 0:
        return False
    for other in range(labels.ndim):
        labels = labels.narrow(other, 0, 1) if other != axis and labels.stride(other) == 0 else labels
    rows = labels.movedim(axis, 0)
    low = torch.where(rows == SAME, 2**62, rows).amin(0)
    return bool((low < rows.amax(0)).any())


def _compressed(labels: Tensor, axes: Sequence[int]) -> Tensor:
    """Labels without the ``axes``, along which they are equal or the same for all units."""
    for axis in axes:
        if labels.stride(axis) == 0:
            labels = labels.narrow(axis, 0, 1)
    return labels.amax(tuple(axes)) if axes else labels
