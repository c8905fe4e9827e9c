"""Errors that are stated: of samples, of interpolation, of a path beside its plane."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from landscape.points import Point
from landscape.selftest.comparison import Check, Comparison, compared
from landscape.selftest.models import classification, relu_network
from landscape.selftest.subject import Place, Toolkit

__all__ = ["CHECKS"]

POPULATION, DRAWN, REPEATS = 20_000, 200, 150


def standard_errors(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    """Of subsets of one population: one standard error holds the mean of the population in 68.3 % of them."""
    inputs, targets = classification(POPULATION)
    torch.manual_seed(0)
    model = nn.Linear(6, 3).double()
    plane = toolkit.random_plane(model, seed=1)
    grid = {"resolution": (2, 2), "progress": False}
    truth = toolkit.evaluate(toolkit.objective(model, (inputs, targets), **place.options), plane, **grid).loss
    generator = torch.Generator().manual_seed(1)
    inside = []
    for _ in range(REPEATS):
        rows = torch.randint(0, POPULATION, (DRAWN,), generator=generator)
        surface = toolkit.evaluate(
            toolkit.objective(model, (inputs[rows], targets[rows]), **place.options), plane, **grid
        )
        inside.append(abs(surface.loss[0, 1] - truth[0, 1]) <= surface.standard_error[0, 1])
    # Four binomial standard deviations of 150 trials at 0.683 are 0.15.
    yield compared("share of subsets within one standard error", np.mean(inside), 0.683, 0.15, scale=1.0)


def interpolation_bound(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    model, data = relu_network(1, (6, 64, 64, 3)), classification(2000)
    plane, tolerance = toolkit.random_plane(model, seed=2), 0.02
    objective = toolkit.objective(model, data, **place.options)
    grid = {"resolution": (41, 37), "progress": False, "method": "direct"}
    every = toolkit.evaluate(objective, plane, **grid).loss
    few = toolkit.evaluate(objective, plane, tolerance=tolerance, **grid)
    allowed = tolerance * np.maximum(np.abs(every), 0.01 * np.median(every))
    share = (np.abs(few.loss - every) / allowed).max()
    yield compared("largest error, by the one allowed", share, 0.0, 1.0, scale=1.0)
    yield compared("points are left out", few.evaluated is not None and not few.evaluated.all(), True, 0.0)


def flattened(point: Point) -> np.ndarray:
    """All values of ``point`` in float64, one after the other."""
    vector: np.ndarray = torch.cat([value.detach().cpu().double().flatten() for value in point.values()]).numpy()
    return vector


def projections(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    model = relu_network(1).to(place.dtype)
    plane = toolkit.random_plane(model, seed=2)  # whose directions are neither orthogonal nor of unit length
    generator = torch.Generator().manual_seed(0)
    basis = np.stack([flattened(direction) for direction in plane.directions], 1)
    points, exact, distances = [], [], []
    for place_ in ((0.0, 0.0), (0.5, -1.0), (2.0, 0.25)):
        off = {name: 0.1 * torch.randn(v.shape, generator=generator).to(v) for name, v in plane.origin.items()}
        inside = plane(*place_)
        points.append({name: inside[name] + off[name] for name in inside})
        away = flattened(points[-1]) - flattened(plane.origin)
        coordinates = np.linalg.lstsq(basis, away, rcond=None)[0]
        exact.append(coordinates)
        distances.append(np.linalg.norm(away - basis @ coordinates))
    path = toolkit.project(points, plane, progress=False)
    yield compared("coordinates, by least squares", path.coordinates, np.stack(exact), place.tolerance(1e-7))
    yield compared("distances from the plane", path.distance, distances, place.tolerance(1e-7))


CHECKS = (
    Check("coverage of standard errors", "68.3 % of subsets lie within one", standard_errors, quick=False),
    Check("error of interpolation", "every point evaluated", interpolation_bound, quick=False),
    Check("paths beside their plane", "least squares by numpy", projections),
)
