"""Measures of sharpness that are computed once and stored, all measures of a point in one file."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from landscape.errors import InputError
from landscape.objective.identity import objective_identity
from landscape.objective.objectives import Objective
from landscape.points import Point, as_point
from landscape.results import Sharpness
from landscape.sharpness.measures import MeasureName, layer_sharpness, settled_measure, sharpness_in
from landscape.sharpness.neighbourhood import Neighbourhood
from landscape.storage import cached
from landscape.storage.json_files import read_json, write_sealed
from landscape.storage.locks import locked
from landscape.storage.provenance import fingerprint
from landscape.storage.reading import is_there
from landscape.storage.recipe import difference

__all__ = ["load_or_measure_layers", "load_or_measure_sharpness"]

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
    measures: Sequence[MeasureName],
    *,
    seed: int = 0,
    parameters: Sequence[str] | None = None,
    force: bool = False,
) -> list[Sharpness]:
    """The results of all ``measures`` with their default settings, loaded from ``path`` (.json) or measured.

    A stored result is used if point, data, objective, definition, settings, seed and ``parameters`` (those that are
    perturbed, see `sharpness`; default: all) are the same. The file is written after each measure, so that interrupted
    work is resumed; other measures in it are kept.

    Raises:
        InputError: A measure is unknown, the file is damaged, or `sharpness` refuses the arguments.
    """
    recipes = {name: _settings(name, seed) for name in measures}  # refuses an unknown measure before any work
    path = Path(path)
    subject = _subject(objective, as_point(point)) | ({"parameters": list(parameters)} if parameters else {})
    around = functools.cache(lambda: Neighbourhood(objective, point, parameters))  # not made if all are stored
    results: list[Sharpness] = []
    for name in measures:
        result = cached(
            path,
            {**subject, **recipes[name]},
            partial(_measured, around, name, seed),
            read=partial(_stored, name=name),
            write=lambda place, new: _keep(place, [*results, new], subject),
            force=force,
            entry=name,
        )
        results.append(result)
    return results


def load_or_measure_layers(
    path: str | Path,
    objective: Objective,
    point: nn.Module | Point,
    *,
    radius: float = 0.1,
    samples: int = 10,
    seed: int = 0,
    parameters: Sequence[str] | None = None,
    force: bool = False,
) -> tuple[Sharpness, ...]:
    """The result of `layer_sharpness`, loaded from ``path`` (.json) or measured and stored there.

    It is loaded if point, data, objective and settings are the same.

    Raises:
        InputError: the file is damaged, or `layer_sharpness` refuses the arguments.
    """
    recipe = {
        **_subject(objective, as_point(point)),
        "layers": {"radius": radius, "samples": samples, "seed": seed, "parameters": parameters},
    }

    def measure() -> tuple[Sharpness, ...]:
        return layer_sharpness(
            objective, point, radius=radius, samples=samples, seed=seed, parameters=parameters
        )  # fmt: skip

    def read(place: Path) -> tuple[tuple[Sharpness, ...], dict[str, Any]]:
        stored, layers = _content(place)
        return tuple(layers), stored

    def write(place: Path, layers: tuple[Sharpness, ...]) -> None:
        write_sealed(place, {"identity": recipe, "measures": [layer.record for layer in layers]})

    return cached(path, recipe, measure, read=read, write=write, force=force)


def _subject(objective: Objective, point: Point) -> dict[str, Any]:
    """The part of a recipe that does not depend on the measure: point, data and objective."""
    return {
        "point": fingerprint(point.values()),
        "data": {**objective.samples.description, "size": objective.size},
        **objective_identity(objective),
    }


def _measured(around: Callable[[], Neighbourhood], name: str, seed: int) -> Sharpness:
    return sharpness_in(around(), name, seed=seed)


def _settings(name: str, seed: int) -> dict[str, Any]:
    """The part of a recipe that belongs to the measure ``name``."""
    measure = settled_measure(name, seed=seed)
    return {
        "radius": measure.radius, "samples": measure.samples, "steps": measure.steps, "seed": seed,
        "definition": measure.definition,
    }  # fmt: skip


def _stored(path: Path, name: str) -> tuple[Sharpness, dict[str, Any]] | None:
    """The measure ``name`` of the whole network in ``path``, with its recipe."""
    subject, results = _content(path)
    matches = [result for result in results if result.measure == name and result.layer is None]
    if not matches:
        return None
    return matches[0], {**subject, **{key: getattr(matches[0], key) for key in _settings(name, 0)}}


def _keep(path: Path, results: Sequence[Sharpness], subject: dict[str, Any]) -> None:
    """Write ``results`` into ``path``, beside its other measures of the same subject."""
    with locked(path):
        others: list[Sharpness] = []
        if is_there(path):
            with contextlib.suppress(InputError):  # a damaged file is replaced, as the caller has requested
                stored, others = _content(path)
                others = others if difference(stored, subject) is None else []
        new = {result.measure for result in results}
        others = [other for other in others if other.measure not in new]
        write_sealed(path, {"identity": subject, "measures": [entry.record for entry in (*others, *results)]})


def _content(path: Path) -> tuple[dict[str, Any], list[Sharpness]]:
    """The subject of all measures in ``path``, and the measures."""
    content = read_json(path, FORM, "sharpness", WAY_OUT)
    names = {field.name for field in fields(Sharpness)}
    if any(record.keys() != names for record in content["measures"]):
        raise InputError(f"{path} holds no sharpness, or is damaged: a measure has other fields; {WAY_OUT}")
    return content["identity"], [Sharpness(**record) for record in content["measures"]]
