"""Numbers with error bars, one row a label."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from landscape.errors import InputError
from landscape.escaping import math_free
from landscape.plotting.axes import axes_or_new, label_axes

__all__ = ["plot_rows"]

COLOR = "#0072B2"  # blue of the colour-blind-safe set of Okabe and Ito
WIDE = 20  # largest / smallest value beyond which a linear axis hides the small ones


def plot_rows(
    rows: Sequence[tuple[str, float, float | None]], ax: Axes | None = None, *, x_label: str = "", title: str = ""
) -> Axes:
    """One row a label, one point for each (label, value, error) with plus and minus its error, where it has one.

    Points of equal label share a row. The axis is logarithmic where all values are positive and span more than a
    factor of 20, otherwise it starts at zero where all are positive. A value that is NaN or infinite is written into
    its row.

    Raises:
        InputError: nothing to draw.
    """
    if not rows:
        raise InputError("plot_rows needs at least one value")
    places = {label: place for place, label in enumerate(dict.fromkeys(label for label, _, _ in rows))}
    ax = axes_or_new(ax, (5.6, 0.9 + 0.34 * len(places)))
    for label, value, error in rows:
        if math.isfinite(value):
            ax.errorbar(value, places[label], xerr=error, fmt="o", color=COLOR, markersize=4.5, capsize=3)
        else:
            ax.text(0.02, places[label], f"{value}", fontsize=8, va="center", transform=ax.get_yaxis_transform())
    _scale_axis(ax, [value for _, value, _ in rows if math.isfinite(value)])
    ax.set_yticks(range(len(places)), [math_free(label) for label in places])
    ax.set_ylim(len(places) - 0.5, -0.5)
    ax.grid(axis="x", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    label_axes(ax, title, x_label, "")
    return ax


def _scale_axis(ax: Axes, values: list[float]) -> None:
    """Logarithmic where the values need it, else from zero where all are positive; few ticks, as panels are small."""
    if not values:
        return
    low, high = min(values), max(values)
    if low > 0 and high > WIDE * low:
        ax.set_xscale("log", nonpositive="clip")
        ax.set_xlim(low / 2, high * 2)
        ax.xaxis.set_major_locator(LogLocator(subs=(1,) if high > 300 * low else (1, 3), numticks=5))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        return
    ax.xaxis.set_major_locator(MaxNLocator(4))
    left, right = ax.get_xlim()
    if left > 0:
        ax.set_xlim(0, 1.05 * right)
