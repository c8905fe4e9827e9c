"""Second derivatives that are computed once."""

from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypeVar

from landscape.curvature.products import Product
from landscape.results import Eigenpairs, SpectralDensity, TraceEstimate
from landscape.storage import cached

__all__ = ["load_or_measure"]

Result = TypeVar("Result", Eigenpairs, TraceEstimate, SpectralDensity)
KEYWORD = Parameter.KEYWORD_ONLY
INCIDENTAL = {"batch_size", "device", "versions", "progress"}  # numbers do not depend on them beyond rounding


def load_or_measure(
    path: str | Path,
    measure: Callable[..., Result],
    product: Product,
    *,
    force: bool = False,
    before: Callable[[], object] = lambda: None,
    **settings: Any,
) -> Result:
    """``measure`` (`top_eigenpairs`, `trace` or `spectral_density`) of the matrix of ``product``, found or computed.

    The result stored at ``path`` serves if network, point, data, objective, parameters and ``settings`` are the same;
    a new one is stored there.

    Args:
        path: the .npz file.
        measure: what to compute.
        product: of which matrix.
        force: compute it again in any case.
        before: called before anything is computed.
        settings: keywords of ``measure``; those left out are compared too, as its defaults.
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


RESULTS: dict[str, Any] = {"top_eigenpairs": Eigenpairs, "trace": TraceEstimate, "spectral_density": SpectralDensity}
