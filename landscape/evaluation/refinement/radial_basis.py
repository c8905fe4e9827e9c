"""Interpolation between evaluated grid points by radial basis functions, with its leave-one-out errors."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

__all__ = ["KINDS", "Kind", "Patch", "RadialBasis", "interpolate", "left_out_errors", "patches"]

PATCH_PLACES = 300  # points of one system of equations, at most; the square is divided into patches if there are more
PATCH_OVERLAP = 0.35  # share of the longer side of a patch up to which points around it are included
BLOCK_VALUES = 2**22  # values, or weights, computed at once
EXPONENTS = {"linear": 1, "cubic": 3, "quintic": 5}
SCALES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {  # (scale, inverse)
    "logarithm of the loss": (np.log, np.exp),
    "square root of the loss": (np.sqrt, np.square),
    "loss": (np.asarray, np.asarray),
}
TINY = np.finfo(float).tiny


@dataclass(frozen=True)
class Kind:
    """A kind of interpolation: the kernel r^3 or r^5 and the values, their square roots or their logarithms."""

    kernel: str
    scale: str

    def __str__(self) -> str:
        return f"{self.kernel} radial basis functions through the {self.scale}"

    def allows(self, values: np.ndarray) -> bool:
        """Whether the scale is defined for ``values``."""
        return self.scale == "loss" or bool((values > 0).all())

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """``values`` on the scale."""
        return SCALES[self.scale][0](values)

    def restored(self, scaled: np.ndarray) -> np.ndarray:
        """The inverse of `scaled`."""
        with np.errstate(over="ignore"):
            return SCALES[self.scale][1](scaled)


KINDS = tuple(Kind(kernel, scale) for scale in SCALES for kernel in ("cubic", "quintic"))


class RadialBasis:
    """s(x) = sum_p w_p phi(|x - x_p|) + a quadratic, phi(r) = r^3 or r^5, through values at ``places`` x_p [P, axes].

    Like a natural cubic spline on a line, it minimises a measure of its bending (Duchon 1977, "Splines minimizing
    rotation-invariant semi-norms in Sobolev spaces"). If there are too few points for a quadratic, it is replaced by a
    linear polynomial with r^3 or a constant with r. The inverse of the matrix A in A [w, c] = [values, 0] is stored,
    because it also gives the leave-one-out errors.
    """

    def __init__(self, kernel: str, places: np.ndarray):
        if len(places) < 10:
            kernel, self.degree = "linear", 0
        elif min(len(np.unique(axis)) for axis in places.T) < 3:  # too few for a quadratic
            kernel, self.degree = "cubic", 1
        else:
            self.degree = 2
        self.exponent = EXPONENTS[kernel]
        self.middle, self.size = places.mean(0), np.ptp(places, axis=0).max() or 1.0
        self.places = (places - self.middle) / self.size
        basis = self._basis(self.places)
        system = np.zeros((basis.shape[1],) * 2)
        system[: len(places)], system[len(places) :, : len(places)] = basis, basis[:, len(places) :].T
        try:
            self.inverse = np.linalg.inv(system)
        except np.linalg.LinAlgError:  # all points lie on one curve of the second degree
            self.inverse = np.linalg.pinv(system)

    def weights(self, requested: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weights W [Q, P] in s(``requested``) = W values, and the power function [Q] at these points.

        The power function grows with the distance to the points x_p. Multiplied by the semi-norm that s minimises, it
        is a bound of the error (Wu and Schaback 1993, "Local error estimates for radial basis function interpolation of
        scattered data").
        """
        basis = self._basis((requested - self.middle) / self.size)
        weights = basis @ self.inverse
        power = np.sqrt(np.abs(np.einsum("ij,ij->i", weights, basis)))
        return weights[:, : len(self.places)], self._in_square(power)

    def left_out(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The leave-one-out errors value - s_p(x_p) [P, M], with s_p through all points but x_p, and the power
        function [P] of s_p at x_p.

        The first is (A^-1 values)_p / (A^-1)_pp, the second 1 / sqrt((A^-1)_pp) (Rippa 1999, "An algorithm for
        selecting a good value for the parameter c in radial basis function interpolation").
        """
        inner = self.inverse[: len(self.places), : len(self.places)]
        diagonal = np.diag(inner)
        diagonal = np.where(diagonal < 0, -1, 1) * np.maximum(np.abs(diagonal), TINY)
        return inner @ values / diagonal[:, None], self._in_square(1 / np.sqrt(np.abs(diagonal)))

    def _basis(self, places: np.ndarray) -> np.ndarray:
        """The basis [Q, P + T] at ``places`` [Q, axes]: phi(|x - x_p|) and T monomials."""
        monomials = [
            np.prod(places[:, list(axes)], axis=1)
            for degree in range(self.degree + 1)
            for axes in itertools.combinations_with_replacement(range(places.shape[1]), degree)
        ]
        return np.column_stack([cdist(places, self.places) ** self.exponent, *monomials])

    def _in_square(self, power: np.ndarray) -> np.ndarray:
        """The power function in units of the unit square, of which the points of this basis fill only a part."""
        scaled: np.ndarray = power * self.size ** (self.exponent / 2)
        return scaled


@dataclass
class Patch:
    """A part of the unit square."""

    own: np.ndarray  # indices of the evaluated points in it
    support: np.ndarray  # indices of the evaluated points in it and around it, through which it is interpolated
    requested: np.ndarray  # indices of the requested points in it

    def pieces(self, columns: int) -> Iterator[np.ndarray]:
        """``requested`` in pieces for which ``columns`` of values do not take too much memory."""
        size = max(1, BLOCK_VALUES // max(columns, len(self.support)))
        return (self.requested[start : start + size] for start in range(0, len(self.requested), size))


def patches(places: np.ndarray, requested: np.ndarray) -> list[Patch]:
    """Halve the unit square and its parts until no part holds more than `PATCH_PLACES` of the ``places`` [P, axes]."""
    pending, parts = [(np.arange(len(places)), np.arange(len(requested)))], list[Patch]()
    while pending:
        own, inside = pending.pop()
        low, high = places[own].min(0), places[own].max(0)
        axis = (high - low).argmax()
        if len(own) <= PATCH_PLACES:
            reach = PATCH_OVERLAP * (high - low)[axis]
            near = ((low - reach <= places) & (places <= high + reach)).all(1)
            support = np.flatnonzero(near) if parts or pending else own
            parts.append(Patch(own, support, inside))
            continue
        ordered = np.unique(places[own, axis])
        border = ordered[len(ordered) // 2]
        for side in (np.less, np.greater_equal):
            pending.append((own[side(places[own, axis], border)], inside[side(requested[inside, axis], border)]))
    return parts


def interpolate(kind: Kind, places: np.ndarray, values: np.ndarray, requested: np.ndarray) -> np.ndarray:
    """Values [Q, M] at ``requested`` [Q, axes] by `RadialBasis` through ``values`` [P, M] at ``places`` [P, axes].

    They are NaN if there are no points, or if the scale of the ``kind`` is not defined for the values.
    """
    if not (len(places) and kind.allows(values)):
        return np.full((len(requested), values.shape[1]), np.nan)
    scaled, interpolated = kind.scaled(values), np.empty((len(requested), values.shape[1]))
    for patch in patches(places, requested):
        basis = RadialBasis(kind.kernel, places[patch.support])
        for piece in patch.pieces(values.shape[1]):
            interpolated[piece] = basis.weights(requested[piece])[0] @ scaled[patch.support]
    return kind.restored(interpolated)


def left_out_errors(kind: Kind, places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Leave-one-out errors [P, M]: at each of the ``places`` [P, axes], of the interpolation through all others."""
    errors = np.zeros(values.shape)
    for patch in patches(places, places[:0]) if len(places) else ():
        missed, _ = RadialBasis(kind.kernel, places[patch.support]).left_out(values[patch.support])
        errors[patch.own] = missed[np.searchsorted(patch.support, patch.own)]
    return errors
