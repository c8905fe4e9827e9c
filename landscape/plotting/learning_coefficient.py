"""The chains of an estimate of the local learning coefficient."""

import numpy as np
from matplotlib.axes import Axes

from landscape.plotting.axes import draw_legend, label_axes
from landscape.plotting.histories import series_colors
from landscape.plotting.sizes import ink, scaled
from landscape.results import LearningCoefficient

__all__ = ["draw_chains"]


def draw_chains(estimate: LearningCoefficient, ax: Axes) -> Axes:
    """Running means of n b (L - L(w*)) over the draws of each chain, which end at its estimate."""
    scale = estimate.size * estimate.inverse_temperature
    colors = series_colors()
    draws = np.arange(1, estimate.losses.shape[1] + 1)
    for number, chain in enumerate(estimate.losses):
        running = scale * (np.cumsum(chain) / draws - estimate.loss)
        ax.plot(draws, running, color=colors[number % len(colors)], linewidth=scaled(1.1))
    label = f"mean of {len(estimate.losses)} chains: {estimate.value:.3g} ± {estimate.standard_error:.2g}"
    ax.axhline(estimate.value, color=ink(0.75), linewidth=scaled(1.1), linestyle="--", label=label)
    ax.grid(color=ink(0.08), linewidth=scaled(0.7))
    draw_legend(ax)
    label_axes(ax, "", "draw of each chain", "local learning coefficient, running mean")
    return ax
