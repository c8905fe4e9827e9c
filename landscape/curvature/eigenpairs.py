"""The outermost eigenvalues with their eigenvectors and residuals, and planes along eigenvectors."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh
from torch import nn

from landscape.checks import check_choice, check_count, check_number, check_seed, check_type
from landscape.curvature.guard import are_outermost
from landscape.curvature.products import Product
from landscape.curvature.subject import Multiplications, Operator, counted, product_of, recorded
from landscape.errors import InputError
from landscape.objective.objectives import Objective
from landscape.points import Point, point_moving, precise, whole_step
from landscape.results import Eigenpairs
from landscape.results.axes import SliceAxes
from landscape.runtime import own_torch_state
from landscape.slices.networks import Networks
from landscape.slices.planes import Plane

__all__ = ["eigenvector_plane", "top_eigenpairs"]

End = Literal["magnitude", "largest", "smallest"]
Seed = tuple[int, int]  # seed of the caller, number of the attempt

# ARPACK's name of each end of the spectrum, and the key by which the eigenvalues are sorted.
ENDS: dict[End, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "magnitude": ("LM", lambda values: -np.abs(values)),
    "largest": ("LA", lambda values: -values),
    "smallest": ("SA", lambda values: values),
}
SMALLEST_BASIS = 8  # Krylov vectors between two restarts; few, because convergence is checked only at restarts
DENSE = 24  # up to this dimension computing the whole matrix takes no more products than ARPACK
BASIS_BYTES = 512 * 2**20  # memory of the Krylov basis, at most
ATTEMPTS = 4  # computations, each with a Krylov basis twice as large, until no eigenvalue farther out was missed
RESTARTS = 40  # of the Krylov basis, after which pairs that have not converged are reported and flagged
LAST_BASIS = 100  # vectors of the last Krylov basis, from which pairs that have not converged are taken


@own_torch_state()
def top_eigenpairs(
    product: Product | Objective,
    point: nn.Module | Point | None = None,
    *,
    k: int = 10,
    tol: float = 1e-3,
    seed: int = 0,
    which: End = "magnitude",
    operator: Operator | None = None,
    parameters: str | Sequence[str] | None = None,
    progress: bool = True,
) -> Eigenpairs:
    """The k outermost eigenpairs of the Hessian (or GGN) matrix H: H v_i = l_i v_i with |v_i| = 1.

    They are computed by the implicitly restarted Lanczos method (ARPACK through scipy) from a Gaussian start vector.
    Then l_i = v_i^T H v_i and the residual |H v_i - l_i v_i| / |l_i| are measured with one more product for each pair.
    An eigenvalue lies within residual x |l_i| of l_i; if the next eigenvalue is far away, the relative error of l_i is
    about the square of the residual. Pairs whose residual exceeds ``tol`` are returned, but flagged.

    A small residual does not exclude that an eigenvalue farther out was missed. So a second Lanczos run, from another
    random vector, searches beyond every pair. If it finds an eigenvalue, the pairs are computed again with a larger
    basis; if, after as many products again, the risk of a missed eigenvalue still exceeds 1 %, the pair is flagged.

    Args:
        product: The matrix, from `hessian_product` or `ggn_product`; the graphs that it keeps also serve later
            measurements. Or an objective, from which a product is made for this measurement.
        point: With an objective only: the point at which the matrix is taken.
        k: Number of pairs, at most the dimension.
        tol: Largest residual of a converged pair.
        seed: Seed of the start vector.
        which: "magnitude" (largest |l|), "largest", or "smallest" (most negative).
        operator: With an objective only: "hessian" (the default) or "ggn".
        parameters: With an objective only: the parameters of the diagonal block, see `hessian_product`; default: all.
        progress: Show a progress bar.

    Raises:
        InputError: k exceeds the dimension, an option is unknown, options of an objective are passed with a product,
            or `hessian_product` refuses the arguments.

    Example:
        >>> import torch
        >>> from landscape_lib import hessian_product, objective
        >>> model, data = torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
        >>> product = hessian_product(objective(model, data), model)
        >>> top_eigenpairs(product, k=2).values.shape
        (2,)
    """
    check_choice("end", which, ENDS)
    check_number("tol", tol, above=0)
    check_count("k", k)
    check_seed(seed)
    began = time.perf_counter()
    with product_of(product, point, operator, parameters) as matrix:
        if k > matrix.dimension:
            raise InputError(
                f"k={k} eigenpairs of a matrix of dimension {matrix.dimension}: use 1 to {matrix.dimension}"
            )
        with counted(matrix, "eigenpairs", progress) as multiply:
            for attempt in range(ATTEMPTS):
                values, vectors, residuals = pairs = _ritz_pairs(multiply, k, which, tol, (seed, attempt))
                outermost, missed = _check_outermost(multiply, pairs, which, tol, (seed, attempt))
                if not missed.any():
                    break
        metadata = recorded(matrix, began, k=k, which=which, tol=tol, seed=seed)
    return Eigenpairs(
        values=values,
        residuals=residuals,
        converged=(residuals <= tol) & outermost,
        vectors=vectors.astype(np.float32),
        products=multiply.count,
        metadata=metadata,
    )


@own_torch_state()
def eigenvector_plane(
    point: Product | nn.Module | Point, pairs: Eigenpairs, *, first: int = 0, second: int = 1
) -> Plane:
    """The plane through a point along two unit eigenvectors, without normalisation: coordinates are lengths.

    Along the axis of eigenvector v_i with eigenvalue l_i the loss is L(0) + g^T v_i t + l_i t^2 / 2 to second order.
    Instead of the point, the product from which the pairs were computed can be passed. Parameters outside the block of
    the pairs are not moved.

    Raises:
        InputError: ``first`` or ``second`` is not the number of a pair, or both are equal; the pairs belong to another
            network, or to another point than the product.
    """
    check_type(pairs, Eigenpairs, "eigenvector_plane(product, pairs)", "the pairs of ll.top_eigenpairs(product)")
    if isinstance(point, Product):
        if pairs.metadata["point"] != point.description["point"]:
            raise InputError("the eigenpairs belong to another point than the product; compute them from this product")
        origin, networks = point.point, point.networks
    else:
        origin, networks = point_moving(point, pairs.metadata["parameters"]), Networks.around(point)
    count = len(pairs.values)
    if first == second or not {first, second} <= set(range(count)):
        raise InputError(f"eigenvectors {first} and {second} of {count}: use two different ones from 0 to {count - 1}")
    shapes = pairs.metadata["parameters"]
    if any(name not in origin or list(origin[name].shape) != shape for name, shape in shapes.items()):
        raise InputError("the eigenpairs do not belong to this network; compute them at one of its points")
    recipe: dict[str, Any] = {
        "kind": "eigenvector plane",
        "operator": pairs.metadata["operator"],
        "eigenvectors": [first, second],
        "eigenvalues": [float(pairs.values[first]), float(pairs.values[second])],
        "residuals": [float(pairs.residuals[first]), float(pairs.residuals[second])],
    }
    directions = tuple(_direction(origin, shapes, pairs.vectors[number]) for number in (first, second))
    axes = SliceAxes.eigenvectors(recipe["eigenvectors"], recipe["eigenvalues"])
    return Plane(origin, directions, recipe, 1, networks, axes)


def _ritz_pairs(
    multiply: Multiplications, k: int, which: End, tol: float, seed: Seed
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values [k], orthonormal vectors [k, D] and residuals [k], in the order of the end ``which``."""
    vectors = _ritz_vectors(multiply, k, which, tol, seed)
    images = np.stack([multiply(vector) for vector in vectors])
    values = (vectors * images).sum(1)
    order = np.argsort(ENDS[which][1](values), kind="stable")
    values, vectors, images = values[order], vectors[order], images[order]
    sizes = np.maximum(np.abs(values), np.finfo(np.float64).tiny)
    return values, vectors, np.linalg.norm(images - values[:, None] * vectors, axis=1) / sizes


def _check_outermost(
    multiply: Multiplications,
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    which: End,
    tol: float,
    seed: Seed,
) -> tuple[np.ndarray, np.ndarray]:
    """Two masks [k]: the pairs beyond which an eigenvalue can be excluded, and those beyond which one was found."""
    values, vectors, residuals = pairs
    close = residuals <= tol
    if _is_dense(multiply.dimension, len(values)) or not close.any():
        return np.ones_like(close), np.zeros_like(close)
    signs = {"magnitude": (1.0, -1.0), "largest": (1.0,), "smallest": (-1.0,)}[which]
    outward = np.abs(values) if which == "magnitude" else signs[0] * values
    limits = (outward + np.maximum(tol, residuals) * np.abs(values))[close]
    outermost, beyond = np.ones_like(close), np.zeros_like(close)
    generator = np.random.default_rng((*seed, 1))
    sides = np.repeat(signs, len(limits))
    decided, exceeded = are_outermost(
        multiply, vectors, np.tile(limits, len(signs)), sides, multiply.count, generator, multiply.dtype
    )
    outermost[close] = decided.reshape(len(signs), -1).all(0)
    beyond[close] = exceeded.reshape(len(signs), -1).any(0)
    return outermost, beyond


def _is_dense(size: int, k: int) -> bool:
    """Whether computing the whole matrix takes no more products than its outermost eigenpairs."""
    return size <= max(2 * k + 1, DENSE)


def _ritz_vectors(multiply: Multiplications, k: int, which: End, tol: float, seed: Seed) -> np.ndarray:
    """k orthonormal vectors [k, D] in float64: eigenvectors, or the best approximations that the restarts allow."""
    size, name, dtype = multiply.dimension, ENDS[which][0], multiply.dtype
    basis = min(size, max(2 * k + 1, SMALLEST_BASIS) * 2 ** seed[1])
    if _is_dense(size, k):
        matrix = np.stack([multiply(unit) for unit in np.eye(size)])
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        return np.asarray(vectors.T[np.argsort(ENDS[which][1](values), kind="stable")[:k]])
    operator = LinearOperator((size, size), matvec=lambda vector: multiply(vector).astype(dtype), dtype=dtype)
    start = np.random.default_rng(seed[0] if not seed[1] else seed).standard_normal(size).astype(dtype)
    try:
        # Half of the tolerance, because the estimate of ARPACK and the residual differ by rounding.
        vectors = eigsh(operator, k, which=name, tol=tol / 2, v0=start, ncv=basis, maxiter=RESTARTS)[1]
    except ArpackNoConvergence:
        last = min(size - 1, max(basis, min(LAST_BASIS, BASIS_BYTES // (size * dtype.itemsize))))
        vectors = eigsh(operator, k, which=name, tol=np.inf, v0=start, ncv=last, maxiter=RESTARTS)[1]
    except ArpackError:  # raised for a matrix of zeros; in any other case the residuals show the failure
        vectors = np.eye(size, k)
    return np.asarray(np.linalg.qr(vectors.astype(np.float64))[0].T)


def _direction(point: Point, shapes: dict[str, Any], vector: np.ndarray) -> Point:
    pieces = iter(np.split(vector, np.cumsum([int(np.prod(shape)) for shape in shapes.values()])[:-1]))
    moved = {name: precise(value) for name, value in point.items() if name in shapes}
    steps = {name: value.new_tensor(next(pieces)).reshape(value.shape) for name, value in moved.items()}
    return whole_step(steps, point)
