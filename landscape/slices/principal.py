"""The plane of the first two principal components of points of one network."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from landscape.errors import InputError, InputTypeError
from landscape.points import (
    Point,
    as_point,
    as_real,
    check_match,
    is_continuous,
    point_moving,
    precise,
    unflatten,
    whole_step,
)
from landscape.results.axes import SliceAxes
from landscape.runtime import own_torch_state
from landscape.slices.chosen import choice_of, chosen_parameters
from landscape.slices.directions import Normalize, normalize_direction, orthogonalize_filters
from landscape.slices.networks import Networks
from landscape.slices.planes import Plane

__all__ = ["pca_plane"]

BLOCK = 2**23  # numbers in a block of columns, 64 MiB


@runtime_checkable
class _Columns(Protocol):
    """Points of one network that can be read in blocks of parameters, such as those in a file."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Point: ...

    def columns(self, size: int, names: Collection[str]) -> Iterator[Tensor]: ...


@own_torch_state()
def pca_plane(
    points: Sequence[nn.Module | Point],
    *,
    origin: Literal["last", "first"] | int = "last",
    parameters: str | Sequence[str] | None = None,
    normalize: Normalize | None = None,
) -> Plane:
    """The plane through one of ``points`` along their first two principal components.

    The directions d_k = X^T v_k / sqrt(l_k) are the leading right singular vectors of the T centred points X [T, D],
    computed from the eigenvectors v_k and eigenvalues l_k of the Gram matrix X X^T [T, T]; they are orthonormal. The
    points are read twice in blocks of parameters, so that those of a file are never in memory together. The first
    direction points from the first point towards the last. The recipe holds the share of the variance of every
    component. Source: Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", section 7.

    With ``normalize`` the two directions are orthogonalised within every filter and then rescaled to the norms of the
    origin, see `normalize_direction`. Units are then those of a filter-normalised random plane, and the directions
    remain orthogonal; but the plane is a different one, from which the points have larger distances.

    Args:
        points: At least three models or points of one network, or a file of points (`RecordedPoints`).
        origin: "last", "first" or an index: the point with the coordinates (0, 0).
        parameters: The parameters in which the points are compared, and which the plane moves, see
            `chosen_parameters`; default: all, or all that a file has recorded. The others are those of the origin.
        normalize: None, "filter", "layer" or "model".

    Raises:
        InputError: there are fewer than three points, they belong to different networks, do not span a plane or are
            not finite, or the origin or normalisation is unknown.
    """
    if isinstance(points, nn.Module | dict) or not hasattr(points, "__len__"):
        raise InputTypeError(f"pca_plane takes a sequence of models or points, not one {type(points).__name__}")
    if len(points) < 3:
        raise InputError(f"a PCA plane takes at least three points, not {len(points)}")
    named: dict[str | int, int] = {"last": len(points) - 1, "first": 0}
    index = named.get(origin, origin)
    if not isinstance(index, int) or not -len(points) <= index < len(points):
        raise InputError(f"origin must be 'last', 'first' or an index below {len(points)}, not {origin!r}")
    held = Networks.between(points, [(0.0, 0.0)] * len(points)) if isinstance(points, list | tuple) else None
    columns = points if isinstance(points, _Columns) else _Points(points)
    centre, names, choice = _centre(points[index], parameters)
    choice = (getattr(points, "choice", None) or {}) | choice
    variances, vectors = _principal(_gram(columns, names))
    basis = _directions(columns, names, vectors / variances[:2].sqrt())
    moved = {name: centre[name] for name in names}
    directions = [unflatten(row, moved) for row in basis]
    if normalize not in (None, "model"):  # scaling by "model" keeps the directions orthogonal
        orthogonalize_filters(directions, set(moved))
    directions = [normalize_direction(direction, moved, normalize) for direction in directions]
    recipe: dict[str, Any] = {
        "kind": "pca plane",
        "origin": origin,
        "points": len(points),
        "explained_variance": (variances / variances.sum()).tolist(),
        "normalize": normalize,
        **choice,
    }
    like = [{name: value.to(precise(centre[name])) for name, value in direction.items()} for direction in directions]
    whole = tuple(whole_step(direction, centre) for direction in like)
    axes = SliceAxes.principal(recipe["explained_variance"], normalize)
    return Plane(centre, whole, recipe, len(points), held.flat(index) if held else None, axes)


def _centre(
    source: nn.Module | Point, parameters: str | Sequence[str] | None
) -> tuple[Point, Collection[str], dict[str, Any]]:
    """The origin, the names of the parameters to compare, and the entries of the recipe if these were chosen."""
    if parameters is None:
        centre = as_point(source)
        return centre, centre.keys(), {}
    names = chosen_parameters(source, parameters)
    centre = point_moving(source, names)
    return centre, names, choice_of(centre, names, parameters)


class _Points(list[Point]):
    """Points in memory with the interface of `_Columns`."""

    def __init__(self, points: Sequence[nn.Module | Point]):
        super().__init__(point_moving(point, ()) for point in points)
        for number, point in enumerate(self):
            check_match(point, self[0], f"point {number}")
            for name, value in point.items():
                if not is_continuous(value) and not torch.equal(value, self[0][name]):
                    raise InputError(f"the parameter {name!r} holds whole numbers that differ in point {number}")

    def columns(self, size: int, names: Collection[str]) -> Iterator[Tensor]:
        for name in names:
            rows = [as_real(point[name].cpu()).flatten().split(size) for point in self]
            yield from map(torch.stack, zip(*rows, strict=True))


def _centred(points: _Columns, names: Collection[str]) -> Iterator[Tensor]:
    for block in points.columns(max(1, BLOCK // len(points)), names):
        yield block - block.mean(0)


def _gram(points: _Columns, names: Collection[str]) -> Tensor:
    gram = torch.zeros(len(points), len(points), dtype=torch.float64)
    for block in _centred(points, names):
        gram += block @ block.T
    if not gram.isfinite().all():
        number = _first_not_finite(points, names)
        raise InputError(
            f"point {number} of {len(points)} is not finite (did training diverge?); use the points before it"
        )
    return gram


def _first_not_finite(points: _Columns, names: Collection[str]) -> int:
    """The number, counted from 1, of the first point with a value that is not finite; the last one if all are."""
    finite = torch.ones(len(points), dtype=torch.bool)
    for block in points.columns(max(1, BLOCK // len(points)), names):
        finite &= block.isfinite().all(1)
    return int(finite.int().argmin()) + 1 if not finite.all() else len(points)


def _principal(gram: Tensor) -> tuple[Tensor, Tensor]:
    """All variances [T], in decreasing order, and the two leading eigenvectors [T, 2]."""
    variances, vectors = torch.linalg.eigh(gram)
    variances, vectors = variances.flip(0).clamp(min=0), vectors.flip(1)
    if not variances[1] > 1e-12 * variances[0]:
        raise InputError("the points lie on one line (or coincide), so they span no plane")
    return variances, vectors[:, :2]


def _directions(points: _Columns, names: Collection[str], weights: Tensor) -> Tensor:
    """The orthonormalised rows [2, D] of weights^T X, signed such that they point from the first to the last point."""
    raw = torch.cat([block.T @ weights for block in _centred(points, names)])
    # QR restores the orthogonality, which suffers from the squared condition number of the Gram matrix.
    basis: Tensor = torch.linalg.qr(raw).Q.T
    toward_last = weights[-1] - weights[0]  # up to positive factors sqrt(l_k), of which the signs are independent
    basis *= (basis * raw.T).sum(1, keepdim=True).sign()
    signs = toward_last.sign()
    return basis * torch.where(signs == 0, 1.0, signs)[:, None]
