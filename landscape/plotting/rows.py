"""Numbers with error bars, one row for each label."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from landscape.errors import InputError
from landscape.escaping import math_free
from landscape.plotting.axes import axes_or_new, label_axes

__all__ = ["plot_rows"]

COLOR = "#0072B2"  # blue of the colour-blind-safe set of Okabe and Ito
WIDE = 20  # ratio of the largest to the smallest value, above which a linear axis would hide the small ones


def plot_rows(
    rows: Sequence[tuple[str, float, float | None]], ax: Axes | None = None, *, x_label: str = "", title: str = ""
) -> Axes:
    """Draw one point for each (label, value, error), with an error bar unless the error is None.

    Points of equal label share a row. If all values are positive, the axis starts at zero or, for values that span
    more than a factor of 20, is logarithmic. A value that is NaN or infinite is written into its row as text.

    Raises:
        InputError: there are no rows.
    """
    if not rows:
        raise InputError("plot_rows needs at least one value")
    positions = {label: position for position, label in enumerate(dict.fromkeys(label for label, _, _ in rows))}
    ax = axes_or_new(ax, (5.6, 0.9 + 0.34 * len(positions)))
    for label, value, error in rows:
        if math.isfinite(value):
            ax.errorbar(value, positions[label], xerr=error, fmt="o", color=COLOR, markersize=4.5, capsize=3)
        else:
            ax.text(0.02, positions[label], f"{value}", fontsize=8, va="center", transform=ax.get_yaxis_transform())
    _scale_axis(ax, [value for _, value, _ in rows if math.isfinite(value)])
    ax.set_yticks(range(len(positions)), [math_free(label) for label in positions])
    ax.set_ylim(len(positions) - 0.5, -0.5)
    ax.grid(axis="x", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    label_axes(ax, title, x_label, "")
    return ax


def _scale_axis(ax: Axes, values: list[float]) -> None:
    """Choose a logarithmic axis or one that starts at zero, see `plot_rows`, with few ticks for small panels."""
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
