"""Surfaces of a checkpoint under the options of a command line."""

from dataclasses import replace
from pathlib import Path

from landscape import ranks
from landscape.checkpoints import Checkpoint
from landscape.datasets import Data
from landscape.errors import InputError
from landscape.evaluation import find_span, load_or_evaluate, plan_budget
from landscape.objective import objective
from landscape.results import Surface
from landscape.settings import Evaluation, PlaneChoice
from landscape.slices import random_plane

__all__ = ["checkpoint_surface", "settle_range"]


def checkpoint_surface(
    path: Path,
    checkpoint: Checkpoint,
    data: Data,
    plane: PlaneChoice,
    evaluation: Evaluation,
    notes: dict | None = None,
    **options,
) -> Surface:
    """The loss of ``checkpoint`` on ``data`` over a random plane, computed or found at ``path``.

    ``notes`` are added to the metadata, ``options`` passed on to `evaluate`.
    """
    target = objective(checkpoint.model, data, **evaluation.arguments)
    slice_ = random_plane(checkpoint.model, **plane.directions)
    notes = {"checkpoint": checkpoint.identity, **(notes or {})}
    options |= {"tolerance": evaluation.tolerance, **plane.grid}
    if seconds := evaluation.budget_seconds:
        if options.get("per_sample"):
            raise InputError("a budget picks a subset of the samples, but these are chosen; use --tolerance")
        known = None if evaluation.force else _known_plan(path, seconds, checkpoint)
        planned = ranks.from_first(lambda: known or plan_budget(target, slice_, seconds, plane.seed, **plane.grid))
        target = target.subset(planned["samples"], plane.seed)
        print(f"Budget: {planned['samples']:,} samples, tolerance {planned['tolerance']:.2g}", flush=True)
        notes["budget"] = planned
        options |= {"tolerance": planned["tolerance"], "budget": planned["seconds"]}
    return load_or_evaluate(
        path, target, slice_, force=evaluation.force, notes=notes, method=evaluation.method, **options
    )


def _known_plan(path: Path, seconds: float, checkpoint: Checkpoint) -> dict | None:
    """How the surface at ``path`` was planned, if it is of this checkpoint and was given that time."""
    if not path.exists():
        return None
    metadata = Surface.load(path).metadata
    same = metadata.get("checkpoint") == checkpoint.identity
    planned = metadata.get("budget") or {}
    return planned if same and planned.get("asked_seconds") == seconds else None


def settle_range(
    checkpoint: Checkpoint, data: Data, plane: PlaneChoice, evaluation: Evaluation
) -> tuple[PlaneChoice, dict]:
    """``plane`` with the ranges that it asks to be found, and how they were found, for `checkpoint_surface`."""
    if plane.range is None:
        return plane, {}
    target = objective(checkpoint.model, data, **evaluation.arguments)
    found = find_span(target, random_plane(checkpoint.model, **plane.directions), rise=plane.rise, seed=plane.seed)
    print(f"Range: the loss has risen by {plane.rise:g} at {found['span']:g}", flush=True)
    ends = (-found["span"], found["span"])
    return replace(plane, alpha_range=ends, beta_range=ends, range=None), {"range": found}
