"""Estimates of the trace from random probes, with a standard error."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from scipy.stats import chi2, skew
from torch import nn

from landscape.checks import check_choice, check_count, check_number, check_seed
from landscape.curvature.products import Product
from landscape.curvature.subject import Multiplications, Operator, counted, product_of, recorded
from landscape.objective.objectives import Objective
from landscape.points import Point
from landscape.results import TraceEstimate
from landscape.runtime import own_torch_state

__all__ = ["rademacher", "trace"]

Matvec = Callable[[np.ndarray], np.ndarray]

METHODS = ("hutch++", "hutchinson")
PILOT = 20  # probes from which the total number of probes is planned
LEAST_PRODUCTS = 30  # products for a sketch and the pilot probes
COCHRAN = 25  # factor of the squared skewness: Cochran 1977, "Sampling Techniques", section 2.15
MOST = 10**9  # largest planned number of probes, never reached
DOUBT = 0.1  # probability that the planned number of probes is too small
SKETCH = 16  # vectors of the sketch, a few more than the outlying eigenvalues of a classifier with ten classes


@own_torch_state()
def trace(
    product: Product | Objective,
    point: nn.Module | Point | None = None,
    *,
    method: Literal["hutch++", "hutchinson"] = "hutch++",
    relative_error: float = 0.05,
    max_products: int = 300,
    seed: int = 0,
    operator: Operator | None = None,
    parameters: str | Sequence[str] | None = None,
    progress: bool = True,
) -> TraceEstimate:
    """Estimate tr H = E[z^T H z] from Rademacher probes z (entries 1 or -1), until its standard error is small enough.

    "hutchinson" averages z^T H z (Hutchinson 1990, "A Stochastic Estimator of the Trace of the Influence Matrix").
    "hutch++" computes the trace on the range Q of H S exactly, where S is a sketch of up to 16 Rademacher vectors, and
    averages z^T P H P z with P = I - Q Q^T for the rest (Meyer et al. 2021, "Hutch++: Optimal Stochastic Trace
    Estimation", algorithm 1); it needs fewer probes if few eigenvalues dominate.

    If probes were drawn until their own standard error is small, the standard error would be too small on average. So
    the number of probes is planned from the first 20, with the upper 90 % confidence limit of their variance (after
    Stein 1945, "A Two-Sample Test for a Linear Hypothesis Whose Power is Independent of the Variance"), and all of them
    are drawn; if their standard error is still too large, a larger number is planned from them. If the distribution of
    z^T H z is skewed, which a few large eigenvalues cause, at least 25 times its squared skewness probes are drawn,
    after which their mean is nearly normal.

    Args:
        product: The matrix, from `hessian_product` or `ggn_product`; the graphs that it keeps also serve later
            measurements. Or an objective, from which a product is made for this measurement.
        point: With an objective only: the point at which the matrix is taken.
        method: "hutch++" or "hutchinson".
        relative_error: Standard error to reach, as a share of |trace|; at least 20 probes are drawn.
        max_products: Largest number of products; ``converged`` says whether they were enough.
        seed: Seed of the probes.
        operator: With an objective only: "hessian" (the default) or "ggn".
        parameters: With an objective only: the parameters of the diagonal block, see `hessian_product`; default: all.
        progress: Show a progress bar.

    Raises:
        InputError: the method is unknown, ``max_products`` is too small, options of an objective are passed with a
            product, or `hessian_product` refuses the arguments.

    Example:
        >>> import torch
        >>> from landscape_lib import hessian_product, objective
        >>> model, data = torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
        >>> product = hessian_product(objective(model, data), model)
        >>> trace(product, max_products=40).products <= 40
        True
    """
    check_choice("method", method, METHODS)
    check_number("relative_error", relative_error, above=0)
    check_count("max_products", max_products, LEAST_PRODUCTS)
    check_seed(seed)
    began = time.perf_counter()
    settings = {"method": method, "relative_error": relative_error, "max_products": max_products, "seed": seed}
    with product_of(product, point, operator, parameters) as matrix:
        with counted(matrix, "trace", progress, max_products) as multiply:
            samples = _samples(multiply, method, relative_error, max_products, np.random.default_rng(seed))
        metadata = recorded(matrix, began, **settings)
    return TraceEstimate(
        value=float(samples.mean()),
        standard_error=_standard_error(samples),
        products=multiply.count,
        converged=_enough(samples, relative_error),
        samples=samples,
        metadata=metadata,
    )


def _samples(
    multiply: Multiplications, method: str, relative_error: float, most: int, generator: np.random.Generator
) -> np.ndarray:
    """Unbiased estimates [n] of the trace, as many as ``relative_error`` requires and ``most`` products allow."""
    exact, basis = 0.0, np.zeros((multiply.dimension, 0))
    if method == "hutch++":
        exact, basis = _sketched(multiply, multiply.dimension, min(SKETCH, most // 6), generator)
    samples: list[float] = []
    planned = PILOT
    while len(samples) < planned and multiply.count < most:
        samples.append(exact + _probe(multiply, basis, generator))
        if len(samples) == planned:
            planned = _planned(np.array(samples), relative_error)
    return np.array(samples)


def _sketched(matvec: Matvec, size: int, count: int, generator: np.random.Generator) -> tuple[float, np.ndarray]:
    """(tr Q^T H Q, Q) with orthonormal Q [D, count], the range of H S."""
    images = [matvec(probe) for probe in rademacher(generator, (min(count, size), size))]
    basis = np.linalg.qr(np.stack(images, axis=1))[0]
    return float(sum(column @ matvec(column) for column in basis.T)), basis


def _probe(matvec: Matvec, basis: np.ndarray, generator: np.random.Generator) -> float:
    probe = rademacher(generator, len(basis))
    probe = probe - basis @ (basis.T @ probe)
    return float(probe @ matvec(probe))


def rademacher(generator: np.random.Generator, shape: int | tuple[int, int]) -> np.ndarray:
    """Entries that are 1 or -1, each with probability 1/2."""
    return generator.integers(0, 2, shape) * 2.0 - 1.0


def _standard_error(samples: np.ndarray) -> float:
    return float(np.std(samples, ddof=1) / math.sqrt(len(samples)))


def _enough(samples: np.ndarray, relative_error: float) -> bool:
    few = len(samples) < max(PILOT, _normal(samples))
    return not few and _standard_error(samples) <= relative_error * abs(float(samples.mean()))


def _planned(samples: np.ndarray, relative_error: float) -> int:
    """Number of probes for the relative error, from the upper confidence limit of a normal distribution's variance."""
    count = len(samples)
    allowed = (relative_error * samples.mean()) ** 2
    variance = samples.var(ddof=1)
    if count == PILOT or variance > count * allowed:
        variance *= (count - 1) / chi2.ppf(DOUBT, count - 1)
    by_variance = math.ceil(variance / allowed) if variance < allowed * MOST else MOST if variance else 0
    return max(count, by_variance, _normal(samples))


def _normal(samples: np.ndarray) -> int:
    """Number of probes whose mean is nearly normal: 25 times the squared skewness of ``samples``."""
    if np.ptp(samples) <= 1e-9 * np.abs(samples).max():
        return 0
    return math.ceil(COCHRAN * float(skew(samples)) ** 2)
