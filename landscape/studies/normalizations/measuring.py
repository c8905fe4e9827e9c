"""Landscape, curvature and sharpness of one trained network, stored with their recipes."""

import functools
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from landscape.objective.objectives import Objective
from landscape.results import Eigenpairs, Sharpness, SpectralDensity, Surface, TraceEstimate
from landscape.results.summary import surface_numbers
from landscape.sharpness import MEASURES, Neighbourhood, layer_sharpness_in
from landscape.studies.kit.measurements import Measurement, curvature_measurements, or_reason, sharpness_measurements
from landscape.studies.kit.results_file import StoredResults
from landscape.studies.normalizations.settings import NormalizationStudy
from landscape.training.checkpoints import Checkpoint

__all__ = ["measure_curvature", "measure_landscape", "measure_sharpness"]


def measure_landscape(surface: Surface, seed: int, stored: StoredResults) -> dict[str, Any]:
    """The numbers of a surface (axes, losses, extremes, origin of the surface), computed once and stored in ``stored``.

    Args:
        surface: The surface.
        seed: Seed of the network.
        stored: The stored results of this normalisation.
    """
    keys = ("slice", "data", "objective", "checkpoint", "interpolation", "method")

    def numbers() -> dict[str, Any]:
        alphas, betas = surface.axes
        axes = {"alphas": alphas.tolist(), "betas": betas.tolist(), "loss": surface.loss.tolist()}
        return {**surface_numbers(surface), **axes, **{key: surface.metadata.get(key) for key in keys}}

    recipe = {key: surface.metadata.get(key) for key in ("identity", "checkpoint", "seconds")}
    return stored.get(seed, "landscape", recipe, numbers)


def measure_curvature(
    study: NormalizationStudy, seed: int, checkpoint: Checkpoint, target: Objective, stored: StoredResults
) -> dict[str, dict[str, Any]]:
    """Top eigenvalues, trace and spectral density of the Hessian, by name, computed once and stored in ``stored``.

    A result that cannot be measured is {"failed": reason}.
    """
    kinds = curvature_measurements(target, checkpoint.model, study.curvature, seed=seed)
    return _measured(kinds, _numbers, seed, checkpoint, target, stored)


def measure_sharpness(
    study: NormalizationStudy, seed: int, checkpoint: Checkpoint, target: Objective, stored: StoredResults
) -> dict[str, dict[str, Any]]:
    """All measures of sharpness, and the sharpness of all layers, by name, computed once and stored in ``stored``.

    A result that cannot be measured is {"failed": reason}.
    """
    around = functools.cache(lambda: Neighbourhood(target, checkpoint.model))  # not made if all results are stored

    def layers() -> tuple[Sharpness, ...]:
        return layer_sharpness_in(around(), samples=study.draws, seed=seed)

    kinds = sharpness_measurements(around, MEASURES, seed=seed, draws=study.draws, steps=study.ascent_steps)
    kinds["layers"] = Measurement({"samples": study.draws}, layers)
    return _measured(kinds, _records, seed, checkpoint, target, stored)


def _measured(
    kinds: Mapping[str, Measurement],
    numbers: Callable[[Any], dict[str, Any]],
    seed: int,
    checkpoint: Checkpoint,
    target: Objective,
    stored: StoredResults,
) -> dict[str, dict[str, Any]]:
    """The ``numbers`` of all results, by name; {"failed": reason} for one that cannot be measured."""
    shared = {
        "checkpoint": checkpoint.sha256,
        "data": target.samples.description["fingerprint"],
        "objective": target.description,
        "seed": seed,
    }
    results = {}
    for name, kind in kinds.items():

        def compute(measure: Callable[[], Any] = kind.measure) -> dict[str, Any]:
            return numbers(measure())

        results[name] = stored.get(seed, name, {**shared, **kind.settings}, partial(or_reason, compute))
        if reason := results[name].get("failed"):
            print(f"Warning: no {name} of {stored.path.stem}, seed {seed}: {reason}", file=sys.stderr, flush=True)
    return results


def _records(measured: Sharpness | tuple[Sharpness, ...]) -> dict[str, Any]:
    """One measure of sharpness, or the sharpness of all layers, as JSON types."""
    return measured.record if isinstance(measured, Sharpness) else {"layers": [result.record for result in measured]}


def _numbers(measured: Eigenpairs | TraceEstimate | SpectralDensity) -> dict[str, Any]:
    """A result with its metadata, but without eigenvectors, as JSON types."""
    metadata = {key: value for key, value in measured.metadata.items() if key not in ("parameters", "versions")}
    fields = {name: value for name, value in vars(measured).items() if name not in ("vectors", "metadata")}
    return {**{name: np.asarray(value).tolist() for name, value in fields.items()}, "metadata": metadata}
