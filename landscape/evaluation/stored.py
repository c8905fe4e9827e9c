"""Stored surfaces and spans, which are recognised by the recipe inside the file and not by its name."""

import dataclasses
from pathlib import Path
from typing import Any

from landscape.checks import checked_path
from landscape.errors import InputError
from landscape.evaluation.engine import evaluate
from landscape.evaluation.grid import grid_axes
from landscape.evaluation.identity import check_ranks, identity_of
from landscape.evaluation.refinement.tolerance import check_tolerance, shortfall
from landscape.evaluation.span import find_span
from landscape.evaluation.together import together
from landscape.objective.identity import objective_identity
from landscape.objective.objectives import Objective, check_objective
from landscape.objective.settling import whole_slice
from landscape.results import Surface
from landscape.runtime import ranks
from landscape.slices.planes import Slice, check_slice
from landscape.storage import cached
from landscape.storage.forms import form_fault
from landscape.storage.recipe import is_identified, unfinished_path

__all__ = ["load_or_evaluate", "load_or_find_span"]

RANGE_FORM = {"span": (int, float), "recipe": dict}


@together
def load_or_evaluate(
    path: str | Path,
    objective: Objective,
    slice: Slice,
    *,
    force: bool = False,
    notes: dict[str, Any] | None = None,
    remarks: dict[str, Any] | None = None,
    **options: Any,
) -> Surface:
    """Load the surface stored at ``path`` if it is the requested one; otherwise evaluate it and store it there.

    It is the requested one if slice, data, objective, grid and ``notes`` are the same and it is as accurate as
    ``tolerance`` and ``budget`` require; the name of the file does not matter. Two callable losses are the same if
    their code and all values that they use are equal; if that cannot be decided, the surface is evaluated. During the
    evaluation, finished points are stored in a file beside ``path``, from which an interrupted call is resumed.

    Args:
        path: The .npz file.
        objective: See `evaluate`.
        slice: See `evaluate`.
        force: Evaluate the surface even if it is stored.
        notes: Further metadata (JSON types) that must be the same, such as the checkpoint.
        remarks: Further metadata that may differ, such as the name of a file.
        options: Passed on to `evaluate`.

    Raises:
        InputError: ``notes`` has a reserved key, the file is damaged, or `evaluate` refuses the arguments.
    """
    check_objective(objective, "load_or_evaluate(path, objective, plane)")
    check_slice(slice, "load_or_evaluate(path, objective, plane)")
    path, notes = checked_path(path), notes or {}
    grid = {"alpha_range": (-1, 1), "beta_range": (-1, 1), "resolution": 51, **options}
    axes = grid_axes(slice.dimension, grid["alpha_range"], grid["beta_range"], grid["resolution"])
    slice = whole_slice(objective.network, slice)
    settled = objective.for_slice(slice)
    per_sample, tolerance = options.get("per_sample", False), options.get("tolerance")
    check_tolerance(tolerance, settled, per_sample)
    identity = identity_of(settled, slice, axes, per_sample)
    if reserved := notes.keys() & identity.keys():
        raise InputError(f"notes has the key {min(reserved)!r}, which is reserved in every surface; rename it")
    quality = {"tolerance": tolerance, "budget": options.get("budget")}
    check_ranks(identity, slice, **{**quality, **notes, "path": str(path), "force": force})
    unfinished = unfinished_path(path, identity, ".npz") if is_identified(identity) else None
    if force and unfinished and ranks.is_first_rank():
        unfinished.unlink(missing_ok=True)

    def read(place: Path) -> tuple[Surface, dict[str, Any]]:
        surface = Surface.load(place)
        stored = {key: value for key, value in surface.metadata.items() if key in notes}
        return surface, {**surface.metadata.get("identity", {}), **stored}

    def compute() -> Surface:
        surface = evaluate(objective, slice, resume=unfinished, **options)
        return dataclasses.replace(surface, metadata={**surface.metadata, **(remarks or {}), **notes})

    def write(place: Path, surface: Surface) -> None:
        surface.save(place)
        if unfinished and ranks.is_first_rank():
            unfinished.unlink(missing_ok=True)

    def accept(surface: Surface) -> str | None:
        return shortfall(surface.metadata.get("interpolation"), **quality)

    return cached(path, {**identity, **notes}, compute, read=read, write=write, accept=accept, force=force)


@together
def load_or_find_span(
    path: str | Path,
    objective: Objective,
    slice: Slice,
    *,
    rise: float = 1.0,
    samples: int = 1000,
    seed: int = 0,
    force: bool = False,
) -> dict[str, Any]:
    """The result of `find_span`, or the one stored as "range" in the metadata of the surface at ``path``.

    Pass the result to `load_or_evaluate` as ``notes={"range": ...}`` to store it for the next call.
    """
    path, slice = checked_path(path), whole_slice(objective.network, slice)
    settled = objective.for_slice(slice)
    recipe = {
        "slice": slice.fingerprint,
        "data": settled.samples.description["fingerprint"],
        "rise": rise,
        "samples": min(samples, settled.size),
        "seed": seed,
        **objective_identity(settled),
    }

    def read(place: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
        entry: Any = Surface.load(place).metadata.get("range")
        return (entry, entry["recipe"]) if form_fault(entry, RANGE_FORM) is None else None

    def compute() -> dict[str, Any]:
        return {**find_span(objective, slice, rise=rise, samples=samples, seed=seed), "recipe": recipe}

    return cached(path, recipe, compute, read=read, force=force, entry="range")
