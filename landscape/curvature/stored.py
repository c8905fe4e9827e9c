"""Measurements of curvature that are computed once and stored."""

from collections.abc import Callable
from dataclasses import fields
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypeVar

from landscape.curvature.faithfulness import faithfulness
from landscape.curvature.products import Product
from landscape.errors import InputError
from landscape.objective.identity import objective_identity
from landscape.objective.objectives import Objective
from landscape.results import Eigenpairs, Faithfulness, SpectralDensity, TraceEstimate
from landscape.slices.planes import Slice
from landscape.storage import cached
from landscape.storage.json_files import read_json, write_sealed

__all__ = ["load_or_judge", "load_or_measure"]

Result = TypeVar("Result", Eigenpairs, TraceEstimate, SpectralDensity)
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
        if content["result"].keys() != {field.name for field in fields(Faithfulness)}:
            raise InputError(f"{place} holds no judgement of a plane, or is damaged; {WAY_OUT}")
        return Faithfulness(**content["result"]), content["recipe"]

    def compute() -> Faithfulness:
        return faithfulness(objective, slice_, **settings)

    def write(place: Path, new: Faithfulness) -> None:
        write_sealed(place, {"recipe": recipe, "result": new.record})

    return cached(path, recipe, compute, read=read, write=write, force=force)


RESULTS: dict[str, Any] = {"top_eigenpairs": Eigenpairs, "trace": TraceEstimate, "spectral_density": SpectralDensity}
