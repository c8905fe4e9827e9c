"""The trace by random probes, with a standard error."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import chi2, skew
from torch import nn

from landscape.checks import check_count, check_number, check_seed
from landscape.curvature.bar import counted
from landscape.curvature.products import make_product
from landscape.errors import InputError
from landscape.objective.objectives import Objective
from landscape.points import Point
from landscape.results import TraceEstimate
from landscape.runtime import own_torch_state

__all__ = ["trace"]

METHODS = ("hutch++", "hutchinson")
PILOT = 20  # probes from which the number of all probes is planned
LEAST_PRODUCTS = 30  # a sketch and a pilot
COCHRAN = 25  # Cochran 1977, "Sampling Techniques", section 2.15
MOST = 10**9  # probes: more than there will ever be
DOUBT = 0.1  # probability that the planned number is too small
SKETCH = 16  # vectors of the sketch: a little more than the outliers of a classifier of ten classes


@own_torch_state()
def trace(
    objective: Objective,
    point: nn.Module | Point,
    *,
    method: str = "hutch++",
    relative_error: float = 0.05,
    max_products: int = 300,
    seed: int = 0,
    operator: str = "hessian",
    parameters: Sequence[str] = ("*",),
    progress: bool = True,
) -> TraceEstimate:
    """tr H = E[z^T H z] over Rademacher probes z, as many as make the standard error small enough.

    "hutchinson" averages z^T H z (Hutchinson 1990). "hutch++" takes the trace on the range Q of H S exactly, S a
    sketch of up to 16 Rademacher vectors, and averages z^T P H P z, P = I - Q Q^T, for the rest (Meyer et al. 2021,
    "Hutch++: Optimal Stochastic Trace Estimation", algorithm 1): fewer probes where few eigenvalues dominate.

    Probes that were drawn until their own standard error happened to be small would be wrong more often than it says.
    So their number is planned from the first 20, with the variance at its upper confidence limit of 90 % (after Stein
    1945, "A Two-Sample Test for a Linear Hypothesis Whose Power is Independent of the Variance"), and all of them are
    drawn; only where they miss the error is a larger number planned from them. Probes with a skewed law, which a few
    large eigenvalues give them, are drawn until their mean is about normal (25 times their squared skewness).

    Args:
        objective: the losses; its own state does not change.
        point: where.
        method: "hutch++" or "hutchinson".
        relative_error: standard error asked for, as a share of |trace|; at least 20 probes are drawn.
        max_products: products to spend at most; ``converged`` says whether they were enough.
        seed: of the probes.
        operator: "hessian" or "ggn".
        parameters: glob patterns; the trace of that diagonal block.
        progress: show a bar.

    Raises:
        InputError: an unknown method, too few products, and what `hessian_product` raises.
    """
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; use one of {', '.join(map(repr, METHODS))}")
    check_number("relative_error", relative_error, above=0)
    check_count("max_products", max_products, LEAST_PRODUCTS)
    check_seed(seed)
    began = time.perf_counter()
    product = make_product(objective, point, operator, parameters)
    generator = np.random.default_rng(seed)
    with counted(product, "trace", progress, max_products) as matvec:
        known, basis = 0.0, np.zeros((product.dimension, 0))
        if method == "hutch++":
            known, basis = _sketched(matvec, product.dimension, min(SKETCH, max_products // 6), generator)
        samples, planned = [], PILOT
        while len(samples) < planned and product.count < max_products:
            samples.append(known + _probe(matvec, basis, generator))
            if len(samples) == planned:
                planned = _planned(np.array(samples), relative_error)
    error = _standard_error(samples)
    return TraceEstimate(
        value=float(np.mean(samples)),
        standard_error=error,
        products=product.count,
        converged=bool(_enough(samples, relative_error)),
        samples=np.array(samples),
        metadata={
            **product.description,
            "method": method,
            "relative_error": relative_error,
            "max_products": max_products,
            "seed": seed,
            "seconds": time.perf_counter() - began,
        },
    )


def _sketched(matvec: Callable, size: int, count: int, generator: np.random.Generator) -> tuple[float, np.ndarray]:
    """(tr Q^T H Q, Q) with orthonormal Q [D, count], the range of H S."""
    images = [matvec(probe) for probe in _rademacher(generator, (min(count, size), size))]
    basis = np.linalg.qr(np.stack(images, axis=1))[0]
    return float(sum(column @ matvec(column) for column in basis.T)), basis


def _probe(matvec: Callable, basis: np.ndarray, generator: np.random.Generator) -> float:
    probe = _rademacher(generator, len(basis))
    probe = probe - basis @ (basis.T @ probe)
    return float(probe @ matvec(probe))


def _rademacher(generator: np.random.Generator, shape: int | tuple[int, int]) -> np.ndarray:
    return generator.integers(0, 2, shape) * 2.0 - 1.0


def _standard_error(samples: list[float]) -> float:
    return float(np.std(samples, ddof=1) / math.sqrt(len(samples)))


def _enough(samples: list[float], relative_error: float) -> bool:
    few = len(samples) < max(PILOT, _normal(np.array(samples)))
    return not few and _standard_error(samples) <= relative_error * abs(np.mean(samples))


def _planned(samples: np.ndarray, relative_error: float) -> int:
    """How many probes the error takes, where the variance is at its upper confidence limit under a normal law."""
    count = len(samples)
    allowed = (relative_error * samples.mean()) ** 2
    variance = samples.var(ddof=1)
    if count == PILOT or variance > count * allowed:
        variance *= (count - 1) / chi2.ppf(DOUBT, count - 1)
    by_variance = math.ceil(variance / allowed) if variance < allowed * MOST else MOST if variance else 0
    return max(count, by_variance, _normal(samples))


def _normal(samples: np.ndarray) -> int:
    """How many probes have a mean whose law is normal enough for an interval: 25 times the squared skewness."""
    if np.ptp(samples) <= 1e-9 * np.abs(samples).max():
        return 0
    return math.ceil(COCHRAN * skew(samples) ** 2)
