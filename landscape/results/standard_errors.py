"""The standard error of a mean over samples that may have weights, and how many of them a deviation must exceed."""

import math

import numpy as np

__all__ = ["DEVIATIONS", "critical_value", "effective_count", "error_of_mean"]

DEVIATIONS = 2.0  # standard deviations whose level every verdict has: 95.4 % of a normal distribution lie within


def error_of_mean(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The standard error of the mean of N ``values``; NaN for a single one.

    With ``weights`` u_n of mean 1 the values must be v_n = u_n x_n, so that their plain mean m is the weighted mean of
    the x_n. Its error is that of the residuals u_n (x_n - m) = v_n - u_n m, because the sum of the weights varies with
    the samples as well (Cochran 1977, "Sampling Techniques", section 6.3). Without weights all u_n are 1.
    """
    count = len(values)
    if count < 2:
        return math.nan
    mean = values.mean()
    residuals = values - (mean if weights is None else weights * mean)
    return float(np.linalg.norm(residuals) / math.sqrt((count - 1) * count))


def effective_count(weights: np.ndarray) -> float:
    """The number of samples of equal weight whose mean is as certain: (sum w)^2 / sum w^2.

    Source: Kish 1965, "Survey Sampling", section 8.2.
    """
    return float(weights.sum() ** 2 / np.square(weights).sum())


def critical_value(count: float) -> float:
    """The standard errors by which a mean of ``count`` samples must differ from a value to be significantly different.

    It is the quantile of Student's t with count - 1 degrees of freedom at the level of two standard deviations of a
    normal distribution: 14 for 2 samples, 3.3 for 4, 2.2 for 13, and 2 for very many. It is infinite for a single one.
    """
    from scipy.special import ndtr, stdtrit  # here, because results are used without scipy as well

    return float(stdtrit(count - 1, ndtr(DEVIATIONS))) if count > 1 else math.inf
