"""The best permutation of every group of hidden units, by linear assignment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from landscape.connectivity.coupling import READERS, Group, operation_name
from landscape.errors import InputError
from landscape.objective.samples import Samples
from landscape.objective.trees import tensors_of
from landscape.points import Point, as_float64, copy_of, inner, parameters_of
from landscape.runtime.devices import select_device

__all__ = ["Match", "inputs_of", "match_activations", "match_weights", "permute"]

MOST_ROUNDS = 100
GAIN = 1e-12  # of the present agreement: a smaller one is rounding
CONSTANT = 1e-6  # of its mean: a unit that deviates by no more is constant up to the rounding of float32
READ_BYTES = 2**20  # of inputs a batch; all that its layers read lies in memory, twice


@dataclass(frozen=True, eq=False)
class Match:
    """Permutations, and how they were found."""

    orders: list[np.ndarray]  # of every group, [units] int64: unit i becomes what unit orders[i] was
    rounds: int
    converged: bool


@torch.no_grad()
def permute(model: nn.Module, groups: Sequence[Group], orders: Sequence[np.ndarray]) -> None:
    """Permute the units of ``model`` in place, in parameters and buffers."""
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    for group, order in zip(groups, orders, strict=True):
        for name, tensor in _permuted(tensors, group, order).items():
            tensors[name].copy_(tensor)


@torch.no_grad()
def match_weights(a: nn.Module, b: nn.Module, groups: Sequence[Group], seed: int) -> Match:
    """Maximise sum_p <p(a), p(permuted b)> over the parameters, one group at a time; a and b in float64."""
    target, moved = parameters_of(a), parameters_of(b)
    orders = [np.arange(group.size) for group in groups]
    generator = np.random.default_rng(seed)
    for rounds in range(1, MOST_ROUNDS + 1):
        changed = False
        for k in generator.permutation(len(groups)):
            step = linear_sum_assignment(_weight_scores(target, moved, groups[k]), maximize=True)[1]
            better = _permuted(moved, groups[k], step)
            # The scores tell the gain only where no tensor holds the group along two axes; this is it in any case.
            before, after = (inner({name: target[name] for name in better}, point) for point in (moved, better))
            if after - before > GAIN * abs(before):
                moved |= better
                orders[k] = orders[k][step]
                changed = True
        if not changed:
            return Match(orders, rounds, True)
    return Match(orders, MOST_ROUNDS, False)


@torch.no_grad()
def match_activations(a: nn.Module, b: nn.Module, groups: Sequence[Group], samples: Samples) -> Match:
    """Maximise the sum over units of their correlation over samples and places, where the units are read."""
    device = select_device("auto")
    a, b = (copy_of(model).to(device).eval() for model in (a, b))
    dtype = (
        torch.float64 if any(p.dtype == torch.float64 for p in (*a.parameters(), *b.parameters())) else torch.float32
    )
    a, b = a.to(dtype), b.to(dtype)
    moments = [{call: _Moments() for call in group.readings} for group in groups]
    for _, batch in samples.batches(samples.count_in(READ_BYTES), device, dtype):
        read_a, read_b = (_readings(model, inputs_of(batch)) for model in (a, b))
        for group, found in zip(groups, moments, strict=True):
            for call, positions in group.readings.items():
                found[call].add(_units(read_a[call], positions), _units(read_b[call], positions))
    orders = []
    for group, found in zip(groups, moments, strict=True):
        scores = sum((each.correlations() for each in found.values()), np.zeros((group.size, group.size)))
        if not np.isfinite(scores).all():
            raise InputError("the units of a network are NaN or infinite on the data, so that they cannot be compared")
        orders.append(linear_sum_assignment(scores, maximize=True)[1])
    return Match(orders, 1, True)


def inputs_of(batch: Any) -> Tensor:
    """What the network takes of a batch: a copy of its first tensor, which it may overwrite."""
    return tensors_of(batch)[0].clone()


def _permuted(tensors: Point, group: Group, order: np.ndarray) -> Point:
    """Those of ``tensors`` that hold units of the ``group``, permuted."""
    permuted: Point = {}
    for (name, axis), positions in group.places.items():
        if name in tensors:
            source = torch.arange(tensors[name].shape[axis])
            source[positions.ravel()] = torch.from_numpy(positions[order].ravel())
            tensor = permuted.get(name, tensors[name])
            permuted[name] = tensor.index_select(axis, source.to(tensor.device))
    return permuted


def _weight_scores(target: Point, moved: Point, group: Group) -> np.ndarray:
    """[units, units]: how much of the sum unit j of b adds in the place of unit i."""
    scores = np.zeros((group.size, group.size))
    for (name, axis), positions in group.places.items():
        if name in target:  # no buffer
            mine, theirs = (_units(point[name].movedim(axis, 0), positions) for point in (target, moved))
            scores += (mine @ theirs.T).numpy()
    return scores


def _units(tensor: Tensor, positions: np.ndarray) -> Tensor:
    """Rows [units, ...] of all that belongs to each unit in ``tensor``, whose first axis holds them."""
    return tensor[torch.from_numpy(positions).to(tensor.device)].flatten(1)


def _readings(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """What every layer call reads, its units first."""
    readings = _Readings()
    with readings:
        model(inputs)
    return readings.found


class _Readings(TorchFunctionMode):
    """Keeps the inputs of linear and convolution layers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = operation_name(function)
        if name in READERS:
            self.found.append((args[0] if args else kwargs["input"]).movedim(READERS[name], 0).clone())
        return function(*args, **kwargs)


class _Moments:
    """Means, variances and products of the units of two networks, in float64, over batches (Chan et al. 1979)."""

    def __init__(self) -> None:
        none = torch.zeros((), dtype=torch.float64)
        self.count, self.means, self.squares, self.products = 0, [none, none], [none, none], none

    def add(self, *units: Tensor) -> None:
        """Add what the units were, [units, values] of either network."""
        values = [as_float64(value) for value in units]
        count = values[0].shape[1]
        total, means = self.count + count, [value.mean(1) for value in values]
        centred = [value - mean[:, None] for value, mean in zip(values, means, strict=True)]
        shifts = [mean - earlier for mean, earlier in zip(means, self.means, strict=True)]
        weight = self.count * count / total
        self.squares = [
            square + value.square().sum(1) + shift.square() * weight
            for square, value, shift in zip(self.squares, centred, shifts, strict=True)
        ]
        self.products = self.products + centred[0] @ centred[1].T + shifts[0][:, None] * shifts[1] * weight
        self.means = [earlier + shift * (count / total) for earlier, shift in zip(self.means, shifts, strict=True)]
        self.count = total

    def correlations(self) -> np.ndarray:
        """[units, units], whatever the scales of the units; zero for one that never changes by more than rounding."""
        first, second = (
            torch.where(square > CONSTANT**2 * self.count * mean.square(), square.sqrt(), 0.0)
            for square, mean in zip(self.squares, self.means, strict=True)
        )
        both = (first[:, None] > 0) & (second > 0)
        scaled = self.products / torch.where(first > 0, first, 1.0)[:, None] / torch.where(second > 0, second, 1.0)
        found: np.ndarray = torch.where(both, scaled, 0.0).cpu().numpy()
        return found
