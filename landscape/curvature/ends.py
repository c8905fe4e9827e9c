"""Both ends of the spectrum at once, with a bounded number of products."""

import numpy as np
import psutil
from scipy.linalg import eigh_tridiagonal

from landscape.curvature.subject import Multiplications

__all__ = ["End", "spectrum_ends"]

End = tuple[float, np.ndarray, float]  # the curvature u^T H u, the unit vector u [D], and |H u - (u^T H u) u|

FEWEST, MOST = 10, 80  # vectors of the Krylov basis, which are kept in memory
FLAT = 0.01  # of the eigenvalue of largest magnitude: smaller ones need no residual below ``tol`` times this
CHECKED = 5  # steps between two looks at the residuals


def spectrum_ends(multiply: Multiplications, *, tol: float, seed: int) -> tuple[End, End] | None:
    """Approximations of the largest and the smallest eigenvalue of H, from one Krylov space of up to 80 vectors.

    The Lanczos iteration, whose basis is orthogonalised fully, ends when both residuals are at most ``tol`` times the
    eigenvalue, or times a hundredth of the other one if that is larger. A value is the curvature along its vector, so
    the largest eigenvalue is at least, and the smallest at most, as large, also if the iteration ends early. Source:
    Parlett 1998, "The Symmetric Eigenvalue Problem", chapter 13.

    Returns:
        The ends; None if a basis of ten vectors does not fit into memory.
    """
    size = multiply.dimension
    most = min(MOST, size, psutil.virtual_memory().available // (2 * size * multiply.dtype.itemsize))
    if most < min(FEWEST, size):
        return None
    start = np.random.default_rng(seed).standard_normal(size)
    basis, weights = _krylov(multiply, start / np.linalg.norm(start), int(most), tol)
    largest, smallest = (_end(multiply, basis, weights[:, column]) for column in (-1, 0))
    return largest, smallest


def _krylov(
    multiply: Multiplications, vector: np.ndarray, most: int, tol: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """An orthonormal basis of at most ``most`` vectors, and the eigenvectors of H restricted to it, increasing."""
    dtype, basis = multiply.dtype, list[np.ndarray]()
    diagonal, beside = list[float](), list[float]()
    while True:
        basis.append(vector.astype(dtype))
        image = multiply(basis[-1])
        diagonal.append(float(image @ basis[-1]))
        for _ in range(2):
            for earlier in basis:
                image = image - float(earlier @ image) * earlier
        beside.append(float(np.linalg.norm(image)))
        count = len(basis)
        exhausted = beside[-1] <= np.finfo(dtype).eps * max(map(abs, (*diagonal, *beside)))
        if exhausted or count == most or count % CHECKED == 0:
            values, weights = eigh_tridiagonal(diagonal, beside[:-1])
            ends = [0, -1]
            scale = np.maximum(np.abs(values[ends]), FLAT * np.abs(values[ends]).max())
            close = beside[-1] * np.abs(weights[-1, ends]) <= tol * scale
            if exhausted or count == most or close.all():
                return basis, weights
        vector = image / beside[-1]


def _end(multiply: Multiplications, basis: list[np.ndarray], weights: np.ndarray) -> End:
    vector = np.zeros(multiply.dimension)
    for weight, part in zip(weights, basis, strict=True):
        vector += weight * part
    vector /= np.linalg.norm(vector)
    image = multiply(vector)
    value = float(vector @ image)
    return value, vector, float(np.linalg.norm(image - value * vector))
