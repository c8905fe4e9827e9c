"""Whether eigenvalues are the outermost ones, by a second Lanczos run over what their eigenvectors leave."""

import math
from collections.abc import Callable

import numpy as np

__all__ = ["are_outermost"]

RISK = 0.01  # probability that a random vector hides an eigenvalue which was passed over
FEWEST = 30  # products that the second run may take in any case


def are_outermost(
    matvec: Callable[[np.ndarray], np.ndarray],
    vectors: np.ndarray,
    limits: np.ndarray,
    signs: np.ndarray,
    most: int,
    generator: np.random.Generator,
    dtype: np.dtype,
) -> tuple[np.ndarray, np.ndarray]:
    """Whether no eigenvalue mu outside ``vectors`` has s mu above each of ``limits`` [n], and where one does [n].

    Lanczos steps on P H P, P = I - V^T V, from a Gaussian vector z in the range of P. With the polynomials p_j that
    are orthonormal under its spectral measure, an eigenvalue mu has weight (z u)^2 / |z|^2 <= 1 / sum_j p_j(mu)^2
    there (Christoffel function). That sum grows beyond the zeros of the p_j, so where it is large at a limit, an
    eigenvalue above would take a vector z that is nearly orthogonal to u, of which the probability is `RISK`. Where a
    p_j is not positive, a Ritz value, and so an eigenvalue, lies above the limit. No basis is kept: lost
    orthogonality gives copies of Ritz values, which change neither. Sources: Parlett 1998, "The Symmetric Eigenvalue
    Problem", chapter 12; Szego 1939, "Orthogonal Polynomials", section 3.4.

    Args:
        matvec: the product with H.
        vectors: orthonormal rows V [k, D].
        limits: what no further eigenvalue, times its sign, may exceed.
        signs: s [n], 1 at the upper end of the spectrum and -1 at the lower one.
        most: products to spend at most, if more than `FEWEST`.
        generator: of z.
        dtype: of the vectors that are multiplied.
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
        # Last, as what rounding leaves along V would grow to an eigenvalue of zero.
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
