"""The spectral density by stochastic Lanczos quadrature."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import eigh_tridiagonal
from torch import nn

from landscape.checks import check_count, check_seed
from landscape.curvature.products import Product
from landscape.curvature.subject import Operator, counted, product_of, recorded
from landscape.objective.objectives import Objective
from landscape.points import Point
from landscape.results import SpectralDensity
from landscape.runtime import own_torch_state

__all__ = ["lanczos", "spectral_density"]


@own_torch_state()
def spectral_density(
    product: Product | Objective,
    point: nn.Module | Point | None = None,
    *,
    probes: int = 5,
    steps: int = 60,
    seed: int = 0,
    operator: Operator | None = None,
    parameters: str | Sequence[str] | None = None,
    progress: bool = True,
) -> SpectralDensity:
    """Estimate the density phi(t) = 1/D sum_i delta(t - l_i) of the eigenvalues l_i of a D x D matrix H.

    Stochastic Lanczos quadrature: for each random unit vector z, the density is approximated by the Gauss quadrature
    sum_k w_k delta(t - n_k). The nodes n_k are the eigenvalues of the Lanczos matrix and the weights w_k the squared
    first entries of its eigenvectors, so that the moments z^T H^j z are exact up to j = 2 steps - 1. Source: Ghorbani
    et al. 2019, "An Investigation into Neural Net Optimization via Hessian Eigenvalue Density", section 2; Ubaru et al.
    2017, "Fast Estimation of tr(f(A)) via Stochastic Lanczos Quadrature".

    Args:
        product: The matrix, from `hessian_product` or `ggn_product`; the graphs that it keeps also serve later
            measurements. Or an objective, from which a product is made for this measurement.
        point: With an objective only: the point at which the matrix is taken.
        probes: Number of start vectors, normalised Gaussian; the spread over them gives the band of the density.
        steps: Lanczos steps for each probe, at most D.
        seed: Seed of the probes.
        operator: With an objective only: "hessian" (the default) or "ggn".
        parameters: With an objective only: the parameters of the diagonal block, see `hessian_product`; default: all.
        progress: Show a progress bar.

    Raises:
        InputError: a number is below one, options of an objective are passed with a product, or `hessian_product`
            refuses the arguments.

    Example:
        >>> import torch
        >>> from landscape_lib import hessian_product, objective
        >>> model, data = torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
        >>> product = hessian_product(objective(model, data), model)
        >>> spectral_density(product, probes=2, steps=6).nodes.shape
        (2, 6)
    """
    check_count("probes", probes)
    check_count("steps", steps)
    check_seed(seed)
    began = time.perf_counter()
    with product_of(product, point, operator, parameters) as matrix:
        columns, generator = min(steps, matrix.dimension), np.random.default_rng(seed)
        nodes, weights = np.zeros((probes, columns)), np.zeros((probes, columns))
        with counted(matrix, "density", progress, probes * columns) as multiply:
            for row in range(probes):
                start = generator.standard_normal(matrix.dimension).astype(multiply.dtype)
                nodes[row], weights[row] = _quadrature(*lanczos(multiply, start, columns), columns)
        metadata = recorded(matrix, began, probes=probes, steps=steps, seed=seed)
    return SpectralDensity(nodes=nodes, weights=weights, products=multiply.count, metadata=metadata)


def lanczos(matvec: Callable[[np.ndarray], np.ndarray], start: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """(diagonal [m], off-diagonal [m - 1]) of Q^T H Q, Q the orthonormal Krylov basis of ``start``; m <= ``steps``.

    Every new vector is orthogonalised twice against all earlier ones; the basis has the dtype of ``start``. The
    iteration ends early if the Krylov space is exhausted.
    """
    basis = np.empty((steps, len(start)), start.dtype)
    vector, diagonal, off_diagonal = start / np.linalg.norm(start), [], []
    for step in range(steps):
        basis[step] = vector
        image = matvec(vector)
        diagonal.append(float(image @ vector))
        earlier = basis[: step + 1]
        for _ in range(2):
            image = image - (earlier @ image.astype(basis.dtype)) @ earlier
        off_diagonal.append(float(np.linalg.norm(image)))
        if off_diagonal[-1] <= 1e-10 * max(map(abs, (*diagonal, *off_diagonal))):
            break
        vector = (image / off_diagonal[-1]).astype(basis.dtype)
    return np.array(diagonal), np.array(off_diagonal[: len(diagonal) - 1])


def _quadrature(diagonal: np.ndarray, off_diagonal: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights [steps]; if Lanczos ended early, the last node is repeated with weights of zero."""
    nodes, vectors = eigh_tridiagonal(diagonal, off_diagonal)
    missing = steps - len(nodes)
    return np.pad(nodes, (0, missing), mode="edge"), np.pad(vectors[0] ** 2, (0, missing))
