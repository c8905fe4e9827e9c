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
    standard error of the persistence, is None if it is unknown. ``edge`` says whether the minimum is on the edge of the
    plane, beyond which the loss may go on falling.
    """
    if surface.nonfinite.all():
        return {"marked": [], "facts": {}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of interpolated points, which the facts tell
        tree = topology(surface)
    significant = np.flatnonzero(tree.significant)
    edge = ((tree.minima == 0) | (tree.minima == np.array(surface.shape) - 1)).any(1)
    marked = [
        {
            "minimum": tree.minima[basin].tolist(),
            "saddle": tree.saddles[basin].tolist() if np.isfinite(tree.deaths[basin]) else None,
            "edge": bool(edge[basin]),
            "error": float(tree.errors[basin]) if np.isfinite(tree.errors[basin]) else None,
        }
        for basin in significant[:MOST]
    ]
    text = tree.facts["basins"]
    if len(significant) > MOST:
        text += f", of which the {MOST} most persistent are marked"
    if count := int(edge[significant].sum()):
        text += f"; {count:,} with the lowest point at the edge of the plane"
    if surface.metadata.get("interpolation"):
        text += "; smaller ones cannot be found between the evaluated points"
    return {"marked": marked, "facts": {"basins": text}}
