"""The outermost eigenvalues with their eigenvectors, each with its residual, and planes along them."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh
from torch import nn

from landscape.checks import check_count, check_number, check_seed
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
Seed = tuple[int, int]  # of the caller, and number of the attempt

# ARPACK's name, and the order of the values: a key by which they increase.
ENDS: dict[End, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "magnitude": ("LM", lambda values: -np.abs(values)),
    "largest": ("LA", lambda values: -values),
    "smallest": ("SA", lambda values: values),
}
SMALLEST_BASIS = 8  # Krylov vectors between two restarts; few, because convergence is seen at restarts only
DENSE = 24  # dimension up to which the whole matrix takes no more products
BASIS_BYTES = 512 * 2**20  # that the Krylov basis may take
ATTEMPTS = 4  # at pairs beyond which nothing was passed over, each with a Krylov basis twice as large
RESTARTS = 40  # of the Krylov basis, before what was found is reported as it is
LAST_BASIS = 100  # vectors of the last basis, from which pairs that have not converged are taken


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
    """The k outermost eigenpairs of the Hessian (or GGN) of ``product``: H v_i = l_i v_i, |v_i| = 1.

    Implicitly restarted Lanczos (ARPACK through scipy), started from a Gaussian vector. The
    residual |H v_i - l_i v_i| / |l_i| is then measured with one more product each, with l_i = v_i^T H v_i. An
    eigenvalue lies within residual x |l_i| of l_i; its error is about the square of the residual where the next
    eigenvalue is far. Pairs above ``tol`` are kept and flagged.

    A small residual does not tell whether an eigenvalue farther out was passed over. So a second Lanczos run, from
    another random vector, looks beyond every pair: where it finds an eigenvalue, the pairs are computed again with a
    larger basis; where it cannot exclude one with a risk of 1 % within as many products again, the pair is flagged.

    Args:
        product: the matrix, as `hessian_product` or `ggn_product` makes it; its graphs serve the next measurement too.
            Or an objective, of which a product is made for this one measurement, with the three options below.
        point: beside an objective: where.
        k: number of pairs, at most the dimension.
        tol: residual asked for.
        seed: of the start vector.
        which: "magnitude" (largest |l|), "largest", or "smallest" (most negative).
        operator: beside an objective: "hessian" (the default) or "ggn".
        parameters: beside an objective: glob patterns; eigenpairs of that diagonal block (default: of all).
        progress: show a bar.

    Raises:
        InputError: k beyond the dimension, an unknown option, options of an objective beside a product, and what
            `hessian_product` raises.

    Example:
        >>> import torch
        >>> from landscape_lib import hessian_product, objective
        >>> model, data = torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
        >>> product = hessian_product(objective(model, data), model)
        >>> top_eigenpairs(product, k=2).values.shape
        (2,)
    """
    if which not in ENDS:
        raise InputError(f"unknown end {which!r} of the spectrum; use one of {', '.join(map(repr, ENDS))}")
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
                outermost, passed_over = _examined(multiply, pairs, which, tol, (seed, attempt))
                if not passed_over.any():
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
    """The plane through a point along two unit eigenvectors as they are: one unit is a step of length one.

    Instead of the point, the product that the pairs are of may be given. Along each axis alone the loss is, to second
    order, l(0) + g v t + l_i t^2 / 2 with the eigenvalues l_i of the recipe. Parameters that the pairs leave out are
    not moved.

    Raises:
        InputError: numbers of pairs that are not there or the same; pairs of another network, or of another point
            than that of the product.
    """
    if isinstance(point, Product):
        if pairs.metadata["point"] != point.description["point"]:
            raise InputError("the eigenpairs are of another point than the product; compute them of this product")
        origin, held = point.point, point.networks
    else:
        origin, held = point_moving(point, pairs.metadata["parameters"]), Networks.around(point)
    count = len(pairs.values)
    if first == second or not {first, second} <= set(range(count)):
        raise InputError(f"eigenvectors {first} and {second} of {count}: give two different ones from 0 to {count - 1}")
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
    return Plane(origin, directions, recipe, 1, held, axes)


def _ritz_pairs(
    multiply: Multiplications, k: int, which: End, tol: float, seed: Seed
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values [k], orthonormal vectors [k, D] and residuals [k], in the order asked for."""
    vectors = _ritz_vectors(multiply, k, which, tol, seed)
    images = np.stack([multiply(vector) for vector in vectors])
    values = (vectors * images).sum(1)
    order = np.argsort(ENDS[which][1](values), kind="stable")
    values, vectors, images = values[order], vectors[order], images[order]
    sizes = np.maximum(np.abs(values), np.finfo(np.float64).tiny)
    return values, vectors, np.linalg.norm(images - values[:, None] * vectors, axis=1) / sizes


def _examined(
    multiply: Multiplications,
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    which: End,
    tol: float,
    seed: Seed,
) -> tuple[np.ndarray, np.ndarray]:
    """For each pair, whether no eigenvalue beyond it was passed over [k], and whether one was [k]."""
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
    """Whether the whole matrix takes no more products than its outermost eigenpairs."""
    return size <= max(2 * k + 1, DENSE)


def _ritz_vectors(multiply: Multiplications, k: int, which: End, tol: float, seed: Seed) -> np.ndarray:
    """k orthonormal vectors [k, D] in float64: eigenvectors, or the best that the allowed products give."""
    size, name, dtype = multiply.dimension, ENDS[which][0], multiply.dtype
    basis = min(size, max(2 * k + 1, SMALLEST_BASIS) * 2 ** seed[1])
    if _is_dense(size, k):
        matrix = np.stack([multiply(unit) for unit in np.eye(size)])
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        return np.asarray(vectors.T[np.argsort(ENDS[which][1](values), kind="stable")[:k]])
    operator = LinearOperator((size, size), matvec=lambda vector: multiply(vector).astype(dtype), dtype=dtype)
    start = np.random.default_rng(seed[0] if not seed[1] else seed).standard_normal(size).astype(dtype)
    try:
        # Half of what is asked for, as the estimate of ARPACK and the residual differ by rounding.
        vectors = eigsh(operator, k, which=name, tol=tol / 2, v0=start, ncv=basis, maxiter=RESTARTS)[1]
    except ArpackNoConvergence:
        last = min(size - 1, max(basis, min(LAST_BASIS, BASIS_BYTES // (size * dtype.itemsize))))
        vectors = eigsh(operator, k, which=name, tol=np.inf, v0=start, ncv=last, maxiter=RESTARTS)[1]
    except ArpackError:  # which a matrix of zeros raises; of any other the residuals tell
        vectors = np.eye(size, k)
    return np.asarray(np.linalg.qr(vectors.astype(np.float64))[0].T)


def _direction(point: Point, shapes: dict[str, Any], vector: np.ndarray) -> Point:
    pieces = iter(np.split(vector, np.cumsum([int(np.prod(shape)) for shape in shapes.values()])[:-1]))
    moved = {name: precise(value) for name, value in point.items() if name in shapes}
    steps = {name: value.new_tensor(next(pieces)).reshape(value.shape) for name, value in moved.items()}
    return whole_step(steps, point)
