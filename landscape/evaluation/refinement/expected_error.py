"""How far an interpolation will be off at points that are not evaluated, told by those that are."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from landscape.evaluation.refinement.radial_basis import KINDS, Kind, Patch, RadialBasis, patches

__all__ = ["NOT_FINITE", "Expectation", "expect", "shares"]

NEIGHBOURS = 8  # places whose errors tell of the one between them
NOT_FINITE = 1e100  # stands for errors that are not finite


@dataclass
class Expectation:
    """Values [Q, M] by the ``kind`` of interpolation that fits best, and their errors [Q], in units to be found."""

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
    """What ``values`` [P, M] at ``places`` [P, axes] let expect at ``requested`` [Q, axes].

    Two signs of an error are known without further evaluations: the kinds of interpolation differ, and the values at
    near places are missed when they are left out. The second is to the power function there as the error is to the
    power function here. Neither tells as much alone as their geometric mean does, which is given. The kind is the one
    that misses left out values least (95th percentile).

    Args:
        places: in the unit square.
        values: finite.
        requested: in the unit square.
        allowed: largest acceptable errors [P, M] of ``values``; errors are given as shares of these.
        allowed_there: the same [K, M] for values [K, M] at the requested places with the numbers [K].
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
            found = {kind: kind.restored(weights[kind.kernel][0] @ kind.scaled(values[part.support])) for kind in kinds}
            guess[piece] = found.pop(best)
            limit = allowed_there(guess[piece], piece)
            doubts = np.sort([shares(other - guess[piece], limit) for other in found.values()], axis=0)
            # The largest but one: a single kind may not fit at all.
            errors[piece] = np.sqrt(ratio[piece] * weights[best.kernel][1] * doubts[-2:][0])
    return Expectation(best, guess, errors)


def _missed(
    kind: Kind, parts: list[Patch], bases: list[RadialBasis], values: np.ndarray, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Errors [P], as shares of those allowed, where each value is left out, and the power function [P] there."""
    errors, powers = np.empty(len(values)), np.empty(len(values))
    for part, basis in zip(parts, bases, strict=True):
        scaled, own = kind.scaled(values[part.support]), np.searchsorted(part.support, part.own)
        missed, power = basis.left_out(scaled)
        found = kind.restored((scaled - missed)[own])
        errors[part.own], powers[part.own] = shares(found - values[part.own], allowed[part.own]), power[own]
    return errors, powers


def shares(errors: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The largest [K] of the ``errors`` [K, M], each as a share of what is ``allowed``; `NOT_FINITE` if one is
    not finite."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        found = np.where(errors == 0, 0.0, np.abs(errors) / allowed)
    largest: np.ndarray = np.minimum(np.nan_to_num(found, nan=NOT_FINITE, posinf=NOT_FINITE).max(1), NOT_FINITE)
    return largest
