"""Checking that eigenvalues are the outermost ones, by a Lanczos run in the complement of their eigenvectors."""

import math
from collections.abc import Callable

import numpy as np

__all__ = ["are_outermost"]

RISK = 0.01  # probability that the random vector is too nearly orthogonal to a missed eigenvector to show it
FEWEST = 30  # products that the run may always take


def are_outermost(
    matvec: Callable[[np.ndarray], np.ndarray],
    vectors: np.ndarray,
    limits: np.ndarray,
    signs: np.ndarray,
    most: int,
    generator: np.random.Generator,
    dtype: np.dtype,
) -> tuple[np.ndarray, np.ndarray]:
    """Two masks [n]: where eigenvalues mu with s mu > limit can be excluded, and where one exists.

    Only eigenvalues other than those of ``vectors`` count. The function takes Lanczos steps with P H P, P = I - V^T V,
    from a Gaussian vector z in the range of P. Let p_j be the polynomials that are orthonormal under the spectral
    measure of z. An eigenvalue mu with unit eigenvector u has the weight (z^T u)^2 / |z|^2 <= 1 / sum_j p_j(mu)^2 in
    that measure (Christoffel function). The sum grows beyond the zeros of the p_j. If it is large at a limit, an
    eigenvalue above the limit would require a z nearly orthogonal to u, which has probability `RISK`. If some p_j is
    not positive at the limit, a Ritz value, and therefore an eigenvalue, lies above it. The basis is not stored: the
    loss of orthogonality only repeats Ritz values, which changes neither conclusion. Sources: Parlett 1998, "The
    Symmetric Eigenvalue Problem", chapter 12; Szego 1939, "Orthogonal Polynomials", section 3.4.

    Args:
        matvec: The product with H.
        vectors: Orthonormal rows V [k, D], the known eigenvectors.
        limits: The limits [n] of s mu.
        signs: The signs s [n]: 1 for the upper end of the spectrum, -1 for the lower end.
        most: Largest number of products; at least `FEWEST` are allowed.
        generator: Generator of z.
        dtype: Dtype of the vectors passed to ``matvec``.
    """
    size = vectors.shape[1] - len(vectors)
    enough = 2 * size / (math.pi * RISK**2)  # P(weight < 1 / enough) = RISK for one direction of `size`
    vector = _without(vectors, np.asarray(generator.standard_normal(vectors.shape[1])))
    vector = vector / np.linalg.norm(vector)
    before: np.ndarray = np.zeros_like(vector)
    beside = 0.0
    older, newer, total = np.zeros(len(limits)), np.ones(len(limits)), np.ones(len(limits))
    exceeded, scale = np.zeros(len(limits), bool), 0.0
    for _ in range(min(size, max(most, FEWEST))):
        image = matvec(vector.astype(dtype))
        diagonal = float(image @ vector)
        # Project last: components along V left by rounding would grow and appear as an eigenvalue of zero.
        image = _without(vectors, image - diagonal * vector - beside * before)
        length = float(np.linalg.norm(image))
        scale = max(scale, abs(diagonal), length)
        following = (limits - signs * diagonal) * newer - beside * older
        undecided = ~exceeded & (total < enough)
        exceeded |= undecided & (following < 0)
        if length <= np.finfo(dtype).eps * scale:
            return ~exceeded, exceeded  # z has no component along any further eigenvector
        older, newer = newer, following / length
        total = np.where(undecided, total + newer**2, total)
        if (exceeded | (total >= enough)).all():
            break
        before, vector, beside = vector, image / length, length
    return (total >= enough) & ~exceeded, exceeded


def _without(vectors: np.ndarray, vector: np.ndarray) -> np.ndarray:
    rest: np.ndarray = vector - vectors.T @ (vectors @ vector)
    return rest
