"""Labels: the unit that each element of an activation, parameter or buffer holds during a forward pass."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.connectivity.groups import Place, Reading
from landscape.connectivity.operations import trailing
from landscape.connectivity.units import PINNED, SAME, Factor, Units
from landscape.errors import InputError

__all__ = ["Labels"]


@dataclass(frozen=True)
class _Elements:
    """A range of negative labels for the elements of a parameter or buffer, of which an operation took a part."""

    start: int
    name: str
    shape: tuple[int, ...]


class Labels:
    """The labels of all activations, parameters and buffers of a forward pass."""

    def __init__(self, model: nn.Module, constants: Collection[str]):
        self.units, self.constants = Units(), constants
        self.tensors = dict([*model.named_parameters(), *model.named_buffers()])
        self.names = {id(tensor): name for name, tensor in self.tensors.items()}
        self.known: dict[int, tuple[Tensor, Tensor]] = {}  # id -> (tensor, labels); a stored tensor keeps its id
        self.held: dict[Place | Reading, np.ndarray] = {}  # the units along each place and reading
        self.unused: dict[Place, np.ndarray] = {}  # masks of the entries along each axis that the pass has not read
        self.elements: list[_Elements] = []

    def knows(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` holds units: whether it is labelled, or is a parameter or buffer."""
        return id(tensor) in self.known or id(tensor) in self.names

    def put(self, tensor: Tensor, labels: Tensor) -> None:
        """Store the ``labels`` of ``tensor``, unless no element of it can be permuted."""
        self.known[id(tensor)] = (tensor, labels)
        if labels.numel() == 0 or (labels.flatten()[0] == PINNED and bool((labels == PINNED).all())):
            del self.known[id(tensor)]

    def of(self, tensor: Tensor) -> Tensor:
        """Labels of the elements of ``tensor``: a unit, or a negative number for an element of a parameter."""
        if id(tensor) in self.known:
            labels = self.known[id(tensor)][1]
            return torch.where(labels < 0, labels, torch.from_numpy(self.units.root)[labels.clamp(min=0)])
        if id(tensor) not in self.names:
            return torch.full((), PINNED).expand(tensor.shape)
        start = sum(int(np.prod(each.shape)) for each in self.elements)
        self.elements.append(_Elements(start, self.names[id(tensor)], tuple(tensor.shape)))
        labels = -1 - torch.arange(start, start + tensor.numel()).view(tensor.shape)
        self.known[id(tensor)] = (tensor, labels)
        return labels

    def are_same(self, tensors: Iterable[Tensor]) -> bool:
        """Whether all ``tensors`` are activations with one value for all units at every element."""
        return all(id(each) in self.known and bool((self.known[id(each)][1] == SAME).all()) for each in tensors)

    def is_parameter(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` is a parameter or buffer, or a part of one."""
        return id(tensor) in self.names or (id(tensor) in self.known and bool((self.known[id(tensor)][1] < 0).all()))

    def is_ambiguous(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` is a parameter, or a part of one, that may hold units along more than one axis."""
        return self.is_parameter(tensor) and sum(size > 1 for size in tensor.shape) > 1

    def factors(self, tensor: Tensor, axes: Sequence[str | None]) -> tuple[list[Factor], list[str]]:
        """The units along the named ``axes`` of ``tensor``, and the axes along which values vary but units do not.

        Axes without a name, and those of length one, are left out.
        """
        index = {axis: k for k, axis in enumerate(axes) if axis is not None and tensor.shape[k] > 1}
        if id(tensor) not in self.known:
            if id(tensor) in self.names:
                name = self.names[id(tensor)]
                return [Factor((axis,), self.place(name, k)) for axis, k in index.items()], []
            return [], [axis for axis, k in index.items() if _differs(tensor, k)]
        labels = self.of(tensor)
        if bool((labels < 0).any()):
            return self._factors_of_elements(labels, index), []
        if bool((labels == SAME).all()):
            return [], []
        varying = [axis for axis, k in index.items() if _varies(labels, k)]
        still = [axis for axis, k in index.items() if axis not in varying and tensor.stride(k)]
        others = [k for k in range(labels.ndim) if k not in {index[axis] for axis in varying}]
        codes = _compressed(labels, others).numpy()
        return ([Factor(tuple(varying), codes)] if varying else []), still

    def _factors_of_elements(self, labels: Tensor, index: Mapping[str, int]) -> list[Factor]:
        """The units of a parameter along the axes of a part or a reshaped form of it.

        Args:
            labels: Negative labels of its elements.
            index: The number of each named axis.
        """
        number = -1 - labels.numpy()
        source = next(each for each in reversed(self.elements) if each.start <= number.min())
        factors = []
        for axis, entry in enumerate(np.unravel_index(number - source.start, source.shape)):
            varying = [name for name, k in index.items() if _varies(torch.from_numpy(entry + 1), k)]
            if varying:
                others = tuple(k for k in range(entry.ndim) if k not in {index[name] for name in varying})
                codes = self.place(source.name, axis, read=entry)[entry.min(others) if others else entry]
                factors.append(Factor(tuple(varying), codes))
        return factors

    def place(self, name: str, axis: int, read: Any = slice(None)) -> np.ndarray:
        """The units along an ``axis`` of a parameter or buffer, of which the entries ``read`` are marked as read."""
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
        self.unused[key][read] = False
        return self.held[key]

    def check_whole(self, tensor: Tensor) -> None:
        """Raise InputError if ``tensor`` is a parameter with several axes, because its units are unknown here."""
        if self.is_ambiguous(tensor):
            raise InputError(
                f"cannot align: {self.name_of(tensor)!r} {tuple(tensor.shape)} is used outside of a linear, "
                "convolution or embedding layer"
            )

    def name_of(self, tensor: Tensor) -> str:
        """The name of the parameter that ``tensor`` is, or is a part of."""
        if id(tensor) in self.names:
            return self.names[id(tensor)]
        number = -1 - int(self.of(tensor).flatten()[0])
        return next(each.name for each in reversed(self.elements) if each.start <= number)

    def pin(self, outputs: Iterable[Tensor]) -> None:
        """Pin the units of the ``outputs`` and all entries of parameters that the pass has not read."""
        for tensor in outputs:
            for factor in self.factors(tensor, trailing(tensor.ndim))[0]:
                self.units.join(factor.codes, np.array(PINNED))
        for key, unused in self.unused.items():
            self.units.join(self.held[key][unused], np.array(PINNED))


def _differs(tensor: Tensor, axis: int) -> bool:
    """Whether values may differ along ``axis``; only masks, whose values do not depend on samples, are compared."""
    if tensor.stride(axis) == 0:
        return False
    is_mask = tensor.dtype == torch.bool or (
        tensor.is_floating_point() and bool(((tensor == 0) | (tensor <= torch.finfo(tensor.dtype).min)).all())
    )
    return not is_mask or bool((tensor != tensor.narrow(axis, 0, 1)).any())


def _varies(labels: Tensor, axis: int) -> bool:
    """Whether there are different units along ``axis``, apart from elements that are the same for all units."""
    if labels.shape[axis] == 1 or labels.stride(axis) == 0:
        return False
    for other in range(labels.ndim):
        labels = labels.narrow(other, 0, 1) if other != axis and labels.stride(other) == 0 else labels
    rows = labels.movedim(axis, 0)
    low = torch.where(rows == SAME, 2**62, rows).amin(0)
    return bool((low < rows.amax(0)).any())


def _compressed(labels: Tensor, axes: Sequence[int]) -> Tensor:
    """Labels without the ``axes``, along which they are equal apart from those that are the same for all units."""
    for axis in axes:
        if labels.stride(axis) == 0:
            labels = labels.narrow(axis, 0, 1)
    return labels.amax(tuple(axes)) if axes else labels
