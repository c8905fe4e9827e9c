"""Smoothing of surfaces for display."""

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter

from landscape.errors import InputError
from landscape.results import Surface

__all__ = ["smooth"]


def smooth(surface: Surface, sigma: float) -> Surface:
    """A copy of ``surface`` for display, whose loss is averaged with Gaussian weights of ``sigma`` grid steps.

    The loss l becomes G(m l) / G(m), where G is the Gaussian filter and m is 1 at points with a finite loss, else 0:
    other points keep their value and have no influence on their neighbours. Beyond the edge the outermost values are
    repeated. Titles mention the smoothing. Accuracy and standard errors are removed, because they belong to the
    original loss.

    Raises:
        InputError: ``sigma`` is not positive.
    """
    if not 0 < sigma < np.inf:
        raise InputError(f"sigma is {sigma}; it must be above 0, in grid steps")
    finite = ~surface.nonfinite
    weight = gaussian_filter(finite.astype(np.float64), sigma, mode="nearest")
    total = gaussian_filter(np.where(finite, surface.loss, 0.0), sigma, mode="nearest")
    loss = np.where(finite, total / np.where(finite, weight, 1.0), surface.loss)
    return replace(
        surface, loss=loss, standard_error=np.full(loss.shape, np.nan), accuracy=None, per_sample=None,
        sample_weights=None, metadata={**surface.metadata, "smoothed": sigma},
    )  # fmt: skip
