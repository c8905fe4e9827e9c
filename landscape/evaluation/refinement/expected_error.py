"""Estimates of the interpolation error at points that are not evaluated, from those that are."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from landscape.evaluation.refinement.radial_basis import KINDS, Kind, Patch, RadialBasis, patches

__all__ = ["NOT_FINITE", "Expectation", "expect", "shares"]

NEIGHBOURS = 8  # nearest points whose errors give the error at a point
NOT_FINITE = 1e100  # replaces errors that are not finite


@dataclass
class Expectation:
    """Values [Q, M] by the ``kind`` of interpolation that fits best, and their expected errors [Q].

    The errors are known up to a common factor, which `Refinement` estimates from earlier expectations.
    """

    kind: Kind
    values: np.ndarray
    errors: np.ndarray


def expect(
    places: np.ndarray,
    values: np.ndarray,
    requested: np.ndarray,
    allowed: np.ndarray,
    allowed_there: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Expectation:
    """The values and errors at ``requested`` [Q, axes] to expect from ``values`` [P, M] at ``places`` [P, axes].

    Two estimates of the error need no further evaluations. The first is the difference between several kinds of
    interpolation. The second are the leave-one-out errors at the nearest points, divided by the power function there
    and multiplied by the power function at the requested point. The geometric mean of both, which is returned,
    predicts the error better than either of them. The kind of interpolation is the one with the smallest leave-one-out
    errors (95th percentile).

    Args:
        places: Coordinates of the evaluated points in the unit square.
        values: Finite values there.
        requested: Coordinates of other points in the unit square.
        allowed: Largest acceptable errors [P, M] of ``values``; all errors are shares of the acceptable ones.
        allowed_there: Function that returns the acceptable errors [K, M] of values [K, M] at the requested points with
            the indices [K].
    """
    if not len(places):
        return Expectation(
            KINDS[0], np.full((len(requested), values.shape[1]), np.nan), np.full(len(requested), NOT_FINITE)
        )
    kinds = [kind for kind in KINDS if kind.allows(values)]
    parts = patches(places, requested)
    kernels = {kind.kernel for kind in kinds}
    bases = {kernel: [RadialBasis(kernel, places[part.support]) for part in parts] for kernel in kernels}
    missed = {kind: _missed(kind, parts, bases[kind.kernel], values, allowed) for kind in kinds}
    best = min(kinds, key=lambda kind: np.percentile(missed[kind][0], 95))
    near = cKDTree(places).query(requested, range(1, min(NEIGHBOURS, len(places)) + 1))[1]
    ratio = np.sqrt(np.mean(np.divide(*missed[best])[near] ** 2, axis=1))
    guess, errors = np.empty((len(requested), values.shape[1])), np.empty(len(requested))
    for number, part in enumerate(parts):
        for piece in part.pieces(values.shape[1]):
            weights = {kernel: bases[kernel][number].weights(requested[piece]) for kernel in kernels}
            others = {
                kind: kind.restored(weights[kind.kernel][0] @ kind.scaled(values[part.support])) for kind in kinds
            }
            guess[piece] = others.pop(best)
            limit = allowed_there(guess[piece], piece)
            doubts = np.sort([shares(other - guess[piece], limit) for other in others.values()], axis=0)
            # The second largest difference, because a single kind may not fit at all.
            errors[piece] = np.sqrt(ratio[piece] * weights[best.kernel][1] * doubts[-2:][0])
    return Expectation(best, guess, errors)


def _missed(
    kind: Kind, parts: list[Patch], bases: list[RadialBasis], values: np.ndarray, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Leave-one-out errors [P], as shares of the acceptable ones, and the power function [P] at the same points."""
    errors, powers = np.empty(len(values)), np.empty(len(values))
    for part, basis in zip(parts, bases, strict=True):
        scaled, own = kind.scaled(values[part.support]), np.searchsorted(part.support, part.own)
        missed, power = basis.left_out(scaled)
        interpolated = kind.restored((scaled - missed)[own])
        errors[part.own], powers[part.own] = shares(interpolated - values[part.own], allowed[part.own]), power[own]
    return errors, powers


def shares(errors: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The largest [K] of |errors| / allowed [K, M]; `NOT_FINITE` if one of them is not finite."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ratios = np.where(errors == 0, 0.0, np.abs(errors) / allowed)
    largest: np.ndarray = np.minimum(np.nan_to_num(ratios, nan=NOT_FINITE, posinf=NOT_FINITE).max(1), NOT_FINITE)
    return largest
