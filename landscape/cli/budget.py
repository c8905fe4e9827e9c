"""A time for each surface, as an option of a command line: its plan, which survives an interruption."""

import glob
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from landscape.cli.checkpoint_surfaces import Conditions, plan_path
from landscape.cli.settings import Evaluation
from landscape.datasets import Data
from landscape.errors import InputError
from landscape.evaluation import plan_budget
from landscape.objective.objectives import objective
from landscape.results import Surface
from landscape.runtime import ranks
from landscape.slices.random_slices import random_plane
from landscape.storage.caching import kept_result, look_up
from landscape.storage.forms import form_fault
from landscape.storage.json_files import read_json, write_sealed
from landscape.training.checkpoints import Checkpoint

__all__ = ["check_budget", "settle_budget"]

LONGEST = 10**7  # seconds: four months
PLAN_FORM = {"checkpoint": dict, "plan": {"asked": dict, "samples": int, "tolerance": (int, float)}}


def settle_budget(
    budget: str | None,
    paths: Sequence[Path],
    checkpoints: Sequence[Checkpoint],
    data: Sequence[Data],
    conditions: Conditions,
) -> tuple[list[Data], Conditions]:
    """The samples that a time for each surface pays for, and ``conditions`` with a tolerance and notes of both.

    Surfaces to be compared need the same samples: the fewest that any of them can afford. ``paths`` are where the
    surfaces will be; one that is already there, planned for that time, keeps its plan. Until it is there the plan is
    kept beside it, so that an interrupted run continues with the same samples.

    Args:
        budget: such as "60s", "10min" or "1h"; None leaves everything as it is.

    Raises:
        InputError: a time that cannot be read or is too short, or a tolerance beside it.
    """
    if budget is None or not paths:
        return list(data), conditions
    plane, evaluation = conditions.plane, conditions.evaluation
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
    planned = min(plans, key=lambda plan: plan["samples"])
    print(f"Budget: {planned['samples']:,} samples, tolerance {planned['tolerance']:.2g}", flush=True)
    chosen = [samples.subset(min(planned["samples"], len(samples)), plane.seed) for samples in data]
    evaluation = replace(evaluation, tolerance=planned["tolerance"])
    return chosen, replace(conditions, evaluation=evaluation, notes={**conditions.notes, "budget": planned})


def check_budget(budget: str | None, evaluation: Evaluation) -> None:
    """Raise InputError for a time that cannot be read, or a tolerance beside it."""
    if budget is not None:
        _seconds(budget, evaluation)


def _seconds(budget: str, evaluation: Evaluation) -> float:
    if evaluation.tolerance is not None:
        raise InputError("a budget chooses the tolerance itself; give either --budget or --tolerance")
    match = re.fullmatch(r"(\d+\.?\d*)\s*(s|min|h)?", budget)
    seconds = float(match[1]) * {None: 1, "s": 1, "min": 60, "h": 3600}[match[2]] if match else 0.0
    if not 0 < seconds <= LONGEST:
        raise InputError(f"budget is {budget!r}; write 60s, 10min or 1h")
    return seconds


def _known_plan(path: Path, checkpoint: Checkpoint, asked: dict[str, Any]) -> dict[str, Any] | None:
    """How the surface at ``path`` was planned, if it is of this checkpoint and the same was ``asked`` for."""
    recipe = {"checkpoint": checkpoint.identity, "asked": asked}
    kept, _ = kept_result(plan_path(path), recipe, _read_plan)
    return kept or look_up(path, recipe, read=_plan_of_surface, entry="budget", alone=True)


def _read_plan(path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    try:
        record = read_json(path, PLAN_FORM, "plan", "it is made again")
    except InputError:  # a damaged one
        return None
    return record["plan"], {"checkpoint": record["checkpoint"], "asked": record["plan"]["asked"]}


def _plan_of_surface(path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    metadata = Surface.load(path).metadata
    record: Any = {"checkpoint": metadata.get("checkpoint"), "plan": metadata.get("budget")}
    if form_fault(record, PLAN_FORM):
        return None
    return record["plan"], {"checkpoint": record["checkpoint"], "asked": record["plan"]["asked"]}


def _keep_plan(path: Path, checkpoint: Checkpoint, plan: dict[str, Any]) -> None:
    """Write the ``plan`` beside ``path``; what was begun with another one can never be asked for again."""
    if plan_path(path).exists():
        for unfinished in path.parent.glob(f"{glob.escape(path.stem)}.????????.unfinished.npz"):
            unfinished.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(plan_path(path), {"checkpoint": checkpoint.identity, "plan": plan})
