"""Surfaces that are computed once: recognised by what they are of, never by the name of their file."""

import dataclasses
from pathlib import Path
from typing import Any

from landscape.errors import InputError
from landscape.evaluation.engine import evaluate
from landscape.evaluation.grid import grid_axes
from landscape.evaluation.identity import check_ranks, identity_of
from landscape.evaluation.refinement.tolerance import check_tolerance, shortfall
from landscape.evaluation.span import find_span
from landscape.objective.identity import objective_identity
from landscape.objective.objectives import Objective
from landscape.objective.settling import whole_slice
from landscape.results import Surface
from landscape.runtime import ranks
from landscape.slices.planes import Slice
from landscape.storage import cached
from landscape.storage.forms import form_fault
from landscape.storage.recipe import is_identified, unfinished_path

__all__ = ["load_or_evaluate", "load_or_find_span"]

RANGE_FORM = {"span": (int, float), "recipe": dict}


def load_or_evaluate(
    path: str | Path,
    objective: Objective,
    slice_: Slice,
    *,
    force: bool = False,
    notes: dict[str, Any] | None = None,
    remarks: dict[str, Any] | None = None,
    **options: Any,
) -> Surface:
    """The surface stored at ``path`` if it is the one asked for, else a new one, evaluated and stored there.

    It is the one asked for when slice, data, objective, grid and ``notes`` are the same, whatever the file's name
    says, and when it is as good as ``tolerance`` and ``budget`` ask. A callable loss counts as the same when its code
    and all values it uses are; where that cannot be told, the surface is computed. While it is computed, finished
    points are kept beside ``path``, and an interrupted call goes on there.

    Args:
        path: the .npz file.
        objective: as in `evaluate`.
        slice_: as in `evaluate`.
        force: compute it again in any case.
        notes: more metadata for the surface, such as the checkpoint it belongs to; JSON types.
        remarks: further metadata that need not be the same, such as the name of a file.
        options: passed on to `evaluate`.
    """
    path, notes = Path(path), notes or {}
    grid = {"alpha_range": (-1, 1), "beta_range": (-1, 1), "resolution": 51, **options}
    axes = grid_axes(slice_.dimension, grid["alpha_range"], grid["beta_range"], grid["resolution"])
    slice_ = whole_slice(objective.network, slice_)
    settled = objective.for_slice(slice_)
    per_sample, tolerance = options.get("per_sample", False), options.get("tolerance")
    check_tolerance(tolerance, settled, per_sample)
    identity = identity_of(settled, slice_, axes, per_sample)
    if taken := notes.keys() & identity.keys():
        raise InputError(f"notes has the key {min(taken)!r}, under which every surface says what it is of; rename it")
    quality = {"tolerance": tolerance, "budget": options.get("budget")}
    check_ranks(identity, slice_, **{**quality, **notes, "path": str(path), "force": force})
    unfinished = unfinished_path(path, identity, ".npz") if is_identified(identity) else None
    if force and unfinished and ranks.is_first_rank():
        unfinished.unlink(missing_ok=True)

    def read(place: Path) -> tuple[Surface, dict[str, Any]]:
        surface = Surface.load(place)
        stored = {key: value for key, value in surface.metadata.items() if key in notes}
        return surface, {**surface.metadata.get("identity", {}), **stored}

    def compute() -> Surface:
        surface = evaluate(objective, slice_, resume=unfinished, **options)
        return dataclasses.replace(surface, metadata={**surface.metadata, **(remarks or {}), **notes})

    def write(place: Path, surface: Surface) -> None:
        surface.save(place)
        if unfinished and ranks.is_first_rank():
            unfinished.unlink(missing_ok=True)

    def accept(surface: Surface) -> str | None:
        return shortfall(surface.metadata.get("interpolation"), **quality)

    return cached(path, {**identity, **notes}, compute, read=read, write=write, accept=accept, force=force)


def load_or_find_span(
    path: str | Path,
    objective: Objective,
    slice_: Slice,
    *,
    rise: float = 1.0,
    samples: int = 1000,
    seed: int = 0,
    force: bool = False,
) -> dict[str, Any]:
    """`find_span`, or what it gave before: the surface at ``path`` may hold it under "range" in its metadata.

    Give the result to `load_or_evaluate` as ``notes={"range": ...}``, for the next call to find it.
    """
    path, slice_ = Path(path), whole_slice(objective.network, slice_)
    settled = objective.for_slice(slice_)
    recipe = {
        "slice": slice_.fingerprint,
        "data": settled.samples.description["fingerprint"],
        "rise": rise,
        "samples": min(samples, settled.size),
        "seed": seed,
        **objective_identity(settled),
    }

    def read(place: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
        found: Any = Surface.load(place).metadata.get("range")
        return (found, found["recipe"]) if form_fault(found, RANGE_FORM) is None else None

    def compute() -> dict[str, Any]:
        return {**find_span(objective, slice_, rise=rise, samples=samples, seed=seed), "recipe": recipe}

    return cached(path, recipe, compute, read=read, force=force, entry="range")
