"""Training histories of several networks."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from typing_extensions import Unpack

from landscape.errors import InputError
from landscape.escaping import legend_text
from landscape.plotting.axes import axes_or_new, draw_legend, label_axes, limit_values
from landscape.plotting.looks import ValueLook, look_of
from landscape.plotting.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION
from landscape.plotting.scales import on_log_scale
from landscape.plotting.sizes import ink, scaled

__all__ = ["plot_histories", "series_colors"]

# Eight colours and four dash patterns, so that curves are distinct even if two colours look alike.
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, "#7F7F7F")
DASHES = ("-", "--", "-.", ":")


def plot_histories(
    histories: Mapping[str, Sequence[Sequence[float] | np.ndarray]],
    ax: Axes | None = None,
    *,
    x_label: str = "epoch",
    y_label: str = "",
    first: int = 1,
    log_scale: bool = False,
    **look: Unpack[ValueLook],
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
        look: ``title``, ``vmin`` and ``vmax``, see `ValueLook`.

    Raises:
        InputError: there are no histories, or those of one name have different lengths.
    """
    shown = look_of("plot_histories", ValueLook, look, log_scale)
    if not histories or not all(histories.values()):
        raise InputError("plot_histories needs at least one name with at least one history")
    for name, curves in histories.items():
        if len({len(curve) for curve in curves}) > 1:
            raise InputError(f"the histories of {name!r} have different lengths")
    stacked = [np.array(curves, dtype=np.float64) for curves in histories.values()]
    drawn, log_scale, clipped = on_log_scale(stacked, log_scale)
    ax, colors = axes_or_new(ax, (5.6, 3.8)), series_colors()
    for k, (name, values) in enumerate(zip(histories, drawn, strict=True)):
        x, color = first + np.arange(values.shape[1]), colors[k % len(colors)]
        if len(values) > 1:
            ax.plot(x, values.T, color=color, linewidth=scaled(0.5), alpha=0.5)
        ax.plot(
            x, values.mean(0), color=color, linestyle=DASHES[k % len(DASHES)], linewidth=scaled(1.6),
            label=legend_text(name), marker="o" if values.shape[1] < 8 else None, markersize=scaled(3.5),
        )  # fmt: skip
    if log_scale:
        ax.set_yscale("log", nonpositive="clip")
    if values.shape[1] < 12:
        ax.set_xticks(x)
    limit_values(ax, shown)
    ax.grid(color=ink(0.08), linewidth=scaled(0.7))
    draw_legend(ax)
    label_axes(ax, "", x_label, "\n".join(filter(None, [y_label, clipped])), look=shown)
    return ax


def series_colors() -> tuple[str, ...]:
    """Eight colours for curves, one of them that of the text: black on white, or white on black."""
    return (*COLORS[:-1], ink(1), COLORS[-1])
