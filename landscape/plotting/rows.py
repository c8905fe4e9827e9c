"""Numbers with error bars, one row a label."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from landscape.errors import InputError
from landscape.plotting.axes import axes_or_new, label_axes

__all__ = ["plot_rows"]

COLOR = "#0072B2"  # blue of the colour-blind-safe set of Okabe and Ito
WIDE = 20  # largest / smallest value beyond which a linear axis hides the small ones


def plot_rows(
    rows: Sequence[tuple[str, float, float | None]], ax: Axes | None = None, *, x_label: str = "", title: str = ""
) -> Axes:
    """One row a label, one point for each (label, value, error) with plus and minus its error, where it has one.

    Points of equal label share a row. The axis is logarithmic where all values are positive and span more than a
    factor of 20. A value that is NaN or infinite is written into its row.

    Raises:
        InputError: nothing to draw.
    """
    if not rows:
        raise InputError("plot_rows needs at least one value")
    places = {label: place for place, label in enumerate(dict.fromkeys(label for label, _, _ in rows))}
    ax = axes_or_new(ax, (5.6, 0.9 + 0.34 * len(places)))
    finite = [value for _, value, _ in rows if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) > WIDE * min(finite):
        ax.set_xscale("log", nonpositive="clip")
    for label, value, error in rows:
        if math.isfinite(value):
            ax.errorbar(value, places[label], xerr=error, fmt="o", color=COLOR, markersize=4.5, capsize=3)
        else:
            ax.text(0.02, places[label], f"{value}", fontsize=8, va="center", transform=ax.get_yaxis_transform())
    ax.set_yticks(range(len(places)), places)
    ax.set_ylim(len(places) - 0.5, -0.5)
    ax.grid(axis="x", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    label_axes(ax, title, x_label, "")
    return ax
