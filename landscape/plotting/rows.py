"""Numbers with error bars, one row for each label."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from typing_extensions import Unpack

from landscape.errors import InputError
from landscape.escaping import math_free
from landscape.plotting.axes import axes_or_new, label_axes
from landscape.plotting.looks import Look, ValueLook, look_of
from landscape.plotting.palette import BLUE
from landscape.plotting.room import room_of, text_width, wrapped
from landscape.plotting.sizes import ink, scaled, text_size

__all__ = ["draw_rows", "plot_rows"]

USUAL_LABEL = 24.0  # points of a tick label at the left, which a title has room for
WIDE = 20  # ratio of the largest to the smallest value, above which a linear axis would hide the small ones


def plot_rows(
    rows: Sequence[tuple[str, float, float | None]],
    ax: Axes | None = None,
    *,
    x_label: str = "",
    **look: Unpack[ValueLook],
) -> Axes:
    """Draw one point for each (label, value, error), with an error bar unless the error is None.

    Points of equal label share a row. If all values are positive, the axis starts at zero or, for values that span
    more than a factor of 20, is logarithmic. A value that is NaN or infinite is written into its row as text.
    The ``look`` has ``title``, ``vmin`` and ``vmax``, see `ValueLook`.

    Raises:
        InputError: there are no rows.
    """
    return draw_rows(rows, ax, x_label=x_label, title="", look=look_of("plot_rows", ValueLook, look))


def draw_rows(
    rows: Sequence[tuple[str, float, float | None]], ax: Axes | None, *, x_label: str, title: str, look: Look
) -> Axes:
    """The figure of `plot_rows`, with a ``title`` unless the ``look`` has another one."""
    if not rows:
        raise InputError("plot_rows needs at least one value")
    positions = {label: position for position, label in enumerate(dict.fromkeys(label for label, _, _ in rows))}
    ax = axes_or_new(ax, (5.6, 0.9 + 0.34 * len(positions)))
    for label, value, error in rows:
        if math.isfinite(value):
            ax.errorbar(
                value, positions[label], xerr=error, fmt="o", color=BLUE, markersize=scaled(4.5), capsize=scaled(3)
            )
        else:
            ax.text(
                0.02,
                positions[label],
                f"{value}",
                fontsize=text_size(8, "ytick.labelsize"),
                va="center",
                transform=ax.get_yaxis_transform(),
            )
    _scale_axis(ax, [value for _, value, _ in rows if math.isfinite(value)])
    room = room_of(ax)
    for points in (8.0, 7.0, 6.0, 5.0) if room.narrow else (10.0,):
        size = text_size(points, "ytick.labelsize")
        shown = [wrapped(label, 0.38 * room.width, size, most=2) for label in positions]
        lines = max(label.count("\n") + 1 for label in shown)
        if 1.25 * lines * scaled(points) * len(shown) < 0.6 * room.inside[1]:
            break
    longest = max(text_width(line, size) for label in shown for line in label.split("\n"))
    ax.set_yticks(range(len(positions)), [math_free(label) for label in shown], fontsize=size)
    ax.set_ylim(len(positions) - 0.5, -0.5)
    if look.vmin is not None or look.vmax is not None:
        ax.set_xlim(look.vmin, look.vmax)
    ax.grid(axis="x", color=ink(0.1), linewidth=scaled(0.8))
    ax.set_axisbelow(True)
    label_axes(ax, title, x_label, "", look=look, beside=max(0.0, longest - scaled(USUAL_LABEL)))
    return ax


def _scale_axis(ax: Axes, values: list[float]) -> None:
    """Choose a logarithmic axis or one that starts at zero, see `plot_rows`, with few ticks for small panels."""
    if not values:
        return
    low, high, most = min(values), max(values), 3 if room_of(ax).narrow else 5
    if low > 0 and high > WIDE * low:
        ax.set_xscale("log", nonpositive="clip")
        ax.set_xlim(low / 2, high * 2)
        factors: tuple[int, ...] = (1,) if high > 300 * low else (1, 3)
        ax.xaxis.set_major_locator(LogLocator(subs=factors, numticks=most))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        return
    ax.xaxis.set_major_locator(MaxNLocator(3 if room_of(ax).narrow else 4))  # intervals
    left, right = ax.get_xlim()
    if left > 0:
        ax.set_xlim(0, 1.05 * right)
