"""Measurements of curvature that are computed once and stored."""

import math
from collections.abc import Callable
from dataclasses import replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypeVar

from landscape.curvature.faithfulness import faithfulness
from landscape.curvature.products import Product
from landscape.errors import InputError
from landscape.objective.identity import objective_identity
from landscape.objective.objectives import Objective
from landscape.results import Eigenpairs, Faithfulness, SpectralDensity, Surface, TraceEstimate
from landscape.slices.planes import Slice
from landscape.storage import cached
from landscape.storage.json_files import read_json, write_sealed

__all__ = ["affordable_samples", "judged", "load_or_judge", "load_or_measure"]

Result = TypeVar("Result", Eigenpairs, TraceEstimate, SpectralDensity)
PASSES = 700  # forward passes of a sample that cost as much as its part of `faithfulness`: up to 95 products, 7 each
SHARE = 0.1  # of the forward passes of a surface
MOST_SAMPLES, LEAST_SAMPLES = 500, 50
KEYWORD = Parameter.KEYWORD_ONLY
FORM = {"recipe": dict, "result": {"verdict": str, "metadata": dict}}
WAY_OUT = "judge it again with force=True, or give another file"
INCIDENTAL = {"batch_size", "device", "versions", "progress"}  # settings that change numbers by rounding at most


def load_or_measure(
    path: str | Path,
    measure: Callable[..., Result],
    product: Product,
    *,
    force: bool = False,
    before: Callable[[], object] = lambda: None,
    **settings: Any,
) -> Result:
    """The result of ``measure`` (`top_eigenpairs`, `trace` or `spectral_density`), loaded from ``path`` or computed.

    The stored result is used if network, point, data, objective, parameters and ``settings`` are the same; a new result
    is stored.

    Args:
        path: The .npz file.
        measure: The measurement.
        product: The matrix.
        force: Compute the result even if it is stored.
        before: Function that is called before a computation.
        settings: Keywords of ``measure``; for those left out its defaults are compared.

    Raises:
        InputError: The file is damaged, or ``measure`` refuses the settings.
    """
    options = {name: option.default for name, option in signature(measure).parameters.items() if option.kind is KEYWORD}
    recipe = {**options, **settings, **product.description}
    recipe = {name: value for name, value in recipe.items() if name not in INCIDENTAL}

    def read(place: Path) -> tuple[Result, dict[str, Any]]:
        stored: Result = RESULTS[measure.__name__].load(place)
        return stored, {name: value for name, value in stored.metadata.items() if name in recipe}

    def compute() -> Result:
        before()
        return measure(product, **settings)

    return cached(path, recipe, compute, read=read, write=lambda place, new: new.save(place), force=force)


def load_or_judge(
    path: str | Path, objective: Objective, slice_: Slice, *, force: bool = False, **settings: Any
) -> Faithfulness:
    """The result of `faithfulness`, loaded from ``path`` (.json) or measured and stored there.

    The stored result is used if slice, data, loss and ``settings`` are the same.

    Raises:
        InputError: The file is damaged, or `faithfulness` refuses the arguments.
    """
    recipe = {
        "slice": slice_.fingerprint,
        "data": {**objective.samples.description, "size": objective.size},
        "settings": {name: value for name, value in settings.items() if name not in INCIDENTAL},
        **objective_identity(objective),
    }

    def read(place: Path) -> tuple[Faithfulness, dict[str, Any]]:
        content = read_json(place, FORM, "judgement of a plane", WAY_OUT)
        if (result := Faithfulness.read(content["result"])) is None:
            raise InputError(f"{place} holds no judgement of a plane, or is damaged; {WAY_OUT}")
        return result, content["recipe"]

    def compute() -> Faithfulness:
        return faithfulness(objective, slice_, **settings)

    def write(place: Path, new: Faithfulness) -> None:
        write_sealed(place, {"recipe": recipe, "result": new.record})

    return cached(path, recipe, compute, read=read, write=write, force=force)


def judged(
    path: str | Path, surface: Surface, objective: Objective, slice_: Slice, *, samples: int, seed: int, **options: Any
) -> Surface:
    """``surface``, which is stored at ``path``, with the result of `faithfulness` as "faithfulness" in its metadata.

    If that was measured before with the same ``seed`` on at least as many ``samples``, the surface is returned as it is
    stored; otherwise it is measured, and the surface is stored again. ``options`` are passed to `faithfulness`.
    """

    def read(place: Path) -> tuple[Surface, dict[str, Any]] | None:
        stored = Surface.load(place)
        result = stored.faithfulness
        return None if result is None else (stored, {"seed": result.metadata.get("seed")})

    def accept(stored: Surface) -> str | None:
        size = _size(stored.faithfulness)
        least = min(samples, objective.size)
        return None if size >= least else f"it was measured on {size:,} samples, not {least:,}"

    def compute() -> Surface:
        result = faithfulness(objective, slice_, samples=min(samples, objective.size), seed=seed, **options)
        return replace(surface, metadata={**surface.metadata, "faithfulness": result.record})

    def write(place: Path, new: Surface) -> None:
        new.save(place)

    return cached(path, {"seed": seed}, compute, read=read, write=write, accept=accept, entry="faithfulness")


def affordable_samples(surface: Surface) -> int | None:
    """The number of samples on which `faithfulness` costs a small part of ``surface``; None if they are too few.

    The comparison costs at most a tenth of the forward passes of the points that were evaluated.
    """
    points = int(surface.loss.size if surface.evaluated is None else surface.evaluated.sum())
    size = (surface.metadata.get("data") or {}).get("size")
    passes = SHARE * points * (size if isinstance(size, int) else 0)
    samples = min(math.floor(passes / PASSES), MOST_SAMPLES)
    return samples if samples >= LEAST_SAMPLES else None


def _size(result: Faithfulness | None) -> int:
    """The number of samples on which ``result`` was measured; 0 if it is unknown."""
    size = None if result is None else (result.metadata.get("data") or {}).get("size")
    return size if isinstance(size, int) else 0


RESULTS: dict[str, Any] = {"top_eigenpairs": Eigenpairs, "trace": TraceEstimate, "spectral_density": SpectralDensity}
