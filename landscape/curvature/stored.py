"""Results that are computed once: recognised by what they are of, never by the name of their file."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from landscape.curvature.products import Product
from landscape.objective.identity import difference
from landscape.results import Eigenpairs, SpectralDensity, TraceEstimate

__all__ = ["load_or_measure"]

Result = TypeVar("Result", Eigenpairs, TraceEstimate, SpectralDensity)
INCIDENTAL = ("batch_size", "device", "versions")  # numbers do not depend on them beyond rounding


def load_or_measure(
    path: str | Path, measure: Callable[..., Result], product: Product, *, force: bool = False, **settings
) -> Result:
    """``measure`` (`top_eigenpairs`, `trace` or `spectral_density`) of the matrix of ``product``, found or computed.

    The result stored at ``path`` serves if network, point, data, objective, parameters and ``settings`` are the same;
    a new one is stored there.

    Args:
        path: the .npz file.
        measure: what to compute.
        product: of which matrix.
        force: compute it again in any case.
        settings: all keywords of ``measure`` but operator and parameters.
    """
    path = Path(path)
    wanted = {key: value for key, value in product.description.items() if key not in INCIDENTAL} | settings
    if path.exists() and not force:
        found = RESULTS[measure.__name__].load(path)
        if not difference(found.metadata, wanted):
            return found
    found = measure(
        product.objective, product.point, operator=product.kind, parameters=tuple(product.names), **settings
    )
    found.save(path)
    return found


RESULTS = {"top_eigenpairs": Eigenpairs, "trace": TraceEstimate, "spectral_density": SpectralDensity}
