"""The loss along several paths between two networks."""

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from typing_extensions import Unpack

from landscape.checks import check_choice, check_type
from landscape.escaping import legend_text
from landscape.plotting.axes import (
    axes_or_new,
    draw_legend_below,
    label_slice,
    limit_values,
    mark_nonfinite,
    star_style,
)
from landscape.plotting.captions import common_title, count_text, quantity_label
from landscape.plotting.looks import CurveLook, look_of
from landscape.plotting.palette import BLUE, GREEN, ORANGE, PURPLE
from landscape.plotting.panels import check_counts
from landscape.plotting.scales import on_log_scale
from landscape.plotting.sizes import ink, scaled
from landscape.plotting.values import line_values
from landscape.results import Barrier

__all__ = ["plot_barriers"]

COLORS = (BLUE, GREEN, ORANGE, PURPLE)
STYLES = ("--", "-", "-.", ":", (0, (5, 1)))


def plot_barriers(
    barriers: dict[str, Barrier],
    ax: Axes | None = None,
    *,
    log_scale: bool = False,
    quantity: Literal["loss", "accuracy"] = "loss",
    **look: Unpack[CurveLook],
) -> Axes:
    """Draw the loss along every path from the first network to the second, with the barrier of each in the legend.

    The first entry, such as the unaligned networks, is dashed, in the colour of the text. Stars mark the networks at
    the ends; the grey line between two of them is the chord above which a barrier is measured. Points whose value is
    NaN or infinite are gaps with a cross at the upper edge. ``quantity`` is "loss" or "accuracy". On a log scale,
    values at or below 0 are drawn at the smallest positive one; a warning and the label say so. The ``look`` has
    ``title``, ``vmin``, ``vmax`` and ``star``, see `CurveLook`.

    Raises:
        InputError: there are no barriers, or the quantity is unknown or was not computed.
    """
    check_type(barriers, dict, "plot_barriers(barriers)", "a dict of barriers, name -> ll.barrier(objective, a, b)")
    shown = look_of("plot_barriers", CurveLook, look, log_scale)
    check_choice("quantity", quantity, ("loss", "accuracy"))
    for barrier in barriers.values():
        check_type(barrier, Barrier, "plot_barriers(barriers)", "barriers, as ll.barrier returns them")
    surfaces = [barrier.surface for barrier in barriers.values()]
    check_counts("plot_barriers", surfaces)
    lines, log_scale, clipped = on_log_scale([line_values(surface, quantity) for surface in surfaces], log_scale)
    ax = axes_or_new(ax, (5.6, 4.4))
    if log_scale:
        ax.set_yscale("log", nonpositive="clip")
    for k, ((name, barrier), values) in enumerate(zip(barriers.items(), lines, strict=True)):
        rise = barrier.accuracy if quantity == "accuracy" else barrier.value
        color, style, t = (ink(1), *COLORS)[k % (1 + len(COLORS))], STYLES[k % len(STYLES)], barrier.surface.alphas
        ax.plot(
            t,
            values,
            color=color,
            linestyle=style,
            linewidth=scaled(1.8),
            label=legend_text(f"{name}: barrier {rise:.3g}"),
        )
        if (bad := np.isnan(values)).any():
            mark_nonfinite(ax, t[bad], color, count_text(int(bad.sum()), bad.size), row=k)
    _draw_ends(ax, lines, shown.star)
    limit_values(ax, shown)
    label = quantity_label(surfaces, quantity, log_scale, clipped)
    label_slice(ax, surfaces[0], title=common_title(surfaces), values=label, look=shown)
    draw_legend_below(ax)
    return ax


def _draw_ends(ax: Axes, lines: list[np.ndarray], star: bool) -> None:
    """Draw the chord of every pair of ends, and stars at them; paths between the same two networks share theirs."""
    pairs: list[np.ndarray] = []
    for values in lines:
        if not any(np.allclose(values[[0, -1]], pair, rtol=1e-6, atol=0, equal_nan=True) for pair in pairs):
            pairs.append(values[[0, -1]])
    chord = np.linspace(0, 1, 101)
    for first, last in pairs:
        ax.plot(chord, first + chord * (last - first), color=ink(0.3), linewidth=scaled(0.8), zorder=0.5)
    if star:
        label = "the two networks" if len(pairs) == 1 else "the networks"
        ax.plot(np.tile([0, 1], len(pairs)), np.concatenate(pairs), label=label, **star_style(11))
