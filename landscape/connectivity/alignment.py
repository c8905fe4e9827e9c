"""Permute the hidden units of one network so that they match those of another."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from landscape.checks import check_choice
from landscape.connectivity.coupling import trace_coupling
from landscape.connectivity.groups import Group, Place
from landscape.connectivity.inputs import Inputs, few, probe_inputs, run
from landscape.connectivity.matching import match_activations, match_weights, permute
from landscape.errors import InputError
from landscape.objective.collecting import collect
from landscape.objective.objectives import Objective
from landscape.objective.trees import map_tensors
from landscape.points import check_finite, check_match, copy_of, named_parameters, parameters_of
from landscape.presenting import Presented, value_text
from landscape.runtime import own_torch_state
from landscape.runtime.seeds import checked_seed
from landscape.slices.chosen import chosen_parameters
from landscape.slices.networks import statistics_names

__all__ = ["Alignment", "Method", "align"]

Method = Literal["weights", "activations"]  # what decides which units match
TOLERANCE = 1e-9  # of the largest output, in float64: rounding of sums in another order
ROUNDINGS = 1000  # units in the last place, for networks that compute parts in a lower precision


@dataclass(frozen=True, eq=False, repr=False)
class Alignment(Presented):
    """A network whose hidden units were permuted to match those of another."""

    model: nn.Module  # b with its units permuted, in eval mode; it computes what b computes
    permutations: dict[str, np.ndarray]  # name -> index [units] int64: unit i of the model is unit index[i] of b. For
    # units inside blocks, such as the dimensions of attention heads, index [blocks, units]: unit i of block k of the
    # model is unit index[k, i] of the block of b that is put there.
    deviation: float  # largest difference between the outputs of b and of the model on probe inputs, in float64
    rounds: int  # sweeps over all groups
    converged: bool  # whether the last sweep changed nothing
    method: Method

    @property
    def facts(self) -> dict[str, str]:
        moved = sum(int((index != np.arange(index.shape[-1])).sum()) for index in self.permutations.values())
        units = sum(index.size for index in self.permutations.values())
        return {
            "method": self.method,
            "units moved": f"{moved:,} of {units:,}",
            "groups": f"{len(self.permutations):,}",
            "rounds": f"{self.rounds:,}",
            "converged": "yes" if self.converged else "no",
            "deviation": value_text(self.deviation),
        }


@own_torch_state()
def align(
    a: nn.Module,
    b: nn.Module,
    *,
    method: Method = "weights",
    data: Any = None,
    seed: int = 0,
    parameters: str | Sequence[str] | None = None,
) -> Alignment:
    """Permute the hidden units of ``b`` so that they match those of ``a``; neither model is changed.

    A network computes the same function after the units of a hidden layer have been permuted, if all weights that
    belong to a unit are moved with it. Units are neurons, channels, dimensions of a residual stream, attention heads,
    and dimensions inside a head. One forward pass is watched to find the groups of units that can be permuted, see
    `trace_coupling`. The best permutation of a group is the solution of a linear assignment problem; it is nested if
    the units lie in blocks that can themselves be permuted.

    - "weights" maximises sum_p <p(a), p(permuted b)> over all parameters p. One group is improved at a time, in random
      order, until no group improves: Ainsworth et al. 2023, "Git Re-Basin: Merging Models modulo Permutation
      Symmetries", section 3.2. With several groups the result is a local optimum, the better one of two starts.
    - "activations" maximises sum_i corr(unit i of a, unit i of permuted b) over ``data``, for the activations that the
      next layer reads: Li et al. 2015, "Convergent Learning: Do Different Neural Networks Learn the Same
      Representations?", section 3. The result is an optimum for every group; units that are constant on the data have
      no preferred order.

    The result is verified: in float64, the permuted network gives the outputs of ``b``.

    Args:
        a: The network whose units are matched.
        b: A network of the same architecture.
        method: "weights" or "activations".
        data: The data, in any form that `objective` takes, or an objective, whose samples are used. The network
            receives the first tensor of a batch or, if the entries of a batch are named like its arguments, these
            entries without labels. Required by "activations", and if the shape of the inputs does not follow from the
            first layer.
        seed: Seed of the order in which the groups are improved.
        parameters: The parameters that may be permuted, such as "attention" or ("layer4.*",), see
            `chosen_parameters`; by default all. Units that have entries in other parameters as well stay in place.

    Raises:
        InputError: The networks have different architectures, the method is unknown, "activations" is requested
            without data, weights are not finite, an operation is met through which units cannot be followed, or the
            chosen parameters hold no units of their own.

    Example:
        >>> from torch import nn
        >>> a, b = (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)) for _ in "ab")
        >>> aligned = align(a, b)
        >>> sorted(aligned.permutations["0"].tolist()), aligned.deviation < 1e-9
        ([0, 1, 2], True)
    """
    seed = checked_seed(seed)
    check_choice("method", method, get_args(Method))
    if method == "activations" and data is None:
        raise InputError("method='activations' compares units on samples: pass data=, or use method='weights'")
    samples = None if data is None else data.samples if isinstance(data, Objective) else collect(data)
    _check_same(a, b)
    chosen = None if parameters is None else chosen_parameters(b, parameters)
    probe_a, probe_b = (copy_of(model).cpu().double().eval() for model in (a, b))
    inputs = probe_inputs(probe_a, samples)
    expected = _outputs(probe_b, inputs)
    constants = _constants(a, b)
    first, coupling = (trace_coupling(model, few(inputs, 2), constants) for model in (probe_a, probe_b))
    groups = coupling.groups
    if not _alike(groups, first.groups):
        raise InputError("the networks are of different architectures: their units are coupled in different ways")
    if chosen is not None:
        groups = _groups_within(groups, b, chosen)
    if method == "weights" or samples is None:
        match = match_weights(probe_a, probe_b, groups, seed)
    else:
        match = match_activations(a, b, groups, samples)
    permute(probe_b, groups, match.orders)
    pairs = list(zip(_outputs(probe_b, inputs), expected, strict=True))
    deviation = max(float((output - value).abs().max()) for output, value in pairs)
    largest = max(float(value.abs().max()) for _, value in pairs)
    if not deviation <= max(TOLERANCE, ROUNDINGS * coupling.precision) * largest:
        raise InputError(
            f"cannot align: the permuted network does not compute the same function, it is off by {deviation:.3g}; its "
            "forward pass does something that one pass does not show"
        )
    model = copy_of(b).eval()
    permute(model, groups, match.orders)
    permutations = {
        axis.name: order
        for group, orders in zip(groups, match.orders, strict=True)
        for axis, order in zip(group.axes, orders, strict=True)
    }
    return Alignment(model, permutations, deviation, match.rounds, match.converged, method)


def _groups_within(groups: list[Group], model: nn.Module, chosen: Collection[str]) -> list[Group]:
    """The groups whose units have entries in the ``chosen`` parameters of ``model`` only."""
    others = {name for name, _ in named_parameters(model)} - set(chosen)
    inside = [
        group
        for group in groups
        if others.isdisjoint(place.tensor for place in group.places if isinstance(place, Place))
    ]
    if not inside:
        raise InputError(
            "parameters: no units lie in the chosen parameters alone; choose the next layer, which reads them, as well"
        )
    return inside


def _check_same(a: nn.Module, b: nn.Module) -> None:
    for model in (a, b):
        if not isinstance(model, nn.Module):
            raise InputError(f"align takes two torch.nn.Module, not {type(model).__name__}")
    try:
        check_match(parameters_of(b), parameters_of(a), "second model")
        check_match(dict(b.named_buffers()), dict(a.named_buffers()), "second model")
    except InputError as error:
        raise InputError(f"networks of different architectures cannot be aligned: {error}") from error
    for model, what in ((a, "first model"), (b, "second model")):
        check_finite(parameters_of(model), what)
        for name, value in model.named_parameters():
            if value.is_complex():
                raise InputError(f"cannot align: the parameter {name!r} of the {what} is complex")


@torch.no_grad()
def _outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """The outputs of the second model.

    Raises:
        InputError: The model does not accept the inputs, or its outputs are not finite.
    """
    try:
        outputs = run(model, map_tensors(torch.clone, inputs))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(inputs, dict):
            arguments = f"the entries {', '.join(map(repr, inputs))} of a batch of the data"
        else:
            arguments = f"the first tensor of a batch of the data, of shape {tuple(inputs.shape)} and {inputs.dtype}"
        raise InputError(f"the network does not take {arguments}: {reason}") from error
    if not all(output.isfinite().all() for output in outputs):
        raise InputError(
            "the outputs of the second model are NaN or infinite on probe inputs, so nothing can be aligned"
        )
    return outputs


def _constants(a: nn.Module, b: nn.Module) -> set[str]:
    """Names of the buffers, other than statistics (which belong to units), that are equal in both networks."""
    first, second, statistics = dict(a.named_buffers()), dict(b.named_buffers()), statistics_names(a)
    return {name for name in first if name not in statistics and torch.equal(first[name].cpu(), second[name].cpu())}


def _alike(first: list[Group], second: list[Group]) -> bool:
    def places(groups: list[Group]) -> list[Any]:
        return [
            (
                group.axes,
                {key: [(each.axes, each.index.tolist()) for each in parts] for key, parts in group.places.items()},
            )
            for group in groups
        ]

    return places(first) == places(second)
