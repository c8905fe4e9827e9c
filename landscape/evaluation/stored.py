"""Surfaces that are computed once: recognised by what they are of, never by the name of their file."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from landscape.evaluation.engine import evaluate
from landscape.evaluation.grid import grid_axes
from landscape.evaluation.identity import check_ranks, identity_of
from landscape.evaluation.refinement.tolerance import check_tolerance, serves
from landscape.objective.identity import difference, is_known
from landscape.objective.objectives import Objective
from landscape.objective.settling import whole_slice
from landscape.results import Surface
from landscape.runtime import ranks
from landscape.slices.planes import Slice

__all__ = ["load_or_evaluate"]


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
    says, and when it is as good as ``tolerance`` and ``budget`` ask, see `serves`. A callable loss counts as the same
    when its code and all values it uses are; where that cannot be told, the surface is computed. While it is computed,
    finished points are kept beside ``path``, and an interrupted call goes on there.

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
    wanted = {"identity": identity_of(settled, slice_, axes, per_sample), **notes}
    quality = {"tolerance": tolerance, "budget": options.get("budget")}
    check_ranks(wanted["identity"], slice_, **{**quality, **notes, "path": str(path), "force": force})
    if not force and (surface := ranks.from_first(lambda: _stored(path, wanted, quality))):
        return surface
    unfinished = _unfinished(path, wanted["identity"]) if is_known(wanted["identity"]) else None
    if force and unfinished and ranks.is_first_rank():
        unfinished.unlink(missing_ok=True)
    surface = evaluate(objective, slice_, resume=unfinished, **options)
    surface = dataclasses.replace(surface, metadata={**surface.metadata, **(remarks or {}), **notes})
    surface.save(path)
    if unfinished and ranks.is_first_rank():
        unfinished.unlink(missing_ok=True)
    return surface


def _unfinished(path: Path, identity: dict[str, Any]) -> Path:
    """Where the finished points of a surface with ``identity`` are kept until all are there."""
    stable = {key: value for key, value in identity.items() if key != "first losses"}
    recipe = hashlib.sha256(json.dumps(stable, sort_keys=True).encode()).hexdigest()[:8]
    return path.with_suffix(f".{recipe}.unfinished.npz")


def _stored(path: Path, wanted: dict[str, Any], quality: dict[str, Any]) -> Surface | None:
    """The surface at ``path`` if it is the one wanted; why it is replaced is printed otherwise."""
    if not path.exists():
        return None
    surface = Surface.load(path)
    reason = difference(surface.metadata.get("identity", {}), wanted["identity"])
    if reason is None and not serves(surface.metadata.get("interpolation"), **quality):
        reason = "it is less exact than asked for"
    for key, value in wanted.items():
        if reason is None and key != "identity" and surface.metadata.get(key) != value:
            reason = f"its {key} is {surface.metadata.get(key)}, not {value}"
    if reason is None:
        return surface
    print(f"{path} is computed again: {reason}", flush=True)
    return None
