"""The time budget of a surface, an option of command lines; its plan is stored, so that interrupted runs continue."""

import glob
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from landscape.cli.checkpoint_surfaces import Conditions, plan_path
from landscape.cli.own_data import SampleSet
from landscape.cli.settings import Evaluation
from landscape.errors import InputError
from landscape.evaluation import plan_budget
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
    data: Sequence[SampleSet],
    conditions: Conditions,
) -> tuple[list[SampleSet], Conditions]:
    """Choose the number of samples and the tolerance for a time budget for each surface.

    Surfaces that are compared need the same samples, so the smallest number of samples that any of them can afford is
    used. A surface that exists and was planned for the same budget keeps its plan. The plan is stored beside the path
    of the surface until the surface is complete, so that an interrupted run continues with the same samples.

    Args:
        budget: Time such as "60s", "10min" or "1h"; None leaves everything unchanged.
        paths: Paths of the surfaces.
        checkpoints: The checkpoint of each surface.
        data: The data of each checkpoint.
        conditions: The other settings of the surfaces.

    Returns:
        The samples of each surface, and ``conditions`` with the tolerance and a note of the plan.

    Raises:
        InputError: The budget cannot be read or is too short, or a tolerance is set as well.
    """
    if budget is None or not paths:
        return list(data), conditions
    plane, evaluation = conditions.plane, conditions.evaluation
    seconds = _seconds(budget, evaluation)
    identities = [checkpoint.identity for checkpoint in checkpoints]
    ranks.check_agreement({"budget": seconds, "checkpoint": identities, "force": evaluation.force})
    plans = []
    for path, checkpoint, samples in zip(paths, checkpoints, data, strict=True):
        request = {"seconds": seconds, "samples": len(samples), **evaluation.arguments, **plane.grid}
        plan = None if evaluation.force else ranks.from_first(partial(_stored_plan, path, checkpoint, request))
        if not plan:
            target = evaluation.objective_of(checkpoint.model, samples)
            slice_ = random_plane(checkpoint.model, **plane.directions)
            plan = {**asdict(plan_budget(target, slice_, seconds, plane.seed, **plane.grid)), "asked": request}
            ranks.from_first(partial(_store_plan, path, checkpoint, plan))
        plans.append(plan)
    planned = min(plans, key=lambda plan: plan["samples"])
    print(f"Budget: {planned['samples']:,} samples, tolerance {planned['tolerance']:.2g}", flush=True)
    chosen = [samples.subset(min(planned["samples"], len(samples)), plane.seed) for samples in data]
    evaluation = replace(evaluation, tolerance=planned["tolerance"])
    return chosen, replace(conditions, evaluation=evaluation, notes={**conditions.notes, "budget": planned})


def check_budget(budget: str | None, evaluation: Evaluation) -> None:
    """Raise InputError if ``budget`` is not a time, or if ``evaluation`` sets a tolerance as well."""
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


def _stored_plan(path: Path, checkpoint: Checkpoint, request: dict[str, Any]) -> dict[str, Any] | None:
    """The stored plan of the surface at ``path``, if it is for this checkpoint and the same ``request``."""
    recipe = {"checkpoint": checkpoint.identity, "asked": request}
    plan, _ = kept_result(plan_path(path), recipe, _read_plan)
    return plan or look_up(path, recipe, read=_plan_of_surface, entry="budget", alone=True)


def _read_plan(path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    try:
        record = read_json(path, PLAN_FORM, "plan", "it is made again")
    except InputError:  # the file is damaged
        return None
    return record["plan"], {"checkpoint": record["checkpoint"], "asked": record["plan"]["asked"]}


def _plan_of_surface(path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    metadata = Surface.load(path).metadata
    record: Any = {"checkpoint": metadata.get("checkpoint"), "plan": metadata.get("budget")}
    if form_fault(record, PLAN_FORM):
        return None
    return record["plan"], {"checkpoint": record["checkpoint"], "asked": record["plan"]["asked"]}


def _store_plan(path: Path, checkpoint: Checkpoint, plan: dict[str, Any]) -> None:
    """Write the ``plan`` beside ``path``, and delete unfinished surfaces of an earlier plan, which it replaces."""
    if plan_path(path).exists():
        for unfinished in path.parent.glob(f"{glob.escape(path.stem)}.????????.unfinished.npz"):
            unfinished.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(plan_path(path), {"checkpoint": checkpoint.identity, "plan": plan})
