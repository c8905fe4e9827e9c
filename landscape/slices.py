"""Lines and planes through parameter space: coordinates -> point, with the recipe that rebuilds them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import nn

from landscape.directions import normalize_direction, random_directions
from landscape.errors import InputError
from landscape.parameters import Point, as_point, check_match, cosine, flatten, norm, unflatten
from landscape.provenance import fingerprint

__all__ = [
    "Line",
    "Plane",
    "Slice",
    "interpolation_line",
    "pca_plane",
    "random_line",
    "random_plane",
    "three_point_plane",
]


@dataclass(frozen=True, eq=False)
class Slice:
    """The affine map (c_1, ..., c_k) -> origin + sum_i c_i directions[i]."""

    origin: Point
    directions: tuple[Point, ...]
    recipe: dict = field(default_factory=dict)  # kind, seed, ...: what rebuilds the slice; JSON types only

    def __post_init__(self):
        for direction in self.directions:
            check_match(direction, self.origin, "direction")

    def __call__(self, *coordinates: float) -> Point:
        if len(coordinates) != len(self.directions):
            raise TypeError(f"this slice takes {len(self.directions)} coordinate(s), not {len(coordinates)}")
        point = {}
        for name, value in self.origin.items():
            point[name] = value.clone()
            for coordinate, direction in zip(coordinates, self.directions, strict=True):
                point[name] += coordinate * direction[name]
        return point

    def to(self, dtype: torch.dtype) -> "Slice":
        """The same slice computed in ``dtype``."""
        origin, *directions = (
            {name: value.to(dtype) for name, value in point.items()} for point in (self.origin, *self.directions)
        )
        return type(self)(origin, tuple(directions), self.recipe)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over origin and directions: two slices with the same one are the same slice."""
        return fingerprint(value for point in (self.origin, *self.directions) for value in point.values())

    @cached_property
    def geometry(self) -> dict:
        """Lengths of origin and directions, |direction| / |origin|, and the cosine between the directions."""
        origin, lengths = norm(self.origin), [norm(direction) for direction in self.directions]
        return {
            "origin_norm": origin,
            "direction_norms": lengths,
            "relative_norms": [length / origin if origin else None for length in lengths],
            "cosine": cosine(*self.directions) if len(self.directions) == 2 else None,
        }


class Line(Slice):
    """alpha -> origin + alpha direction."""


class Plane(Slice):
    """(alpha, beta) -> origin + alpha directions[0] + beta directions[1]."""


def random_plane(
    model: nn.Module,
    *,
    seed: int = 42,
    normalize: str | None = "filter",
    ignore: Sequence[str] = ("bias", "norm"),
    orthogonal: bool = False,
    distribution: str = "gaussian",
) -> Plane:
    """The plane through the parameters of ``model`` along two random directions, see `random_directions`.

    Example:
        >>> plane = random_plane(torch.nn.Linear(3, 2), seed=0)
        >>> sorted(plane(0.5, -0.5))
        ['bias', 'weight']
    """
    return _random_slice(Plane, "random plane", model, 2, seed, normalize, ignore, orthogonal, distribution)


def random_line(
    model: nn.Module,
    *,
    seed: int = 42,
    normalize: str | None = "filter",
    ignore: Sequence[str] = ("bias", "norm"),
    distribution: str = "gaussian",
) -> Line:
    """The line through the parameters of ``model`` along one random direction, see `random_directions`."""
    return _random_slice(Line, "random line", model, 1, seed, normalize, ignore, False, distribution)


def _random_slice(slice_type, kind, model, count, seed, normalize, ignore, orthogonal, distribution) -> Slice:
    directions = random_directions(
        model,
        count,
        seed=seed,
        normalize=normalize,
        ignore=ignore,
        orthogonal=orthogonal,
        distribution=distribution,
    )
    recipe = {
        "kind": kind,
        "seed": seed,
        "normalize": normalize,
        "ignore": list(ignore),
        "orthogonal": orthogonal,
        "distribution": distribution,
    }
    return slice_type(as_point(model), tuple(directions), recipe)


def interpolation_line(a: nn.Module | Point, b: nn.Module | Point, *, normalize: str | None = None) -> Line:
    """The line theta(t) = (1 - t) a + t b: a at t = 0, b at t = 1 (Goodfellow et al. 2015, section 3).

    Only parameters are interpolated; the statistics of BatchNorm follow the policy of the objective, which is
    "recalibrate" on this line unless told otherwise.

    With ``normalize`` the direction b - a is rescaled to the norms of a, see `normalize_direction`: with "filter",
    theta(t) = a + t d with d_f = (b - a)_f |a_f| / |(b - a)_f| for every filter f, so that one unit is as long as on a
    filter-normalised random line. Then t = 1 is **not** b, the line in general misses b, and it counts as a slice
    around a alone: BatchNorm statistics are those of a unless told otherwise.

    Raises:
        InputError: models that do not fit each other, an unknown normalisation, or, with one, equal models.
    """
    a, b = as_point(a), as_point(b)
    check_match(b, a, "second model")
    difference = _difference(b, a)
    if normalize is None:
        return Line(a, (difference,), {"kind": "interpolation line"})
    direction = normalize_direction(difference, a, normalize)
    if not norm(direction):
        raise InputError("the models are the same wherever the first one is not zero, so no direction is left")
    return Line(a, (direction,), {"kind": "normalised interpolation line", "normalize": normalize})


def three_point_plane(a: nn.Module | Point, b: nn.Module | Point, c: nn.Module | Point) -> Plane:
    """The plane through three points: a at (0, 0), b at (1, 0), c at (0, 1) (Garipov et al. 2018, section 3).

    The directions b - a and c - a are not made orthogonal; their cosine is in the metadata of every surface.
    """
    a, b, c = as_point(a), as_point(b), as_point(c)
    check_match(b, a, "second model")
    check_match(c, a, "third model")
    plane = Plane(a, (_difference(b, a), _difference(c, a)), {"kind": "three-point plane"})
    between = plane.geometry["cosine"]
    if not abs(between) < 1 - 1e-9:
        raise InputError("the three points lie on one line (or coincide), so they span no plane")
    return plane


def pca_plane(points: Sequence[nn.Module | Point], *, origin: str | int = "last") -> Plane:
    """The plane through one of ``points`` along the two unit directions in which they spread most.

    The directions are the leading right singular vectors of the centred points, found through the T x T Gram
    matrix G = X X^T: d_k = X^T v_k / sqrt(l_k), unit length and orthogonal. The first direction points from the
    first point to the last one. The recipe holds the share of the variance of every component.
    Source: Li et al. 2018, section 7.

    Args:
        points: at least three models or points of one network.
        origin: "last", "first" or an index: the point that gets the coordinates (0, 0).

    Raises:
        InputError: fewer than three points, or points that do not span a plane.
    """
    points = [as_point(point) for point in points]
    if len(points) < 3:
        raise InputError(f"a PCA plane takes at least three points, not {len(points)}")
    for number, point in enumerate(points):
        check_match(point, points[0], f"point {number}")
    index = {"last": len(points) - 1, "first": 0}.get(origin, origin)
    if not isinstance(index, int) or not -len(points) <= index < len(points):
        raise InputError(f"origin must be 'last', 'first' or an index below {len(points)}, not {origin!r}")
    rows = torch.stack([flatten(point) for point in points])
    rows -= rows.mean(0)
    variances, vectors = torch.linalg.eigh(rows @ rows.T)
    variances, vectors = variances.flip(0).clamp(min=0), vectors.flip(1)
    if not variances[1] > 1e-12 * variances[0]:
        raise InputError("the points lie on one line (or coincide), so they span no plane")
    # QR restores the orthogonality that the squared condition number of the Gram matrix costs.
    basis = torch.linalg.qr(rows.T @ (vectors[:, :2] / variances[:2].sqrt())).Q.T
    toward_last = (basis @ (rows[-1] - rows[0])).sign()
    basis *= torch.where(toward_last == 0, 1.0, toward_last)[:, None]
    recipe = {
        "kind": "pca plane",
        "origin": origin,
        "points": len(points),
        "explained_variance": (variances / variances.sum()).tolist(),
    }
    directions = (unflatten(row, points[0]) for row in basis)
    directions = ({name: value.to(points[0][name]) for name, value in row.items()} for row in directions)
    return Plane(points[index], tuple(directions), recipe)


def _difference(a: Point, b: Point) -> Point:
    return {name: a[name] - b[name] for name in b}
