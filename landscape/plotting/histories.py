"""Training histories of several networks."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from landscape.errors import InputError
from landscape.escaping import legend_text
from landscape.plotting.axes import axes_or_new, label_axes
from landscape.plotting.scales import on_log_scale

__all__ = ["plot_histories"]

# Eight colours and four dash patterns, so that curves are distinct even if two colours look alike.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
DASHES = ("-", "--", "-.", ":")


def plot_histories(
    histories: Mapping[str, Sequence[Sequence[float] | np.ndarray]],
    ax: Axes | None = None,
    *,
    x_label: str = "epoch",
    y_label: str = "",
    first: int = 1,
    log_scale: bool = False,
) -> Axes:
    """Draw training histories, one colour for each name: a thin curve per history and a thick one for their mean.

    Args:
        histories: name -> histories, such as one for each seed; the histories of one name have one length.
        ax: Axes to draw into; None makes a new figure of pyplot.
        x_label: Label of the horizontal axis, the number of the value.
        y_label: Label of the vertical axis, the value.
        first: Number of the first value of every history.
        log_scale: Logarithmic vertical axis. Values at or below 0 are drawn at the smallest positive one; a warning
            and the label say so.

    Raises:
        InputError: there are no histories, or those of one name have different lengths.
    """
    if not histories or not all(histories.values()):
        raise InputError("plot_histories needs at least one name with at least one history")
    for name, curves in histories.items():
        if len({len(curve) for curve in curves}) > 1:
            raise InputError(f"the histories of {name!r} have different lengths")
    stacked = [np.array(curves, dtype=np.float64) for curves in histories.values()]
    drawn, log_scale, clipped = on_log_scale(stacked, log_scale)
    ax = axes_or_new(ax, (5.6, 3.8))
    for k, (name, values) in enumerate(zip(histories, drawn, strict=True)):
        x, color = first + np.arange(values.shape[1]), COLORS[k % len(COLORS)]
        if len(values) > 1:
            ax.plot(x, values.T, color=color, linewidth=0.5, alpha=0.5)
        ax.plot(
            x, values.mean(0), color=color, linestyle=DASHES[k % len(DASHES)], linewidth=1.6, label=legend_text(name),
            marker="o" if values.shape[1] < 8 else None, markersize=3.5,
        )  # fmt: skip
    if log_scale:
        ax.set_yscale("log", nonpositive="clip")
    if values.shape[1] < 12:
        ax.set_xticks(x)
    ax.grid(color="0.92", linewidth=0.7)
    ax.legend(fontsize=8, framealpha=0.85)
    label_axes(ax, "", x_label, "\n".join(filter(None, [y_label, clipped])))
    return ax
