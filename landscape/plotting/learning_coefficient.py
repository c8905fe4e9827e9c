"""The chains of an estimate of the local learning coefficient."""

import numpy as np
from matplotlib.axes import Axes

from landscape.plotting.axes import label_axes
from landscape.plotting.histories import COLORS
from landscape.results import LearningCoefficient

__all__ = ["draw_chains"]


def draw_chains(estimate: LearningCoefficient, ax: Axes) -> Axes:
    """Running means of n b (L - L(w*)) over the draws of each chain, which end at its estimate."""
    scale = estimate.size * estimate.inverse_temperature
    draws = np.arange(1, estimate.losses.shape[1] + 1)
    for number, chain in enumerate(estimate.losses):
        running = scale * (np.cumsum(chain) / draws - estimate.loss)
        ax.plot(draws, running, color=COLORS[number % len(COLORS)], linewidth=1.1)
    label = f"mean of {len(estimate.losses)} chains: {estimate.value:.3g} ± {estimate.standard_error:.2g}"
    ax.axhline(estimate.value, color="0.25", linewidth=1.1, linestyle="--", label=label)
    ax.grid(color="0.92", linewidth=0.7)
    ax.legend(fontsize=8, framealpha=0.85)
    label_axes(ax, "", "draw of each chain", "local learning coefficient, running mean")
    return ax
