"""The basins of a surface, as the page marks them."""

import warnings
from typing import Any

import numpy as np

from landscape.results import Surface
from landscape.topology import topology

__all__ = ["basins_content"]

MOST = 40  # basins that can still be told apart on a surface


def basins_content(surface: Surface) -> dict[str, Any]:
    """Grid points of the minimum and the saddle of the most persistent significant basins, and their number as facts.

    Basins come in the order of decreasing persistence; the saddle is None for one that never ends, and ``error``, the
    standard error of the persistence, is None if it is unknown.
    """
    if surface.nonfinite.all():
        return {"marked": [], "facts": {}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of interpolated points, which the facts tell
        found = topology(surface)
    significant = np.flatnonzero(found.significant)
    marked = [
        {
            "minimum": found.minima[basin].tolist(),
            "saddle": found.saddles[basin].tolist() if np.isfinite(found.deaths[basin]) else None,
            "error": float(found.errors[basin]) if np.isfinite(found.errors[basin]) else None,
        }
        for basin in significant[:MOST]
    ]
    text = found.facts["basins"]
    if len(significant) > MOST:
        text += f", of which the {MOST} most persistent are marked"
    if surface.metadata.get("interpolation"):
        text += "; smaller ones cannot be found between the evaluated points"
    return {"marked": marked, "facts": {"basins": text}}
