"""Quadratic losses, of which everything is known in closed form."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from landscape.selftest.comparison import Check, Comparison, compared
from landscape.selftest.models import Quadratic, Two, scaled_quadratic
from landscape.selftest.subject import Place, Toolkit

__all__ = ["CHECKS"]

FACTORS = torch.tensor([1.0, 3.0, 0.5, 2.0, 8.0, 1.5, 4.0], dtype=torch.float64)  # 7 samples: batches of 4 and 3
GRID = {"alpha_range": (-1.5, -0.25), "beta_range": (0.5, 2.0), "resolution": (4, 7)}


def hessian(seed: int = 0, size: int = 12) -> np.ndarray:
    """A random symmetric matrix with negative eigenvalues."""
    root: np.ndarray = np.random.default_rng(seed).standard_normal((size, size))
    return np.asarray((root + root.T) / 2)


def objective_of(model: Quadratic, toolkit: Toolkit, place: Place) -> Any:
    return toolkit.objective(model, (FACTORS,), loss=scaled_quadratic, batch_size=4, **place.options)


def exact(model: Quadratic, slice_: Any, axes: tuple[np.ndarray, ...]) -> np.ndarray:
    """mean_n f_n q(origin + sum_i c_i d_i) at every point of the grid."""
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    origin, *directions = (
        np.concatenate([value.detach().cpu().double().numpy().ravel() for value in point.values()])
        for point in (slice_.origin, *slice_.directions)
    )
    away = origin + grid @ np.stack(directions)
    values = np.einsum("...i,ij,...j->...", away, model.hessian.cpu().numpy(), away) / 2
    return np.asarray(values * float(FACTORS.mean()))


def surfaces(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    models = [Quadratic(hessian(), rows=3) for _ in range(3)]
    with torch.no_grad():
        for number, model in enumerate(models[1:], 1):
            model.weight.add_(torch.randn(model.weight.shape, generator=torch.Generator().manual_seed(number)))
    a, b, c = models
    objective = objective_of(a, toolkit, place)
    product = toolkit.hessian_product(objective, a)
    pairs = toolkit.top_eigenpairs(product, k=2, tol=1e-6, progress=False)
    for what, slice_ in (
        ("random plane", toolkit.random_plane(a, seed=1)),
        ("plane through three points", toolkit.three_point_plane(a, b, c)),
        ("plane of principal components", toolkit.pca_plane([a, b, c])),
        ("plane of eigenvectors", toolkit.eigenvector_plane(product, pairs)),
        ("random line", toolkit.random_line(a, seed=1)),
        ("line between two points", toolkit.interpolation_line(a, b)),
    ):
        options = GRID if len(slice_.directions) == 2 else GRID | {"resolution": 6}
        surface = toolkit.evaluate(objective, slice_, progress=False, **options)
        axes = (surface.alphas,) if surface.betas is None else (surface.alphas, surface.betas)
        yield compared(what, surface.loss, exact(a, slice_, axes), place.tolerance(1e-9))
    points = tuple({"weight": model.weight.detach().clone()} for model in models)
    curve = replace(toolkit.curve(points, {"kind": "bezier curve"}), networks=1)  # the buffers of all are equal
    surface = toolkit.evaluate(objective, curve, alpha_range=(0, 1), resolution=5, progress=False)
    at = np.linspace(0, 1, 5)[:, None]
    first, second, third = (point["weight"].numpy().ravel() for point in points)
    away = (1 - at) ** 2 * first + 2 * at * (1 - at) * second + at**2 * third
    losses = np.einsum("ki,ij,kj->k", away, hessian(), away) / 2 * float(FACTORS.mean())
    yield compared("Bezier curve", surface.loss, losses, place.tolerance(1e-9))


def chosen_parameters(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    """Slices and products of the first of two parameters."""
    model, half = Two(hessian(), rows=3), 6
    objective = objective_of(model, toolkit, place)
    for what, slice_ in (
        ("random plane", toolkit.random_plane(model, seed=1, parameters=("weight",))),
        ("random line", toolkit.random_line(model, seed=1, parameters=("weight",))),
    ):
        options = GRID if len(slice_.directions) == 2 else GRID | {"resolution": 6}
        surface = toolkit.evaluate(objective, slice_, progress=False, **options)
        axes = (surface.alphas,) if surface.betas is None else (surface.alphas, surface.betas)
        yield compared(what, surface.loss, exact(model, slice_, axes), place.tolerance(1e-9))
        moved = slice_(*(1.5 for _ in slice_.directions))
        yield compared(f"the other parameter on the {what}", moved["other"], model.other, 0.0)
        differs = bool((moved["weight"].cpu() != model.weight.detach()).all())
        yield compared(f"the chosen parameter moves on the {what}", differs, True, 0.0)
    product = toolkit.hessian_product(objective, model, parameters=("weight",))
    block = float(FACTORS.mean()) * hessian()[:half, :half]
    columns = [product.matvec(unit) for unit in np.eye(product.dimension)]
    yield compared("block of the Hessian", np.stack(columns, 1), block, place.tolerance(1e-9))
    pairs = toolkit.top_eigenpairs(product, k=2, which="largest", tol=1e-6, progress=False)
    yield compared("its eigenvalues", pairs.values, np.linalg.eigvalsh(block)[::-1][:2], place.tolerance(1e-8))


def ranges(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    model = Quadratic(hessian(), rows=3)
    surface = toolkit.evaluate(
        objective_of(model, toolkit, place), toolkit.random_plane(model, seed=1), progress=False, **GRID
    )
    yield compared("first axis", surface.alphas, np.linspace(-1.5, -0.25, 4), 1e-12)
    yield compared("second axis", surface.betas, np.linspace(0.5, 2.0, 7), 1e-12)


def sharpness_of_quadratics(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    root = np.random.default_rng(2).standard_normal((12, 12))
    bowl, mean = root @ root.T / 12, float(FACTORS.mean())
    model = Quadratic(bowl, rows=3)
    with torch.no_grad():
        model.weight.zero_()  # the minimum
    objective = objective_of(model, toolkit, place)
    top = mean * np.linalg.eigvalsh(bowl)[-1]
    worst = toolkit.sharpness(objective, model, "ascent", radius=0.1, steps=200)
    yield compared("worst case of a ball", worst.value, 0.1**2 * top / 2, 1e-3)
    average = toolkit.sharpness(objective, model, "gaussian", radius=0.1, samples=200)
    exact_average = 0.1**2 * mean * np.trace(bowl) / 2
    yield compared(
        "average over noise, in standard errors", average.value / average.standard_error,
        exact_average / average.standard_error, 5.0, scale=1.0,
    )  # fmt: skip
    diagonal = Quadratic(np.diag(np.linspace(0.5, 3, 12)), rows=3)
    with torch.no_grad():
        diagonal.weight.zero_()
    box = toolkit.sharpness(objective_of(diagonal, toolkit, place), diagonal, "keskar", radius=0.1)
    yield compared("box", box.value, 100 * mean * 0.1**2 * np.linspace(0.5, 3, 12).sum() / 2, 1e-3)


CHECKS = (
    Check("quadratic surfaces", "closed form; batches of 4 and 3 samples, grids that are not square", surfaces),
    Check("chosen parameters", "closed form; the others are the same bits", chosen_parameters),
    Check("ranges of the axes", "equally spaced from one end to the other", ranges),
    Check("sharpness of quadratics", "r^2 l_max / 2, r^2 tr H / 2, and the corner of the box", sharpness_of_quadratics),
)
