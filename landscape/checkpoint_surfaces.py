"""Surfaces of a checkpoint under the options of a command line."""

from dataclasses import replace
from pathlib import Path

from landscape.checkpoints import Checkpoint
from landscape.datasets import Data
from landscape.evaluation import find_span, load_or_evaluate
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
    return load_or_evaluate(
        path,
        objective(checkpoint.model, data, **evaluation.arguments),
        random_plane(checkpoint.model, **plane.directions),
        force=evaluation.force,
        notes={"checkpoint": checkpoint.identity, **(notes or {})},
        method=evaluation.method,
        **plane.grid,
        **options,
    )


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
