"""Projection of the points of a training run onto a plane, with their distances from it."""

import math
from collections.abc import Sequence

import numpy as np
from torch import nn

from landscape.errors import InputError, InputTypeError
from landscape.objective.objectives import Objective, check_objective
from landscape.objective.settling import check_point, whole_slice
from landscape.points import Point, as_float64, as_point, check_match, cosine, inner, is_no_step
from landscape.results import Trajectory
from landscape.runtime import own_torch_state
from landscape.runtime.progress import progress_bar
from landscape.slices.planes import Plane, Slice

__all__ = ["covering_ranges", "project"]

ON_PLANE = 1e-3  # distance of a point on the plane by rounding, at most, as a share of its distance from the origin
PARALLEL = 1e-6  # sine of the angle below which two directions are parallel in float32


@own_torch_state()
def project(
    points: Sequence[nn.Module | Point],
    plane: Plane,
    objective: Objective | None = None,
    *,
    name: str = "",
    progress: bool = True,
) -> Trajectory:
    """The orthogonal projections (shadows) of ``points`` theta_t onto ``plane``, and the distances from it.

    The coordinates c_t minimise |theta_t - origin - sum_i c_i d_i|. They are computed from the normal equations, so
    that the directions d_i need be neither orthogonal nor of unit length. The distance is the length of the residual.
    The arithmetic is float64, and one point is in memory at a time.

    Args:
        points: Models or points of the plane's network, or a file of points (`RecordedPoints`), which also holds their
            steps; otherwise steps count from 0. The losses of models are computed with their own buffers.
        plane: Any plane: PCA, random, of eigenvectors, or through three points.
        objective: Computes the loss of every point and of its shadow, with the BatchNorm policy of a surface on this
            plane. Without it losses are the recorded ones, and those of the shadows are NaN.
        name: Name of the run, for legends.
        progress: Show a progress bar.

    Raises:
        InputError: there are no points, they belong to another network, the directions are parallel or zero, or points
            off the plane lack statistics of normalisation layers.
    """
    if not isinstance(plane, Slice) or len(plane.directions) != 2:
        raise InputTypeError(f"project(points, plane, objective) takes a plane with two directions, not {plane!r:.80}")
    if objective is not None:
        check_objective(objective, "project(points, plane, objective)")
    if isinstance(points, nn.Module | dict) or not hasattr(points, "__len__"):
        raise InputTypeError(f"project takes a sequence of models or points, not one {type(points).__name__}")
    if not len(points):
        raise InputError("there are no points to project")
    inverse = _inverse_gram(plane)
    if objective is not None:
        plane = whole_slice(objective.network, plane)
        original, objective = objective, objective.for_slice(plane)
    steps = np.asarray(getattr(points, "steps", np.arange(len(points))))
    rows, loss, shadow_loss = [], np.full(len(points), np.nan), np.full(len(points), np.nan)
    if objective is None:
        loss[:] = getattr(points, "losses", loss)
    only_chosen = getattr(points, "choice", None) is not None
    with progress_bar(progress, "Projecting", len(points), unit="points") as bar:
        for t in range(len(points)):
            source = points[t]
            point = as_point(source)
            if only_chosen:  # parameters that were not recorded are those of the plane
                point = {**plane.origin, **point}
            check_match(point, plane.origin, f"point {t}")
            rows.append(_seen_from(plane, inverse, point))
            if objective is not None:
                if rows[-1][3] > ON_PLANE:
                    check_point(original.network, objective.network, source)
                loss[t] = _own_loss(objective, point if only_chosen else source)
                shadow_loss[t] = float(objective.on(plane, *rows[-1][:2]).double().mean())
            bar.update()
    alphas, betas, distance, relative = np.array(rows, dtype=np.float64).T
    metadata = {
        "name": name,
        "unit": getattr(points, "unit", "point"),
        "slice": plane.description,
        "explained_variance": plane.recipe.get("explained_variance"),
    }
    if objective is not None:
        metadata |= {
            "data": {**objective.samples.description, "size": objective.size},
            "objective": objective.description,
        }
    coordinates = np.stack([alphas, betas], 1)
    return Trajectory(steps.astype(np.int64), coordinates, distance, relative, loss, shadow_loss, metadata)


def covering_ranges(trajectories: Sequence[Trajectory], *, margin: float = 0.2) -> dict[str, tuple[float, float]]:
    """``alpha_range`` and ``beta_range`` for `evaluate` that contain all ``trajectories`` and the origin.

    ``margin`` times the extent along an axis is added on both sides. An extent below a tenth of the other one is
    replaced by that tenth, so that the ranges of a path along one axis still span a plane.

    Raises:
        InputError: a point is not finite, or the path does not leave the origin.
    """
    places = np.concatenate([np.zeros((1, 2)), *(trajectory.coordinates for trajectory in trajectories)])
    if not np.isfinite(places).all():
        raise InputError("a point of the path is not finite (did training diverge?); use the points before it")
    low, high = places.min(0), places.max(0)
    if not (extent := high - low).any():
        raise InputError("the path does not leave the origin, so there is no range to cover")
    added = margin * np.maximum(extent, extent.max() / 10)
    ends = [(float(a), float(b)) for a, b in zip(low - added, high + added, strict=True)]
    return {"alpha_range": ends[0], "beta_range": ends[1]}


def _inverse_gram(plane: Plane) -> np.ndarray:
    a, b = plane.directions
    between = cosine(a, b)
    if not math.sqrt(max(0.0, 1 - between**2)) > PARALLEL:
        raise InputError(f"the directions are parallel or zero (cosine {between:.9g}), so they span no plane")
    across = inner(a, b)
    return np.linalg.inv([[inner(a, a), across], [across, inner(b, b)]])


def _seen_from(plane: Plane, inverse: np.ndarray, point: Point) -> tuple[float, float, float, float]:
    """Coordinates of the shadow, distance from it, and this distance as a share of the distance from the origin."""
    offset = {
        name: as_float64(point[name]).cpu() - as_float64(value).cpu()
        for name, value in plane.origin.items()
        if point[name] is not value
    }
    directions = [
        {name: as_float64(direction[name]).cpu() for name in offset if not is_no_step(direction[name])}
        for direction in plane.directions
    ]
    away = math.sqrt(inner(offset, offset))
    coordinates = inverse @ [inner(direction, offset) for direction in directions]
    for coordinate, direction in zip(coordinates, directions, strict=True):
        for name, step in direction.items():
            offset[name] -= coordinate * step
    alpha, beta = coordinates
    distance = math.sqrt(inner(offset, offset))
    return float(alpha), float(beta), distance, distance / away if away else 0.0


def _own_loss(objective: Objective, point: nn.Module | Point) -> float:
    """The mean loss of a model with its own buffers, or of a point with those of the objective's network."""
    if isinstance(point, nn.Module) and any(True for _ in point.buffers()):
        objective = objective.of_network(point)
    return float(objective(as_point(point)).double().mean())
