"""Sharpness along training, beside the sharpness that the learning rate bears."""

import numpy as np
from matplotlib.axes import Axes

from landscape.errors import InputError
from landscape.escaping import math_free
from landscape.plotting.axes import axes_or_new, draw_legend, label_axes, limit_values
from landscape.plotting.looks import Look
from landscape.plotting.palette import BLUE, GREEN, VERMILLION
from landscape.plotting.sizes import ink, scaled
from landscape.results import SharpnessHistory

__all__ = ["draw_history"]

STYLES = {  # measure -> colour, name in the legend
    "critical": (BLUE, "critical sharpness"),
    "batch": (GREEN, "batch sharpness"),
    "preconditioned": (VERMILLION, "preconditioned sharpness"),
}


def draw_history(history: SharpnessHistory, ax: Axes | None = None, look: Look = Look()) -> Axes:  # noqa: B008 (frozen)
    """Every measure over the steps on a logarithmic axis, with 2 / lr and the threshold of the preconditioned one.

    Batch sharpness has a band of one standard error. What is zero, negative, infinite or NaN is left out; the legend
    says how many steps that are.

    Raises:
        InputError: nothing was measured.
    """
    measures = [name for name in STYLES if name in history.metadata.get("measures", ())]
    if not len(history) or not measures:
        raise InputError("the history of sharpness is empty; train with the recorder first")
    ax = axes_or_new(ax, (5.8, 4.0))
    for name in measures:
        (color, label), values = STYLES[name], getattr(history, name)
        drawn = np.isfinite(values) & (values > 0)
        missing = f" ({(~drawn).sum()} of {len(values)} steps not drawn)" if not drawn.all() else ""
        shown = np.where(drawn, values, np.nan)
        dot = "." if len(values) <= 60 else None
        ax.plot(history.steps, shown, color=color, linewidth=scaled(1.4), marker=dot, label=f"{label}{missing}")
        if name == "batch":
            low, high = (np.where(drawn, shown + side * history.batch_error, np.nan) for side in (-1, 1))
            ax.fill_between(history.steps, np.fmax(low, shown / 10), high, color=color, alpha=0.2, linewidth=0)
    ax.plot(history.steps, history.edge, color=ink(0.75), linewidth=scaled(1.1), linestyle="--", label="2 / lr")
    if "preconditioned" in measures and not np.allclose(history.threshold, history.edge, equal_nan=True):
        color = STYLES["preconditioned"][0]
        label = f"threshold of {math_free(history.metadata.get('optimizer') or 'the optimizer')}"
        ax.plot(history.steps, history.threshold, color=color, linewidth=scaled(1.1), linestyle=":", label=label)
    ax.set_yscale("log")
    limit_values(ax, look)
    ax.grid(color=ink(0.08), linewidth=scaled(0.7))
    draw_legend(ax)
    label_axes(ax, "", "step", "sharpness", look=look)
    return ax
