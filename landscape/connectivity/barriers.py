"""The loss on the straight line between two networks."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from landscape.evaluation import evaluate
from landscape.objective.objectives import Objective, check_objective
from landscape.points import Point
from landscape.results import Barrier
from landscape.results.barrier import Definition, check_definition
from landscape.slices.interpolations import interpolation_line

__all__ = ["barrier"]


def barrier(
    objective: Objective,
    a: nn.Module | Point,
    b: nn.Module | Point,
    *,
    resolution: int = 25,
    definition: Definition = "entezari",
    parameters: str | Sequence[str] | None = None,
    **options: Any,
) -> Barrier:
    """The barrier max_t L((1 - t) a + t b) - B(t) of the loss on the straight line between two networks.

    By default the statistics of BatchNorm layers are estimated at every point of the line, including its ends; compare
    Jordan et al. 2023, "REPAIR: REnormalizing Permuted Activations for Interpolation Repair".

    Args:
        objective: The loss L; only the architecture of its network matters.
        a: The network at t = 0.
        b: The network at t = 1.
        resolution: Number of points of the line, including both ends; the maximum is taken over them.
        definition: The base B: "entezari" for (1 - t) L(a) + t L(b), or "frankle" for (L(a) + L(b)) / 2.
        parameters: The parameters that differ along the line, such as ("*lora*",), see `chosen_parameters`; default:
            all. The others are those of ``a``, so that the end of the line is ``a`` with these parameters of ``b``.
        options: Passed on to `evaluate`.

    Raises:
        InputError: the networks have other architectures, the definition is unknown, the parameters choose
            nothing, or `evaluate` refuses the arguments.

    Example:
        >>> import torch
        >>> from landscape_lib import objective
        >>> a, b = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
        >>> data = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
        >>> barrier(objective(a, data), a, b, progress=False).value  # the loss of a linear model is convex
        0.0
    """
    check_definition(definition)
    check_objective(objective, "barrier(objective, a, b)")
    line = interpolation_line(a, b, parameters=parameters)
    return Barrier.of(evaluate(objective, line, alpha_range=(0, 1), resolution=resolution, **options), definition)
