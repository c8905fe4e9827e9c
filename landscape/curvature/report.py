"""Results of measurements of curvature and sharpness as lines of text and as JSON."""

import time
from collections.abc import Sequence
from typing import Any

from landscape.curvature.products import Product
from landscape.results import SHARPNESS_CAUTION, Eigenpairs, Sharpness, SpectralDensity, TraceEstimate

__all__ = ["curvature_record", "eigenvalue_lines", "sharpness_lines", "time_estimate", "trace_line"]


def eigenvalue_lines(pairs: Eigenpairs) -> str:
    """Lines with the number of products and each eigenvalue with its residual."""
    rows = zip(pairs.values, pairs.residuals, pairs.converged, strict=True)
    lines = [
        f"  {value:12.6g}  residual {residual:.1e}{'' if converged else '  NOT CONVERGED'}"
        for value, residual, converged in rows
    ]
    return "\n".join([f"Eigenvalues ({pairs.products} products)", *lines])


def trace_line(estimate: TraceEstimate) -> str:
    """A line with the trace, its standard error, and a mark if it has not converged."""
    mark = "" if estimate.converged else ": NOT CONVERGED with this number of products"
    return f"Trace {estimate.value:.6g} +- {estimate.standard_error:.2g} ({estimate.products} products){mark}"


def sharpness_lines(measures: Sequence[Sharpness]) -> str:
    """Lines with the radius and value of each measure."""
    return "\n".join(f"{one.measure} sharpness, radius {one.radius:g}: {one.value:.4g}" for one in measures)


def time_estimate(product: Product, products: int) -> str:
    """A line about the matrix, with the time that ``products`` products take, extrapolated from one of them."""
    product.matvec([1.0] * product.dimension)  # the first product makes the graphs that the others share
    began = time.perf_counter()
    product.matvec([1.0] * product.dimension)
    seconds = time.perf_counter() - began
    return (
        f"Matrix: {product.kind} of {len(product.names)} parameter tensors, dimension {product.dimension:,}; "
        f"{seconds:.3g} s a product, about {seconds * products:.0f} s for up to about {products:,} products"
    )


def curvature_record(
    pairs: Eigenpairs, trace: TraceEstimate, density: SpectralDensity, sharpness: Sequence[Sharpness]
) -> dict[str, Any]:
    """All results without eigenvectors, as JSON types."""
    return {
        "eigenvalues": {
            "values": pairs.values.tolist(),
            "residuals": pairs.residuals.tolist(),
            "converged": pairs.converged.tolist(),
            "products": pairs.products,
        },
        "trace": {
            "value": trace.value,
            "standard_error": trace.standard_error,
            "converged": trace.converged,
            "products": trace.products,
        },
        "density": {
            "nodes": density.nodes.tolist(),
            "weights": density.weights.tolist(),
            "products": density.products,
        },
        "sharpness": {"caution": SHARPNESS_CAUTION, "measures": [one.record for one in sharpness]},
    }
