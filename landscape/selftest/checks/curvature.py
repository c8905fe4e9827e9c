"""Hessians that are known: of quadratics and of softmax regression at zero weights."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from landscape.selftest.checks.quadratics import FACTORS, hessian, objective_of
from landscape.selftest.comparison import Check, Comparison, compared
from landscape.selftest.models import Quadratic, classification
from landscape.selftest.subject import Place, Toolkit

__all__ = ["CHECKS"]

CLASSES = 3


def softmax_regression(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    inputs, targets = classification(60, features=7, classes=CLASSES)
    model = nn.Linear(7, CLASSES, bias=False).double()
    nn.init.zeros_(model.weight)
    objective = toolkit.objective(model, (inputs, targets), batch_size=25, **place.options)
    yield compared(
        "loss ln K", objective({"weight": model.weight.detach()}).mean(), np.log(CLASSES), place.tolerance(1e-12)
    )
    values = np.linalg.eigvalsh((inputs.T @ inputs / len(inputs)).numpy())[::-1]
    exact = np.repeat(values, CLASSES - 1)[:6] / CLASSES
    product = toolkit.hessian_product(objective, model)
    pairs = toolkit.top_eigenpairs(product, k=6, tol=1e-6, progress=False)
    yield compared("eigenvalues l_i(S) / K, each K - 1 times", pairs.values, exact, place.tolerance(1e-8))
    direction = {"weight": torch.linspace(-1, 1, 7 * CLASSES).reshape(CLASSES, 7).to(place.dtype)}
    hessian_image, ggn_image = (
        make(objective, model)(direction)["weight"] for make in (toolkit.hessian_product, toolkit.ggn_product)
    )
    probabilities = torch.eye(CLASSES, dtype=torch.float64) / CLASSES - 1 / CLASSES**2
    exact_image = probabilities @ direction["weight"].double().cpu() @ (inputs.T @ inputs / len(inputs))
    yield compared("Hessian product", hessian_image, exact_image, place.tolerance(1e-9))
    yield compared("Gauss-Newton product, the same here", ggn_image, exact_image, place.tolerance(1e-9))


def spectra(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    model, mean = Quadratic(hessian(), rows=3), float(FACTORS.mean())
    matrix = mean * hessian()
    objective = objective_of(model, toolkit, place)
    product = toolkit.hessian_product(objective, model)
    values = np.linalg.eigvalsh(matrix)
    for which, exact in (("largest", values[::-1][:2]), ("smallest", values[:2])):
        pairs = toolkit.top_eigenpairs(product, k=2, which=which, tol=1e-6, progress=False)
        yield compared(f"{which} eigenvalues", pairs.values, exact, place.tolerance(1e-8))
    estimate = toolkit.trace(product, relative_error=0.1, max_products=400, progress=False)
    yield compared(
        "trace, in standard errors", estimate.value / estimate.standard_error,
        np.trace(matrix) / estimate.standard_error, 5.0, scale=1.0,
    )  # fmt: skip
    # The matrix is drawn from seed 0, whose numbers Gaussian probes from the same seed would repeat.
    density = toolkit.spectral_density(product, probes=40, steps=12, seed=1, progress=False)
    for order in (1, 2):
        moments = (density.weights * density.nodes**order).sum(1)
        error = moments.std(ddof=1) / np.sqrt(len(moments))
        exact_moment = (values**order).mean()
        what = f"moment {order} of the spectral density, in standard errors"
        yield compared(what, moments.mean() / error, exact_moment / error, 5.0, scale=1.0)


CHECKS = (
    Check("softmax regression at zero weights", "closed form: H = (I / K - 1 / K^2) x S", softmax_regression),
    Check("spectra of quadratics", "eigenvalues, trace and moments of a known matrix", spectra),
)
