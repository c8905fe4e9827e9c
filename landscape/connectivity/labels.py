"""The unit at each place of every activation, parameter and buffer that a pass meets."""

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
    """Labels below zero: the elements of one parameter or buffer, of which only some have been taken."""

    start: int
    name: str
    shape: tuple[int, ...]


class Labels:
    """The labels of all activations, parameters and buffers: the unit at each of their places."""

    def __init__(self, model: nn.Module, constants: Collection[str]):
        self.units, self.constants = Units(), constants
        self.tensors = dict([*model.named_parameters(), *model.named_buffers()])
        self.names = {id(tensor): name for name, tensor in self.tensors.items()}
        self.known: dict[int, tuple[Tensor, Tensor]] = {}  # id -> (tensor, its labels); the tensor keeps its id
        self.held: dict[Place | Reading, np.ndarray] = {}  # the units that each of them holds
        self.unused: dict[Place, np.ndarray] = {}  # which entries along each axis the pass has not read
        self.elements: list[_Elements] = []

    def knows(self, tensor: Tensor) -> bool:
        """Whether units are held by ``tensor``, or may be."""
        return id(tensor) in self.known or id(tensor) in self.names

    def put(self, tensor: Tensor, labels: Tensor) -> None:
        """Give ``tensor`` these ``labels``, which are not kept where every place stands for itself."""
        self.known[id(tensor)] = (tensor, labels)
        if labels.numel() == 0 or (labels.flatten()[0] == PINNED and bool((labels == PINNED).all())):
            del self.known[id(tensor)]

    def of(self, tensor: Tensor) -> Tensor:
        """A unit for each place, or below zero the number of an element of a parameter."""
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
        """Whether every place of ``tensors``, all activations, holds one value for all units."""
        return all(id(each) in self.known and bool((self.known[id(each)][1] == SAME).all()) for each in tensors)

    def is_parameter(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` is a parameter or buffer, or a part of one."""
        return id(tensor) in self.names or (id(tensor) in self.known and bool((self.known[id(tensor)][1] < 0).all()))

    def is_ambiguous(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` is a parameter, or a part of one, that may hold units along more than one axis."""
        return self.is_parameter(tensor) and sum(size > 1 for size in tensor.shape) > 1

    def factors(self, tensor: Tensor, axes: Sequence[str | None]) -> tuple[list[Factor], list[str]]:
        """How units vary along the named ``axes`` of ``tensor``, and along which of them it varies but no units do."""
        named = {axis: k for k, axis in enumerate(axes) if axis is not None and tensor.shape[k] > 1}
        if id(tensor) not in self.known:
            if id(tensor) in self.names:
                name = self.names[id(tensor)]
                return [Factor((axis,), self.place(name, k)) for axis, k in named.items()], []
            return [], [axis for axis, k in named.items() if _differs(tensor, k)]
        labels = self.of(tensor)
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

    def check_whole(self, tensor: Tensor) -> None:
        """Refuse to go on with a parameter of which it is not known along which axis it holds units."""
        if self.is_ambiguous(tensor):
            raise InputError(
                f"cannot align: {self.name_of(tensor)!r} {tuple(tensor.shape)} is used outside of a linear, "
                "convolution or embedding layer"
            )

    def name_of(self, tensor: Tensor) -> str:
        """The name of a parameter, or that of which ``tensor`` is a part."""
        if id(tensor) in self.names:
            return self.names[id(tensor)]
        number = -1 - int(self.of(tensor).flatten()[0])
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
