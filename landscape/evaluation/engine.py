"""One entry for every evaluation: choose a method, fill the grid, check the result, describe it."""

import itertools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landscape.checks import check_choice, checked_path, is_number
from landscape.errors import InputError
from landscape.evaluation.checks import check_networks, check_origin
from landscape.evaluation.choice import METHODS, Method, choose_method
from landscape.evaluation.compilation import POLICIES, Policy
from landscape.evaluation.description import described
from landscape.evaluation.filling import Goal, fill
from landscape.evaluation.grid import grid_axes
from landscape.evaluation.identity import check_ranks, identity_of
from landscape.evaluation.ledger import Ledger
from landscape.evaluation.progress import Progress
from landscape.evaluation.refinement.tolerance import Tolerance, check_tolerance
from landscape.evaluation.rounding import rounding_of_steps
from landscape.evaluation.together import together
from landscape.evaluation.workers import Workers
from landscape.objective.objectives import Objective, check_objective
from landscape.objective.samples import available_memory
from landscape.objective.settling import check_positive, whole_slice
from landscape.objective.workers import Team
from landscape.points import check_match
from landscape.results import Surface
from landscape.runtime import own_torch_state, ranks
from landscape.slices.planes import Slice, check_slice
from landscape.storage.recipe import is_identified

__all__ = ["evaluate"]


@together
@own_torch_state()
def evaluate(
    objective: Objective,
    slice: Slice,
    *,
    alpha_range: tuple[float, float] = (-1, 1),
    beta_range: tuple[float, float] = (-1, 1),
    resolution: int | tuple[int, int] = 51,
    per_sample: bool = False,
    method: Method = "auto",
    tolerance: Tolerance = None,
    budget: float | None = None,
    resume: str | Path | None = None,
    progress: bool = True,
    compile: Policy = "auto",
) -> Surface:
    """Compute the mean loss, its standard error and the accuracy at every point of a grid on a slice.

    loss[i, j] = 1/N sum_n l_n(slice(alphas[i], betas[j])), averaged in float64, independent of the batch size. Before
    the surface is returned, it is compared with plain forward passes: at the origin on all samples (if the grid
    contains it), at corners and interior points on the first batch, and at the networks of the slice with the losses of
    these networks themselves.

    Args:
        objective: The losses; the objective is not changed.
        slice: A line, a curve or a plane through the parameters of the objective's network.
        alpha_range: First and last coordinate along the first direction.
        beta_range: First and last coordinate along the second direction; not used on a line or curve.
        resolution: Number of grid points along each axis, at least 2: one number, or two.
        per_sample: Keep the losses of all samples, [A, B, N].
        method: "affine" (networks whose logits are affine in the coordinates), "prefix" (what precedes the first
            perturbed layer is computed once), "direct" (a forward pass at every point), or "auto", the first of
            these that provably fits. "affine" may compute mean and variance at Chebyshev points (see
            ``metadata["method_settings"]``), where these determine the whole grid to the rounding of the dtype.
            An objective of ``copy=False``, or of a network in shards, is evaluated "in_place". All processes that hold
            shards call this function with the same arguments and get the same surface.
        tolerance: None: evaluate every point. A number such as 0.01: interpolate where the loss is smooth, with errors
            up to 0.01 max(|loss|, a hundredth of the median loss), verified at 88 or more other points, also on the
            border. "noise": errors up to a third of the standard error. See
            `landscape.evaluation.refinement.selection`. Standard error and accuracy are interpolated as well, without
            a tolerance; the expected errors of all are in ``metadata["interpolation"]``. If it is faster (the method
            is "affine", or the grid takes no longer than planning), every point is evaluated nevertheless.
        budget: Seconds after which the refinement ends; the error reached by then is reported.
        resume: File in which finished points are stored; an interrupted evaluation with the same file is resumed. A
            callable loss must be identifiable, see `landscape.objective.code`.
        progress: Show the expected time and a progress bar.
        compile: Whether forward passes of "prefix" and "direct" are compiled, with the weights of the points as inputs:
            "auto" where that is known, or likely, to save more time than it takes, "always", or "never". What cannot be
            compiled is evaluated as it is, with the reason in ``metadata["methods_rejected"]``; what was compiled, and
            what it took and gained, is in ``metadata["compilation"]``.

    Raises:
        InputError: a range, resolution, method, policy or tolerance cannot be used; the slice belongs to another
            network, or to networks whose buffers cannot be interpolated or are unknown; the losses of all samples do
            not fit into memory; or the resume file belongs to another evaluation.

    Example:
        >>> from landscape_lib import objective, random_plane
        >>> model, data = torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
        >>> surface = evaluate(objective(model, data), random_plane(model), resolution=(7, 5), progress=False)
        >>> surface.loss.shape, surface.metadata["method"]
        ((7, 5), 'affine')
    """
    check_objective(objective, "evaluate(objective, plane)")
    check_slice(slice, "evaluate(objective, plane)")
    axes = grid_axes(slice.dimension, alpha_range, beta_range, resolution)
    place = checked_path(resume, "resume") if resume else None
    _check_request(objective, axes, method, tolerance, budget, per_sample, compile)
    objective.network.agree(
        **slice.recipe, ranges=(alpha_range, beta_range), resolution=resolution, per_sample=per_sample, method=method,
        tolerance=tolerance, budget=budget,
    )  # fmt: skip
    slice = whole_slice(objective.network, slice)
    check_match(slice.origin, dict(objective.network.parameters), "slice")
    objective = objective.for_slice(slice)
    objective.check_moves(slice.moved)
    check_positive(objective.network.ends, slice, axes)
    identity = identity_of(objective, slice, axes, per_sample)
    _check_resume(resume, identity)
    check_ranks(identity, slice, tolerance=tolerance, budget=budget, method=method)
    began, goal = time.perf_counter(), Goal.of(tolerance, budget)
    moved = objective.network.in_precision(slice)
    rounding = rounding_of_steps(objective.network, slice, axes)
    with objective.arithmetic(), torch.no_grad():
        networks = check_networks(objective, slice)
        choice = choose_method(objective, moved, axes, method)
        coordinates = torch.tensor(list(itertools.product(*axes)), dtype=torch.float64)
        ledger = Ledger(coordinates, objective, per_sample, identity, place)
        shown = progress and ranks.is_first_rank()
        with Team(objective) as team, Progress(shown, choice.evaluator.name) as bar:
            workers = Workers(objective, moved, choice, team, bar, compile)
            filled = fill(workers, ledger, axes, goal, shown)
        origin = check_origin(objective, moved, ledger, workers.evaluator)
    checks: dict[str, Any] = {"origin": origin, "networks": networks}
    checks |= {"rounding_of_steps": rounding} if rounding else {}  # absent otherwise, as in files of earlier versions
    seconds = time.perf_counter() - began
    return described(workers, ledger, filled, slice, axes, checks, seconds)


def _check_request(
    objective: Objective,
    axes: tuple[np.ndarray, ...],
    method: str,
    tolerance: Tolerance,
    budget: float | None,
    per_sample: bool,
    policy: str,
) -> None:
    """Raise InputError if a method, tolerance, budget or policy cannot be used, or if losses do not fit into memory."""
    check_choice("value of compile", policy, POLICIES)
    check_choice("method", method, ("auto", *METHODS))
    check_tolerance(tolerance, objective, per_sample)
    if budget is not None and not (is_number(budget) and budget > 0 and tolerance):
        raise InputError(f"a budget of {budget} seconds: it must be positive and needs a tolerance")
    if not per_sample:
        return
    if not objective.per_sample:
        raise InputError("per_sample needs a loss that gives one value a sample; this one gives a mean only")
    points = math.prod(len(axis) for axis in axes)
    need = points * objective.size * torch.empty(0, dtype=objective.dtype).element_size()
    free = available_memory(torch.device("cpu"))
    if need > 0.8 * free:
        raise InputError(
            f"per-sample losses of {points:,} points x {objective.size:,} samples take {need / 2**30:.1f} GiB, "
            f"but {free / 2**30:.1f} GiB are free; use fewer samples or grid points"
        )


def _check_resume(resume: str | Path | None, identity: dict[str, Any]) -> None:
    if resume and not is_identified(identity):
        raise InputError(
            "resume cannot be used with this loss: it holds something whose content cannot be told (an open file, a "
            "generator, compiled code), so that a later run could not know it again; leave that out, or resume"
        )
