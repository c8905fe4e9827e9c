"""Permute the hidden units of one network so that they match those of another."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

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

__all__ = ["Alignment", "align"]

TOLERANCE = 1e-9  # of the largest output, in float64: rounding of sums in another order
ROUNDINGS = 1000  # units in the last place, for networks that compute parts in a lower precision


@dataclass(frozen=True, eq=False, repr=False)
class Alignment(Presented):
    """A network whose hidden units were permuted to match those of another."""

    model: nn.Module  # b with its units permuted, in eval mode; it computes what b computes
    permutations: dict[str, np.ndarray]  # units -> [units] int64: unit i of the model is unit index[i] of b; for units
    # inside blocks, such as the dimensions of attention heads, [blocks, units]: of each block of the model, and of that
    # which comes there
    deviation: float  # largest difference between the outputs of b and of the model on probe inputs, in float64
    rounds: int  # sweeps over all groups
    converged: bool  # whether the last sweep changed nothing
    method: str  # "weights" or "activations"

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
    method: Literal["weights", "activations"] = "weights",
    data: Any = None,
    seed: int = 0,
    parameters: str | Sequence[str] | None = None,
) -> Alignment:
    """Permute the hidden units of ``b`` so that they match those of ``a``; neither model is changed.

    A network computes the same function when the units of a hidden layer change places: neurons, channels, the places
    of a residual stream, attention heads, the dimensions inside a head. Which ones may is found by watching a forward
    pass, see `trace_coupling`; the best permutation of each group of units is a linear assignment, nested where units
    lie in blocks that change places themselves:

    - "weights" maximises sum_p <p(a), p(permuted b)> over all parameters p, group after group with the others held
      still, in random order, until no group gets better: Ainsworth et al. 2023, "Git Re-Basin: Merging Models modulo
      Permutation Symmetries", section 3.2. A local optimum where there are several groups, the better one from two
      starts.
    - "activations" maximises sum_i corr(unit i of a, unit i of permuted b) over ``data``, where the units are read by
      the next layer: Li et al. 2015, "Convergent Learning: Do Different Neural Networks Learn the Same
      Representations?", section 3. An optimum for every group; units that never change on the data come in any order.

    The result is verified: in float64, the permuted network gives the outputs of ``b``.

    Args:
        a: stays as it is.
        b: of the same architecture.
        method: "weights" or "activations".
        data: as for `objective`, or an objective whose samples are taken. The network is given the first tensor of a
            batch, or, by their names, the entries of a batch whose names are those of its arguments, without labels.
            Needed by "activations", and where the shape of the inputs cannot be told from the first layer.
        seed: of the order of the groups.
        parameters: those that may be permuted, such as "attention" or ("layer4.*",), see `chosen_parameters`; all by
            default. Units that other parameters hold, too, stay where they are.

    Raises:
        InputError: networks of different architectures, operations through which units cannot be followed,
            activations without data, an unknown method, weights that are not finite, parameters that hold no units of
            their own.

    Example:
        >>> from torch import nn
        >>> a, b = (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)) for _ in "ab")
        >>> aligned = align(a, b)
        >>> sorted(aligned.permutations["0"].tolist()), aligned.deviation < 1e-9
        ([0, 1, 2], True)
    """
    seed = checked_seed(seed)
    if method not in ("weights", "activations"):
        raise InputError(f"unknown method {method!r}; use 'weights' or 'activations'")
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
    deviation = max(float((found - value).abs().max()) for found, value in pairs)
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
    """The groups whose units lie in parameters of ``model`` that are ``chosen``, and in no others."""
    others = {name for name, _ in named_parameters(model)} - set(chosen)
    held = [{place.tensor for place in group.places if isinstance(place, Place)} & others for group in groups]
    kept = [group for group, outside in zip(groups, held, strict=True) if not outside]
    if not kept:
        raise InputError(
            "parameters: no units lie in the chosen parameters alone; choose the next layer, which reads them, as well"
        )
    return kept


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
    """What the second model gives; inputs are refused that it does not take, or for which that is not finite."""
    try:
        outputs = run(model, map_tensors(torch.clone, inputs))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(inputs, dict):
            taken = f"the entries {', '.join(map(repr, inputs))} of a batch of the data"
        else:
            taken = f"the first tensor of a batch of the data, of shape {tuple(inputs.shape)} and {inputs.dtype}"
        raise InputError(f"the network does not take {taken}: {reason}") from error
    if not all(output.isfinite().all() for output in outputs):
        raise InputError(
            "the outputs of the second model are NaN or infinite on probe inputs, so nothing can be aligned"
        )
    return outputs


def _constants(a: nn.Module, b: nn.Module) -> set[str]:
    """Names of the buffers in which the networks do not differ, such as masks; statistics are those of units."""
    first, second, statistics = dict(a.named_buffers()), dict(b.named_buffers()), statistics_names(a)
    return {name for name in first if name not in statistics and torch.equal(first[name].cpu(), second[name].cpu())}


def _alike(first: list[Group], second: list[Group]) -> bool:
    def places(groups: list[Group]) -> list[Any]:
        return [
            (
                group.axes,
                {key: [(each.axes, each.index.tolist()) for each in found] for key, found in group.places.items()},
            )
            for group in groups
        ]

    return places(first) == places(second)
