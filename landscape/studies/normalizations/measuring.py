"""Landscape, curvature and sharpness of one trained network, stored under their recipes."""

import functools
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from landscape.curvature import hessian_product, spectral_density, top_eigenpairs, trace
from landscape.errors import InputError
from landscape.objective.objectives import Objective
from landscape.results import Eigenpairs, SpectralDensity, Surface, TraceEstimate
from landscape.results.summary import surface_numbers
from landscape.sharpness import MEASURES, Neighbourhood, layer_sharpness_in, sharpness_in
from landscape.studies.normalizations.settings import NormalizationStudy
from landscape.studies.normalizations.stored import StoredResults
from landscape.training.checkpoints import Checkpoint

__all__ = ["measure_curvature", "measure_landscape", "measure_sharpness"]

EIGENVALUE_TOLERANCE = 1e-3  # residual, relative to the eigenvalue
Jobs = dict[str, tuple[dict[str, Any], Callable[[], dict[str, Any]]]]  # name -> (settings, function)
TRACE_ERROR = 0.05  # standard error, relative to the trace


def measure_landscape(surface: Surface, seed: int, stored: StoredResults) -> dict[str, Any]:
    """The numbers of a surface: axes, losses, extremes, what it is of; kept in ``stored``."""
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
    """Top eigenvalues, trace and spectral density of the Hessian, found in ``stored`` or computed."""
    product = functools.cache(lambda: hessian_product(target, checkpoint.model))  # only where something is missing

    def eigenvalues() -> dict[str, Any]:
        found = top_eigenpairs(product(), k=study.eigenvalues, tol=EIGENVALUE_TOLERANCE, seed=seed)
        return _numbers(found, "values", "residuals", "converged", "products")

    def whole_trace() -> dict[str, Any]:
        found = trace(product(), relative_error=TRACE_ERROR, max_products=study.products, seed=seed)
        return _numbers(found, "value", "standard_error", "converged", "products", "samples")

    def density() -> dict[str, Any]:
        found = spectral_density(product(), probes=study.probes, steps=study.lanczos_steps, seed=seed)
        return _numbers(found, "nodes", "weights", "products")

    jobs: Jobs = {
        "eigenvalues": ({"k": study.eigenvalues, "tolerance": EIGENVALUE_TOLERANCE}, eigenvalues),
        "trace": ({"relative_error": TRACE_ERROR, "products": study.products}, whole_trace),
        "density": ({"probes": study.probes, "steps": study.lanczos_steps}, density),
    }
    return _measured(jobs, seed, checkpoint, target, stored)


def measure_sharpness(
    study: NormalizationStudy, seed: int, checkpoint: Checkpoint, target: Objective, stored: StoredResults
) -> dict[str, dict[str, Any]]:
    """Every measure of sharpness, and that of every layer, found in ``stored`` or computed."""
    around = functools.cache(lambda: Neighbourhood(target, checkpoint.model))  # only where something is missing

    def whole(measure: str) -> Callable[[], dict[str, Any]]:
        options = study.sharpness_options(measure)
        return lambda: sharpness_in(around(), measure, seed=seed, **options).record

    def layers() -> dict[str, Any]:
        found = layer_sharpness_in(around(), samples=study.draws, seed=seed)
        return {"layers": [result.record for result in found]}

    jobs: Jobs = {measure: (study.sharpness_options(measure), whole(measure)) for measure in MEASURES}
    jobs["layers"] = ({"samples": study.draws}, layers)
    return _measured(jobs, seed, checkpoint, target, stored)


def _measured(
    jobs: Jobs,
    seed: int,
    checkpoint: Checkpoint,
    target: Objective,
    stored: StoredResults,
) -> dict[str, dict[str, Any]]:
    """The results of all jobs, {name: (settings, function)}; one that cannot be had is {"failed": reason}."""
    shared = {
        "checkpoint": checkpoint.sha256,
        "data": target.samples.description["fingerprint"],
        "objective": target.description,
        "seed": seed,
    }
    found = {}
    for name, (settings, function) in jobs.items():
        found[name] = stored.get(seed, name, {**shared, **settings}, partial(_or_reason, function))
        if reason := found[name].get("failed"):
            print(f"Warning: no {name} of {stored.path.stem}, seed {seed}: {reason}", file=sys.stderr, flush=True)
    return found


def _numbers(found: Eigenpairs | TraceEstimate | SpectralDensity, *fields: str) -> dict[str, Any]:
    """``fields`` of a result, and what it is of, as JSON types; no eigenvectors."""
    metadata = {key: value for key, value in found.metadata.items() if key not in ("parameters", "versions")}
    return {**{name: np.asarray(getattr(found, name)).tolist() for name in fields}, "metadata": metadata}


def _or_reason(function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return function()
    except InputError as error:
        return {"failed": str(error)}
