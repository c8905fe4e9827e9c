"""Measures of sharpness that are computed once: recognised by what they are of, never by the name of their file."""

import functools
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from landscape.errors import InputError
from landscape.objective.identity import difference, objective_identity
from landscape.objective.objectives import Objective
from landscape.points import Point, as_point
from landscape.results import Sharpness
from landscape.runtime import ranks
from landscape.sharpness.measures import MEASURES, check_sharpness, sharpness_in
from landscape.sharpness.neighbourhood import Neighbourhood
from landscape.storage.json_files import read_json, write_sealed
from landscape.storage.provenance import fingerprint

__all__ = ["load_or_measure_sharpness"]

NUMBER = (int, float)
FORM = {
    "identity": dict,
    "measures": [
        {
            "measure": str,
            "value": NUMBER,
            "radius": NUMBER,
            "definition": str,
            "source": str,
            "loss": NUMBER,
            "losses": [NUMBER],
            "seed": int,
            "metadata": dict,
        }
    ],
}
WAY_OUT = "measure again with force=True, or give another file"


def load_or_measure_sharpness(
    path: str | Path,
    objective: Objective,
    point: nn.Module | Point,
    measures: Sequence[str],
    *,
    seed: int = 0,
    force: bool = False,
) -> list[Sharpness]:
    """`sharpness` by every one of ``measures`` with its usual settings, found in ``path`` (.json) or measured.

    What is stored serves if point, data, objective, definition, settings and seed are the same. The file is written
    after every measure, so that interrupted work is resumed; measures in it that are not asked for are kept.

    Raises:
        InputError: an unknown measure, a damaged file, and what `sharpness` raises.
    """
    check_sharpness(measures, seed=seed)
    path, point = Path(path), as_point(point)
    identity = {
        "point": fingerprint(point.values()),
        "data": {**objective.samples.description, "size": objective.size},
        **objective_identity(objective),
    }
    stored = {} if force else ranks.from_first(lambda: _stored(path, identity, seed))
    around = functools.cache(lambda: Neighbourhood(objective, point))  # only where something is missing
    for name in measures:
        if name in stored:
            continue
        stored[name] = sharpness_in(around(), name, seed=seed)
        write_sealed(path, {"identity": identity, "measures": [found.record for found in stored.values()]})
    return [stored[name] for name in measures]


def _stored(path: Path, identity: dict[str, Any], seed: int) -> dict[str, Sharpness]:
    """The measures in ``path`` that are those of ``identity`` with the settings that they have now."""
    if not path.exists():
        return {}
    content = read_json(path, FORM, "sharpness", WAY_OUT)
    names = {field.name for field in fields(Sharpness)}
    if any(record.keys() != names for record in content["measures"]):
        raise InputError(f"{path} holds no sharpness, or is damaged: a measure has other fields; {WAY_OUT}")
    if difference(content["identity"], identity):
        return {}
    found = [Sharpness(**record) for record in content["measures"]]
    return {one.measure: one for one in found if _is_usual(one, seed)}


def _is_usual(found: Sharpness, seed: int) -> bool:
    measure = MEASURES.get(found.measure)
    if measure is None or found.layer is not None:
        return False
    settings = (found.radius, found.samples, found.steps, found.seed, found.definition)
    return settings == (measure.radius, measure.samples, measure.steps, seed, measure.named(0.0).definition)
