"""Surfaces made smooth for the eye."""

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter

from landscape.errors import InputError
from landscape.results import Surface

__all__ = ["smooth"]


def smooth(surface: Surface, sigma: float) -> Surface:
    """A copy of ``surface`` for display only, its loss averaged with Gaussian weights of ``sigma`` grid steps.

    Points that are not finite stay so and lend no weight to their neighbours: L = G(m l) / G(m) with the mask m of the
    finite points. Beyond the edge the outermost values are repeated. Titles name the smoothing; accuracy and standard
    errors, which it does not hold for, are left out.

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
        metadata={**surface.metadata, "smoothed": sigma},
    )  # fmt: skip
