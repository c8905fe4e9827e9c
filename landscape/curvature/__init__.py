"""Second derivatives of the loss: products, top eigenpairs, trace and spectral density."""

from landscape.curvature.density import spectral_density
from landscape.curvature.eigenpairs import eigenvector_plane, top_eigenpairs
from landscape.curvature.faithfulness import faithfulness
from landscape.curvature.hutchinson import trace
from landscape.curvature.products import Product, ggn_product, hessian_product
from landscape.curvature.settings import CurvatureSettings
from landscape.curvature.stored import affordable_samples, judged, load_or_judge, load_or_measure

__all__ = [
    "CurvatureSettings",
    "Product",
    "affordable_samples",
    "eigenvector_plane",
    "faithfulness",
    "ggn_product",
    "hessian_product",
    "judged",
    "load_or_judge",
    "load_or_measure",
    "spectral_density",
    "top_eigenpairs",
    "trace",
]
