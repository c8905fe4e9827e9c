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
    """phi(t) = 1/D sum_i delta(t - l_i), as seen by ``probes`` random unit vectors after ``steps`` Lanczos steps each.

    A probe z gives sum_k w_k delta(t - n_k), its Gauss quadrature: the nodes n_k are the eigenvalues of the Lanczos
    matrix, the weights w_k the squared first entries of its eigenvectors; moments up to degree 2 steps - 1 are those
    of z^T H^j z. Source: Ghorbani et al. 2019, "An Investigation into Neural Net Optimization via Hessian Eigenvalue
    Density", section 2; Ubaru et al. 2017.

    Args:
        product: the matrix, as `hessian_product` or `ggn_product` makes it; its graphs serve the next measurement too.
            Or an objective, of which a product is made for this one measurement, with the three options below.
        point: beside an objective: where.
        probes: Gaussian start vectors, normalised; the spread over them is the band of the density.
        steps: Lanczos steps a probe, at most the dimension.
        seed: of the probes.
        operator: beside an objective: "hessian" (the default) or "ggn".
        parameters: beside an objective: glob patterns; the density of that diagonal block (default: of all).
        progress: show a bar.

    Raises:
        InputError: numbers below one, options of an objective beside a product, and what `hessian_product` raises.

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

    Every new vector is orthogonalised against all before it, twice; the basis has the dtype of ``start``. It ends
    early where no direction is left.
    """
    basis = np.empty((steps, len(start)), start.dtype)
    vector, diagonal, beside = start / np.linalg.norm(start), [], []
    for step in range(steps):
        basis[step] = vector
        image = matvec(vector)
        diagonal.append(float(image @ vector))
        done = basis[: step + 1]
        for _ in range(2):
            image = image - (done @ image.astype(basis.dtype)) @ done
        beside.append(float(np.linalg.norm(image)))
        if beside[-1] <= 1e-10 * max(map(abs, (*diagonal, *beside))):
            break
        vector = (image / beside[-1]).astype(basis.dtype)
    return np.array(diagonal), np.array(beside[: len(diagonal) - 1])


def _quadrature(diagonal: np.ndarray, beside: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights [steps]; where Lanczos ended early, the last node again with the weight zero."""
    nodes, vectors = eigh_tridiagonal(diagonal, beside)
    missing = steps - len(nodes)
    return np.pad(nodes, (0, missing), mode="edge"), np.pad(vectors[0] ** 2, (0, missing))
