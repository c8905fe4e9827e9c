"""The flight from one plane to another: the planes in between, with orthogonal axes of one length."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, SupportsIndex, overload

import numpy as np
import torch

from landscape.checks import check_count
from landscape.errors import InputError
from landscape.points import Point, as_float64, inner, norm

if TYPE_CHECKING:
    from landscape.slices.planes import Plane

__all__ = ["Flight", "axes_between"]

PARALLEL = 1e-6  # sine of the angle of two directions that span no plane


class Flight(Sequence["Plane"]):
    """Planes on the way from one to another, each of which is made when it is read.

    Raises:
        InputError: the planes have different origins, one of them has parallel directions, or there are fewer than
            two steps.
    """

    def __init__(self, first: "Plane", second: "Plane", steps: int):
        check_count("steps", steps, least=2)
        if first.origin.keys() != second.origin.keys() or any(
            value is not second.origin[name] and not torch.equal(value, second.origin[name])
            for name, value in first.origin.items()
        ):
            raise InputError("the planes go through different points; a flight turns one plane around its origin")
        self._first, self._second, self._steps = first, second, steps
        self._directions, self._length = (*first.directions, *second.directions), norm(first.directions[0])
        self._gram = np.array([[inner(a, b) for b in self._directions] for a in self._directions])
        axes_between(self._gram, 0.0)  # which refuses parallel directions

    def __len__(self) -> int:
        return self._steps

    @overload
    def __getitem__(self, step: SupportsIndex) -> "Plane": ...
    @overload
    def __getitem__(self, step: slice) -> "tuple[Plane, ...]": ...
    def __getitem__(self, step: SupportsIndex | slice) -> "Plane | tuple[Plane, ...]":
        if isinstance(step, slice):
            return tuple(self[index] for index in range(*step.indices(self._steps)))
        fraction = range(self._steps)[step] / (self._steps - 1)
        factors = self._length * axes_between(self._gram, fraction)
        directions = tuple(_combined(self._first.origin, self._directions, column) for column in factors.T)
        recipe = {"from": self._first.recipe, "to": self._second.recipe, "fraction": fraction}
        return replace(self._first, directions=directions, recipe={"kind": "plane of a flight", **recipe})


def axes_between(gram: np.ndarray, fraction: float) -> np.ndarray:
    """Factors [4, 2] of two orthonormal axes at ``fraction`` of the way from span(u1, u2) to span(v1, v2).

    ``gram`` [4, 4] holds the inner products of u1, u2, v1, v2. At 0 the axes are u1, and u2 made orthogonal to it; at 1
    those of v, the second one perhaps reversed. In between, each principal vector of the first plane turns to its
    partner in the second by an equal share of their angle, the geodesic of the Grassmann manifold (Edelman, Arias and
    Smith 1998, "The Geometry of Algorithms with Orthogonality Constraints", theorem 2.3), while the axes turn within
    the plane.

    Raises:
        InputError: u1 and u2, or v1 and v2, are parallel or zero.
    """
    first, second = _orthonormal(gram, 0), _orthonormal(gram, 2)
    if np.linalg.det(first.T @ gram @ second) < 0:
        second[:, 1] *= -1  # so that the axes turn, and are not mirrored
    left, cosines, right = np.linalg.svd(first.T @ gram @ second)
    angles = np.arccos(np.clip(cosines, -1, 1))
    begin, end = first @ left, second @ right.T
    across = (end - begin * np.cos(angles)) / np.where(np.sin(angles) > PARALLEL, np.sin(angles), 1)
    across[:, np.sin(angles) <= PARALLEL] = 0
    within = right.T @ left.T  # how the axes are turned at the end, where the principal vectors have led them
    turn = fraction * math.atan2(within[1, 0], within[0, 0])
    back = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    axes: np.ndarray = (begin * np.cos(fraction * angles) + across * np.sin(fraction * angles)) @ left.T @ back
    return axes


def _orthonormal(gram: np.ndarray, start: int) -> np.ndarray:
    """Factors [4, 2] of the two vectors from ``start`` on, made orthonormal in their order."""
    pair = gram[start : start + 2, start : start + 2]
    lengths = np.sqrt(np.diag(pair))
    if not lengths.all() or not math.sqrt(max(0.0, 1 - (pair[0, 1] / lengths.prod()) ** 2)) > PARALLEL:
        raise InputError("the directions of a plane are parallel or zero, so that it has no axes to turn")
    factors = np.zeros((4, 2))
    factors[start : start + 2] = np.linalg.inv(np.linalg.cholesky(pair)).T
    return factors


def _combined(origin: Point, directions: tuple[Point, ...], factors: np.ndarray) -> Point:
    """The sum of ``directions`` with these ``factors``, in the precision of the parameters."""
    return {
        name: sum(
            factor * as_float64(direction[name]) for factor, direction in zip(factors, directions, strict=True)
        ).to(value)
        for name, value in origin.items()
    }
