"""The standard error of a mean over samples that may have weights."""

import math

import numpy as np

__all__ = ["error_of_mean"]


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
