"""Surfaces of a checkpoint under the options of a command line."""

import contextlib
import glob
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from landscape.cli.settings import Evaluation, PlaneChoice
from landscape.cli.stored_metrics import input_scaling
from landscape.datasets import Data
from landscape.errors import InputError
from landscape.evaluation import load_or_evaluate, load_or_find_span, plan_budget
from landscape.objective.objectives import objective
from landscape.results import Surface
from landscape.runtime import ranks
from landscape.slices.random_slices import random_plane
from landscape.storage.forms import form_fault
from landscape.storage.json_files import read_json, write_sealed
from landscape.training.checkpoints import Checkpoint

__all__ = ["check_budget", "checkpoint_surface", "settle_budget", "settle_range"]

LONGEST = 10**7  # seconds: four months
PLAN_FORM = {"checkpoint": dict, "plan": {"asked": dict, "samples": int, "tolerance": (int, float)}}


def checkpoint_surface(
    path: Path,
    checkpoint: Checkpoint,
    data: Data,
    plane: PlaneChoice,
    evaluation: Evaluation,
    notes: dict[str, Any] | None = None,
    remarks: dict[str, Any] | None = None,
    **options: Any,
) -> Surface:
    """The loss of ``checkpoint`` on ``data`` over a random plane, computed or found at ``path``.

    ``notes`` and ``remarks`` are added to the metadata, ``options`` passed on to `evaluate`.
    """
    target = objective(checkpoint.model, data, **evaluation.arguments)
    slice_ = random_plane(checkpoint.model, **plane.directions)
    notes = {"checkpoint": checkpoint.identity, **(notes or {})}
    remarks = {"checkpoint_file": str(checkpoint.path), "inputs": input_scaling(data), **(remarks or {})}
    if planned := notes.get("budget"):
        options["budget"] = planned["seconds"]
    surface = load_or_evaluate(
        path, target, slice_, force=evaluation.force, notes=notes, remarks=remarks, method=evaluation.method,
        tolerance=evaluation.tolerance, **plane.grid, **options,
    )  # fmt: skip
    if ranks.is_first_rank():  # the surface keeps its plan itself
        _plan_path(path).unlink(missing_ok=True)
    return surface


def settle_budget(
    budget: str | None,
    paths: Sequence[Path],
    checkpoints: Sequence[Checkpoint],
    data: Sequence[Data],
    plane: PlaneChoice,
    evaluation: Evaluation,
) -> tuple[list[Data], Evaluation, dict[str, Any]]:
    """What a time for each surface pays for: samples, ``evaluation`` with a tolerance, and notes of both.

    Surfaces to be compared need the same samples: the fewest that any of them can afford. ``paths`` are where the
    surfaces will be; one that is already there, planned for that time, keeps its plan. Until it is there the plan is
    kept beside it, so that an interrupted run goes on with the same samples.

    Args:
        budget: such as "60s", "10min" or "1h"; None leaves everything as it is.

    Raises:
        InputError: a time that cannot be read or is too short, or a tolerance beside it.
    """
    if budget is None:
        return list(data), evaluation, {}
    seconds = _seconds(budget, evaluation)
    identities = [checkpoint.identity for checkpoint in checkpoints]
    ranks.check_agreement({"budget": seconds, "checkpoint": identities, "force": evaluation.force})
    plans = []
    for path, checkpoint, samples in zip(paths, checkpoints, data, strict=True):
        asked = {"seconds": seconds, "samples": len(samples), **evaluation.arguments, **plane.grid}
        known = None if evaluation.force else ranks.from_first(partial(_known_plan, path, checkpoint, asked))
        if not known:
            target = objective(checkpoint.model, samples, **evaluation.arguments)
            slice_ = random_plane(checkpoint.model, **plane.directions)
            plan = plan_budget(target, slice_, seconds, plane.seed, **plane.grid)
            known = {**asdict(plan), "asked": asked}
            ranks.from_first(partial(_keep_plan, path, checkpoint, known))
        plans.append(known)
    planned = min(plans, key=lambda found: found["samples"])
    print(f"Budget: {planned['samples']:,} samples, tolerance {planned['tolerance']:.2g}", flush=True)
    chosen = [samples.subset(min(planned["samples"], len(samples)), plane.seed) for samples in data]
    return chosen, replace(evaluation, tolerance=planned["tolerance"]), {"budget": planned}


def check_budget(budget: str | None, evaluation: Evaluation) -> None:
    """Raise InputError for a time that cannot be read, or a tolerance beside it."""
    if budget is not None:
        _seconds(budget, evaluation)


def _seconds(budget: str, evaluation: Evaluation) -> float:
    if evaluation.tolerance is not None:
        raise InputError("a budget picks the tolerance itself; give either --budget or --tolerance")
    match = re.fullmatch(r"(\d+\.?\d*)\s*(s|min|h)?", budget)
    seconds = float(match[1]) * {None: 1, "s": 1, "min": 60, "h": 3600}[match[2]] if match else 0.0
    if not 0 < seconds <= LONGEST:
        raise InputError(f"budget is {budget!r}; write 60s, 10min or 1h")
    return seconds


def _known_plan(path: Path, checkpoint: Checkpoint, asked: dict[str, Any]) -> dict[str, Any] | None:
    """How the surface at ``path`` was planned, if it is of this checkpoint and the same was ``asked`` for."""
    plans: list[dict[str, Any]] = []
    if path.exists():
        metadata = Surface.load(path).metadata
        plans.append({"checkpoint": metadata.get("checkpoint"), "plan": metadata.get("budget")})
    with contextlib.suppress(InputError):  # none, or a damaged one
        plans.append(read_json(_plan_path(path), PLAN_FORM, "plan", "it is made again"))
    for found in plans:
        same = form_fault(found, PLAN_FORM) is None and found["plan"]["asked"] == json.loads(json.dumps(asked))
        if same and found["checkpoint"] == checkpoint.identity:
            plan: dict[str, Any] = found["plan"]
            return plan
    return None


def _keep_plan(path: Path, checkpoint: Checkpoint, plan: dict[str, Any]) -> None:
    """Write the ``plan`` beside ``path``; what was begun with another one can never be asked for again."""
    if _plan_path(path).exists():
        for unfinished in path.parent.glob(f"{glob.escape(path.stem)}.????????.unfinished.npz"):
            unfinished.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(_plan_path(path), {"checkpoint": checkpoint.identity, "plan": plan})


def _plan_path(path: Path) -> Path:
    return path.with_suffix(".plan.json")


def settle_range(
    path: Path, checkpoint: Checkpoint, data: Data, plane: PlaneChoice, evaluation: Evaluation
) -> tuple[PlaneChoice, dict[str, Any]]:
    """``plane`` with the ranges that it asks to be found, and notes of how they were found, for `checkpoint_surface`.

    The surface at ``path`` may know them from an earlier run.
    """
    if plane.range is None:
        return plane, {}
    target = objective(checkpoint.model, data, **evaluation.arguments)
    slice_ = random_plane(checkpoint.model, **plane.directions)
    found = load_or_find_span(path, target, slice_, rise=plane.rise, seed=plane.seed, force=evaluation.force)
    print(f"Range: the loss has risen by {plane.rise:g} at {found['span']:g}", flush=True)
    ends = (-found["span"], found["span"])
    return replace(plane, alpha_range=ends, beta_range=ends, range=None), {"range": found}
