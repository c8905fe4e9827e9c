"""Results that are computed once: recognised by what they are of, never by the name of their file."""

from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypeVar

from landscape.curvature.products import Product
from landscape.objective.identity import difference
from landscape.results import Eigenpairs, SpectralDensity, TraceEstimate

__all__ = ["load_or_measure"]

Result = TypeVar("Result", Eigenpairs, TraceEstimate, SpectralDensity)
KEYWORD = Parameter.KEYWORD_ONLY
INCIDENTAL = {"batch_size", "device", "versions", "progress"}  # numbers do not depend on them beyond rounding


def load_or_measure(
    path: str | Path, measure: Callable[..., Result], product: Product, *, force: bool = False, **settings: Any
) -> Result:
    """``measure`` (`top_eigenpairs`, `trace` or `spectral_density`) of the matrix of ``product``, found or computed.

    The result stored at ``path`` serves if network, point, data, objective, parameters and ``settings`` are the same;
    a new one is stored there.

    Args:
        path: the .npz file.
        measure: what to compute.
        product: of which matrix.
        force: compute it again in any case.
        settings: keywords of ``measure``; those left out are compared too, as its defaults.
    """
    path = Path(path)
    options = {name: option.default for name, option in signature(measure).parameters.items() if option.kind is KEYWORD}
    recipe = {**options, **settings, **product.description}
    if path.exists() and not force:
        stored: Result = RESULTS[measure.__name__].load(path)
        if not difference(stored.metadata, {key: recipe[key] for key in recipe.keys() - INCIDENTAL}):
            return stored
    result = measure(product, **settings)
    result.save(path)
    return result


RESULTS: dict[str, Any] = {"top_eigenpairs": Eigenpairs, "trace": TraceEstimate, "spectral_density": SpectralDensity}
