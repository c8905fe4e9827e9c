"""What the studies measure at a network: curvature and sharpness, each with the settings that it depends on."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from landscape.curvature import hessian_product, spectral_density, top_eigenpairs, trace
from landscape.curvature.settings import CurvatureSettings
from landscape.errors import InputError
from landscape.objective.objectives import Objective
from landscape.results.archive import Archived
from landscape.sharpness import MEASURES, Neighbourhood, sharpness_in
from landscape.storage.records import made_once, plain
from landscape.studies.kit.names import EARLIER_NAMES

__all__ = ["Measurement", "curvature_measurements", "measured_once", "or_reason", "sharpness_measurements"]

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Measurement:
    """One thing to measure."""

    settings: dict[str, Any]  # what the result depends on besides network, data and seed
    measure: Callable[[], Any]


def curvature_measurements(
    target: Objective, model: nn.Module, settings: CurvatureSettings, *, seed: int, progress: bool = True
) -> dict[str, Measurement]:
    """Eigenvalues, trace and spectral density of the Hessian; one product for all that are asked for."""
    product = functools.cache(lambda: hessian_product(target, model))  # only where something is missing

    def of(measure: Callable[..., Any], options: dict[str, Any]) -> Measurement:
        return Measurement(options, lambda: measure(product(), seed=seed, progress=progress, **options))

    return {
        "eigenvalues": of(top_eigenpairs, settings.of_eigenpairs),
        "trace": of(trace, settings.of_trace),
        "density": of(spectral_density, settings.of_density),
    }


def sharpness_measurements(
    around: Callable[[], Neighbourhood], names: Iterable[str], *, seed: int, draws: int | None, steps: int | None
) -> dict[str, Measurement]:
    """Measures of sharpness: ``draws`` of random perturbations, searches of ``steps`` (None: the usual numbers)."""
    found = {}
    for name in names:
        usual = MEASURES[name]
        starts_or_draws = draws if usual.steps is None or draws is None else 1
        options = {
            "samples": None if usual.samples is None else starts_or_draws,
            "steps": None if usual.steps is None else steps,
        }
        found[name] = Measurement(options, partial(_sharpness, around, name, seed, options))
    return found


def _sharpness(around: Callable[[], Neighbourhood], name: str, seed: int, options: dict[str, Any]) -> Any:
    return sharpness_in(around(), name, seed=seed, **options)


def measured_once(
    path: Path, recipe: Numbers, measure: Callable[[], Iterable[tuple[Numbers, Mapping[str, Archived]]]]
) -> bool:
    """Record what ``measure`` gives at ``path`` unless it is there for this ``recipe``; whether it was measured now.

    ``measure`` yields (numbers, results by the names of their files). Where something cannot be measured, the record
    holds what came before and says why under "failed".
    """

    def make(folder: Path) -> tuple[Numbers, list[Path]]:
        content: Numbers = {}
        results: dict[str, Archived] = {}
        try:
            for numbers, more in measure():
                content |= numbers
                results |= more
        except InputError as error:
            content["failed"] = str(error)
        return plain(content), [result.save(folder / f"{name}.npz") for name, result in results.items()]

    return made_once(path, recipe, make, EARLIER_NAMES)


def or_reason(measure: Callable[[], Numbers]) -> Numbers:
    """The numbers of ``measure``, or {"failed": why there are none}."""
    try:
        return measure()
    except InputError as error:
        return {"failed": str(error)}
