"""Measures of sharpness with their error bars."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from landscape.errors import InputError
from landscape.plotting.axes import axes_or_new, label_axes
from landscape.results import Sharpness

__all__ = ["plot_sharpness"]

COLOR = "#0072B2"  # blue of the colour-blind-safe set of Okabe and Ito


def plot_sharpness(
    results: Sequence[Sharpness], ax: Axes | None = None, *, labels: Sequence[str] | None = None
) -> Axes:
    """One row a label, one point a result with its value and, where it is random, plus and minus one standard error.

    ``labels`` default to the layers, or the measures with their radius; results of equal label share a row, such as
    those of several seeds. The axis is logarithmic where all values are positive and span more than a factor of 20. A
    value that is NaN or infinite is written where its point would be.

    Raises:
        InputError: no results, or labels of another number.
    """
    labels = labels or [result.layer or f"{result.measure}, r = {result.radius:g}" for result in results]
    if not results or len(labels) != len(results):
        raise InputError(f"plot_sharpness got {len(results)} results, {len(labels)} labels; give one each")
    rows = {label: row for row, label in enumerate(dict.fromkeys(labels))}
    ax = axes_or_new(ax, (5.6, 0.9 + 0.34 * len(rows)))
    finite = [result.value for result in results if math.isfinite(result.value)]
    if finite and min(finite) > 0 and max(finite) > 20 * min(finite):
        ax.set_xscale("log", nonpositive="clip")
    for result, label in zip(results, labels, strict=True):
        if math.isfinite(result.value):
            error = result.standard_error
            ax.errorbar(result.value, rows[label], xerr=error, fmt="o", color=COLOR, markersize=5, capsize=3)
        else:
            ax.text(
                0.02, rows[label], f"{result.value}: a loss nearby is not finite", fontsize=8, va="center",
                transform=ax.get_yaxis_transform(),
            )  # fmt: skip
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="x", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    measures = {(result.measure, result.radius) for result in results}
    units = "%" if {result.measure for result in results} == {"keskar"} else "rise of the loss"
    title = "{}, r = {:g}".format(*measures.pop()) if len(measures) == 1 else "sharpness"
    label_axes(ax, title, units, "")
    return ax
