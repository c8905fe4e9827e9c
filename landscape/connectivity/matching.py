"""The best permutation of every group of hidden units, by linear assignment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.connectivity.assignment import Orders, best_orders, composed, moved, unchanged
from landscape.connectivity.groups import Group, Positions, Reading
from landscape.connectivity.inputs import Inputs, inputs_of, run
from landscape.connectivity.operations import READ_AXES, Watch, read_by
from landscape.errors import InputError
from landscape.objective.samples import Samples
from landscape.points import Point, as_float64, copy_of, inner, parameters_of
from landscape.runtime.devices import select_device

__all__ = ["Match", "match_activations", "match_weights", "permute"]

MOST_ROUNDS = 100
GAIN = 1e-12  # share of the present agreement; a smaller improvement is rounding
CONSTANT = 1e-6  # share of its mean; a unit with a smaller standard deviation is constant up to rounding in float32
READ_BYTES = 2**20  # bytes of inputs in a batch; the inputs of all layers, of both networks, are in memory at once


@dataclass(frozen=True, eq=False)
class Match:
    """Permutations, and the course of the search for them."""

    orders: list[Orders]  # the orders of the units of every group
    rounds: int  # sweeps over all groups
    converged: bool  # whether the last sweep changed nothing


@torch.no_grad()
def permute(model: nn.Module, groups: Sequence[Group], orders: Sequence[Orders]) -> None:
    """Permute the units of ``model`` in place, in parameters and buffers."""
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    for group, order in zip(groups, orders, strict=True):
        for name, tensor in _permuted(tensors, group, order).items():
            tensors[name].copy_(tensor)


@torch.no_grad()
def match_weights(a: nn.Module, b: nn.Module, groups: Sequence[Group], seed: int) -> Match:
    """Maximise sum_p <p(a), p(permuted b)> over the parameters p, one group at a time, for networks in float64.

    The result is a local optimum, which depends on the start. The first start is the order of b. The second one pairs
    units with the most similar sorted weights, so that it does not depend on the order of the other groups; it is used
    if its agreement is better than the optimum from the first start.
    """
    target, point = parameters_of(a), parameters_of(b)
    start = [unchanged(group.axes) for group in groups]
    match, present = _improved(target, point, groups, start, seed)
    start = [_similar(target, point, group) for group in groups]
    if inner(target, _ordered(point, groups, start)) > inner(target, present):
        match, _ = _improved(target, point, groups, start, seed)
    return match


def _ordered(point: Point, groups: Sequence[Group], orders: Sequence[Orders]) -> Point:
    """A copy of ``point`` with the units of all groups in these ``orders``."""
    ordered = dict(point)
    for group, order in zip(groups, orders, strict=True):
        ordered |= _permuted(ordered, group, order)
    return ordered


def _improved(
    target: Point, point: Point, groups: Sequence[Group], orders: list[Orders], seed: int
) -> tuple[Match, Point]:
    """A local optimum from these ``orders``, and the permuted ``point``.

    A group is solved again only after one of its tensors has changed. Its own solution counts as a change unless it is
    optimal for certain: for a single axis, along which every tensor holds the units once.
    """
    present, orders = _ordered(point, groups, orders), list(orders)
    tensors_of = [{place.tensor for place in group.places} & target.keys() for group in groups]
    optimal = [
        len(group.axes) == 1 and len(names) == sum(place.tensor in target for place in group.places)
        for group, names in zip(groups, tensors_of, strict=True)
    ]
    settled = [False] * len(groups)
    generator = np.random.default_rng(seed)
    rounds, changed = 0, True
    while changed and rounds < MOST_ROUNDS:
        rounds, changed = rounds + 1, False
        for k in generator.permutation(len(groups)):
            if settled[k]:
                continue
            settled[k] = True
            step = best_orders(groups[k].axes, _weight_scores(target, present, groups[k]))
            better = _permuted(present, groups[k], step)
            # If a tensor holds the group along two axes the scores do not give the gain, so it is computed here.
            before, after = (inner({name: target[name] for name in better}, tensors) for tensors in (present, better))
            if after - before > GAIN * abs(before):
                present |= better
                orders[k] = composed(groups[k].axes, orders[k], step)
                changed = True
                settled = [kept and names.isdisjoint(better) for kept, names in zip(settled, tensors_of, strict=True)]
                settled[k] = optimal[k]
    return Match(orders, rounds, not changed), present


def _similar(target: Point, point: Point, group: Group) -> Orders:
    """The orders that pair units with similar sorted weights."""
    return best_orders(group.axes, _weight_scores(target, point, group, sort=True))


@torch.no_grad()
def match_activations(a: nn.Module, b: nn.Module, groups: Sequence[Group], samples: Samples) -> Match:
    """Maximise the sum over units of the correlation of their activations over samples and positions.

    The activations are those that layers read.

    Raises:
        InputError: Activations are not finite.
    """
    device = select_device("auto")
    a, b = (copy_of(model).to(device).eval() for model in (a, b))
    wide = any(p.dtype == torch.float64 for p in (*a.parameters(), *b.parameters()))
    dtype = torch.float64 if wide else torch.float32
    a, b = a.to(dtype), b.to(dtype)
    compared = [_compared(group) for group in groups]
    moments = [[_Moments() for _ in each] for each in compared]
    for _, batch in samples.batches(samples.count_in(READ_BYTES), device, dtype):
        read_a, read_b = (_readings(model, inputs_of(model, batch)) for model in (a, b))
        for readings, sums in zip(compared, moments, strict=True):
            for (reading, positions), moment in zip(readings, sums, strict=True):
                moment.add(*(_units(read[reading], positions) for read in (read_a, read_b)))
    orders = []
    for group, readings, sums in zip(groups, compared, moments, strict=True):
        scores: dict[tuple[int, ...], np.ndarray] = {}
        for (_, positions), moment in zip(readings, sums, strict=True):
            _add(scores, positions, moment.correlations())
        if not all(np.isfinite(values).all() for values in scores.values()):
            raise InputError("the units of a network are NaN or infinite on the data, so that they cannot be compared")
        orders.append(best_orders(group.axes, scores))
    return Match(orders, 1, True)


def _compared(group: Group) -> list[tuple[Reading, Positions]]:
    """The readings at which units are compared: inputs of layers or, for units that no layer reads, outputs."""
    every = [(reading, each) for reading, parts in group.readings.items() for each in parts]
    read = {each.axes for reading, each in every if reading.side == "read"}
    return [(reading, each) for reading, each in every if reading.side == "read" or each.axes not in read]


def _permuted(tensors: Point, group: Group, orders: Orders) -> Point:
    """Those of ``tensors`` that hold units of the ``group``, permuted."""
    permuted: Point = {}
    for place, parts in group.places.items():
        if place.tensor in tensors:
            tensor = permuted.get(place.tensor, tensors[place.tensor])
            source = torch.arange(tensor.shape[place.axis])
            for positions in parts:
                source[positions.index.ravel()] = torch.from_numpy(moved(group.axes, positions, orders).ravel())
            permuted[place.tensor] = tensor.index_select(place.axis, source.to(tensor.device))
    return permuted


def _weight_scores(
    target: Point, present: Point, group: Group, sort: bool = False
) -> dict[tuple[int, ...], np.ndarray]:
    """The contribution <weights of unit i of a, weights of unit j of b> of each pair of units to the maximised sum.

    With ``sort`` the weights of each unit are sorted by value first.
    """
    scores: dict[tuple[int, ...], np.ndarray] = {}
    for place, parts in group.places.items():
        for positions in parts if place.tensor in target else ():  # buffers are not compared
            rows = [_units(point[place.tensor].movedim(place.axis, 0), positions) for point in (target, present)]
            if sort:  # the mean over units changes no assignment, but makes the search for it slow
                ordered = [row.sort(dim=1).values for row in rows]
                rows = [row - row.mean(0) for row in ordered]
            mine, theirs = rows
            _add(scores, positions, (mine @ theirs.T).numpy())
    return scores


def _add(scores: dict[tuple[int, ...], np.ndarray], positions: Positions, values: np.ndarray) -> None:
    """Add ``values`` [units, units] to the ``scores`` of the axes of ``positions``."""
    square = values.reshape(positions.index.shape[:-1] * 2)
    scores[positions.axes] = scores.get(positions.axes, 0) + square


def _units(tensor: Tensor, positions: Positions) -> Tensor:
    """The entries [units, ...] of each unit in ``tensor``, along whose first axis the units lie."""
    index = torch.from_numpy(positions.index.reshape(-1, positions.index.shape[-1]))
    return tensor[index.to(tensor.device)].flatten(1)


def _readings(model: nn.Module, inputs: Inputs) -> dict[Reading, Tensor]:
    """The input and output of every layer call, with the axis of the units first."""
    readings = _Readings()
    with readings:
        run(model, inputs)
    return readings.values


class _Readings(Watch):
    """A watch that stores the inputs and outputs of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[Reading, Tensor] = {}

    def watched(self, name: str, function: Any, args: Any, kwargs: Any) -> Any:
        if name not in READ_AXES:
            return function(*args, **kwargs)
        read, axis = read_by(name, args, kwargs)
        self._keep(Reading(self.calls), read, axis)
        result = function(*args, **kwargs)
        self._keep(Reading(self.calls, "made"), result, axis)
        self.calls += 1
        return result

    def _keep(self, reading: Reading, tensor: Tensor, axis: int) -> None:
        if tensor.ndim >= -axis:
            self.values[reading] = tensor.movedim(axis, 0).clone()


class _Moments:
    """Means, variances and products of the units of two networks, in float64, over batches (Chan et al. 1979)."""

    def __init__(self) -> None:
        none = torch.zeros((), dtype=torch.float64)
        self.count, self.means, self.squares, self.products = 0, [none, none], [none, none], none

    def add(self, *units: Tensor) -> None:
        """Add the activations ``units`` of both networks, two tensors [units, values]."""
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
        """Correlations [units of a, units of b]; zero for a unit that is constant up to rounding."""
        first, second = (
            torch.where(square > CONSTANT**2 * self.count * mean.square(), square.sqrt(), 0.0)
            for square, mean in zip(self.squares, self.means, strict=True)
        )
        both = (first[:, None] > 0) & (second > 0)
        scaled = self.products / torch.where(first > 0, first, 1.0)[:, None] / torch.where(second > 0, second, 1.0)
        correlations: np.ndarray = torch.where(both, scaled, 0.0).cpu().numpy()
        return correlations
