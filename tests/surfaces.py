"""Small surfaces that a transposition cannot survive, and ways to find what was drawn of them."""

import matplotlib
import numpy as np
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from landscape.results import Surface

matplotlib.use("Agg")

METADATA = {
    "slice": {"kind": "random plane", "normalize": "filter", "seed": 42},
    "relative_norms": [0.98, 0.75],
    "data": {"name": "mnist", "split": "train", "size": 60000},
    "objective": {"loss": "cross_entropy", "batch_norm": None},
}


def tilted(x, y):
    return 0.3 + x**2 + 0.5 * y**2 + 0.4 * x + 0.1 * y


def plane(function=tilted, alphas=(-1, 1, 7), betas=(-0.5, 2, 6), metadata=METADATA):
    """A grid of 7 x 6 points with unequal ranges, so that a transposition cannot pass."""
    a, b = np.linspace(*alphas), np.linspace(*betas)
    loss = function(*np.meshgrid(a, b, indexing="ij"))
    return Surface(a, b, loss, np.full_like(loss, 0.05), np.clip(1 - loss, 0, 1), None, metadata)


def line(loss=None, metadata=METADATA):
    alphas = np.linspace(-1, 1, 9)
    loss = 0.5 + alphas**2 if loss is None else loss
    return Surface(alphas, None, loss, np.full(9, 0.1), None, None, metadata)


def with_gap(value=np.nan):
    surface = plane()
    surface.loss[5, 4] = value
    return surface


def new_axes(**options):
    return Figure(layout="constrained").add_subplot(**options)


def contours(ax, filled=True):
    return next(c for c in ax.collections if isinstance(c, QuadContourSet) and c.filled == filled)


def star(ax):
    return next((artist for artist in ax.lines if artist.get_marker() == "*"), None)


def hatched(ax):
    return [patch for patch in ax.patches if patch.get_hatch()]
