"""Measurements of curvature and sharpness at a network, each with the settings on which it depends."""

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
    """One measurement."""

    settings: dict[str, Any]  # settings on which the result depends, besides network, data and seed
    measure: Callable[[], Any]


def curvature_measurements(
    target: Objective, model: nn.Module, settings: CurvatureSettings, *, seed: int, progress: bool = True
) -> dict[str, Measurement]:
    """Measurements of eigenvalues, trace and spectral density of the Hessian, which share one product."""
    product = functools.cache(lambda: hessian_product(target, model))  # only made if a measurement is missing

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
    """Measurements of sharpness with ``draws`` random perturbations or searches of ``steps`` (None: the defaults)."""
    measurements = {}
    for name in names:
        usual = MEASURES[name]
        starts_or_draws = draws if usual.steps is None or draws is None else 1
        options = {
            "samples": None if usual.samples is None else starts_or_draws,
            "steps": None if usual.steps is None else steps,
        }
        measurements[name] = Measurement(options, partial(_sharpness, around, name, seed, options))
    return measurements


def _sharpness(around: Callable[[], Neighbourhood], name: str, seed: int, options: dict[str, Any]) -> Any:
    return sharpness_in(around(), name, seed=seed, **options)


def measured_once(
    path: Path, recipe: Numbers, measure: Callable[[], Iterable[tuple[Numbers, Mapping[str, Archived]]]]
) -> bool:
    """Store the results of ``measure`` at ``path`` unless those of this ``recipe`` are there; whether it was called.

    ``measure`` yields (numbers, results by the names of their files). If something cannot be measured, the record holds
    the results before it and gives the reason under "failed".
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
    """The numbers of ``measure``, or {"failed": reason} if it raises InputError."""
    try:
        return measure()
    except InputError as error:
        return {"failed": str(error)}
