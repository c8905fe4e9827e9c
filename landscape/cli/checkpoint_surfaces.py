"""Surfaces of checkpoints under the options of a command line."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from landscape.cli.messages import optional, wrote
from landscape.cli.own_data import SampleSet
from landscape.cli.settings import Evaluation, PlaneChoice
from landscape.cli.stored_metrics import input_scaling
from landscape.curvature import affordable_samples, judged
from landscape.curvature.stored import MOST_SAMPLES
from landscape.evaluation import load_or_evaluate, load_or_find_span
from landscape.objective.objectives import Objective
from landscape.results import Surface
from landscape.runtime import ranks
from landscape.slices.planes import Plane, Slice
from landscape.slices.random_slices import random_plane
from landscape.training.checkpoints import Checkpoint

__all__ = ["Conditions", "checkpoint_surface", "plan_path", "rising_surface", "settle_range", "with_faithfulness"]

When = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class Conditions:
    """The settings of a surface, apart from its checkpoint and its data."""

    plane: PlaneChoice
    evaluation: Evaluation
    notes: dict[str, Any] = field(default_factory=dict)  # further entries of the recipe, compared with stored ones
    remarks: dict[str, Any] = field(default_factory=dict)  # further entries of the metadata


def checkpoint_surface(
    path: Path, checkpoint: Checkpoint, data: SampleSet, conditions: Conditions, **options: Any
) -> Surface:
    """The loss of ``checkpoint`` on ``data`` over a random plane, loaded from ``path`` or computed and stored there.

    What the plane leaves out is stored with it, see `with_faithfulness`. The path is printed. ``options`` are passed to
    `evaluate`.
    """
    plane, evaluation = conditions.plane, conditions.evaluation
    target = evaluation.objective_of(checkpoint.model, data)
    notes = {"checkpoint": checkpoint.identity, **conditions.notes}
    remarks = {"checkpoint_file": str(checkpoint.path), "inputs": input_scaling(data), **conditions.remarks}
    if planned := notes.get("budget"):
        options["budget"] = planned["seconds"]
    slice_ = random_plane(checkpoint.model, **plane.directions)
    surface = load_or_evaluate(
        path, target, slice_, force=evaluation.force, notes=notes, remarks=remarks, **evaluation.ways, **plane.grid,
        **options,
    )  # fmt: skip
    surface = with_faithfulness(path, surface, target, slice_, plane.faithfulness, seed=plane.seed)
    if ranks.is_first_rank():  # the metadata of the surface contain the plan
        plan_path(path).unlink(missing_ok=True)
    wrote(path)
    return surface


def with_faithfulness(
    path: Path, surface: Surface, target: Objective, slice: Slice, when: When, *, seed: int, **options: Any
) -> Surface:
    """``surface``, stored at ``path``, with what its slice leaves out, unless that is too costly, see `judged`.

    If the loss has no second derivatives, the reason is printed. ``options`` are passed to `faithfulness`.
    """
    samples = {"auto": affordable_samples(surface), "always": MOST_SAMPLES, "never": None}[when]
    if samples is not None:
        with optional("comparison of the curvature in the plane with that in all directions"):
            return judged(path, surface, target, slice, samples=samples, seed=seed, **options)
    return surface


def rising_surface(
    path: Path,
    target: Objective,
    plane: Plane,
    evaluation: Evaluation,
    rise: float,
    resolution: int,
    notes: dict[str, Any],
) -> Surface:
    """The loss over ``plane``, with ranges at whose ends it has risen by ``rise``.

    It is loaded from ``path``, or computed and stored there.
    """
    rising = load_or_find_span(path, target, plane, rise=rise, force=evaluation.force)
    ends = (-rising["span"], rising["span"])
    surface = load_or_evaluate(
        path, target, plane, force=evaluation.force, notes={**notes, "range": rising}, **evaluation.ways,
        resolution=resolution, alpha_range=ends, beta_range=ends,
    )  # fmt: skip
    wrote(path)
    return surface


def plan_path(path: Path) -> Path:
    """The path of the plan of a time budget, which exists until the surface at ``path`` is complete."""
    return path.with_suffix(".plan.json")


def settle_range(path: Path, checkpoint: Checkpoint, data: SampleSet, conditions: Conditions) -> Conditions:
    """``conditions`` with ranges at whose ends the loss has risen as requested, unless ranges are set.

    The range is taken from the surface at ``path`` if that exists, and noted in the conditions.
    """
    plane, evaluation = conditions.plane, conditions.evaluation
    if plane.range is None:
        return conditions
    target = evaluation.objective_of(checkpoint.model, data)
    slice_ = random_plane(checkpoint.model, **plane.directions)
    rising = load_or_find_span(path, target, slice_, rise=plane.rise, seed=plane.seed, force=evaluation.force)
    print(f"Range: the loss has risen by {plane.rise:g} at {rising['span']:g}", flush=True)
    ends = (-rising["span"], rising["span"])
    plane = replace(plane, alpha_range=ends, beta_range=ends, range=None)
    return replace(conditions, plane=plane, notes={**conditions.notes, "range": rising})
