"""Several lines in one figure, with their mean and spread."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from typing_extensions import Unpack

from landscape.plotting.axes import (
    axes_or_new,
    draw_legend,
    label_slice,
    limit_values,
    mark_nonfinite,
    mark_zero,
    star_style,
)
from landscape.plotting.captions import common_title, count_text, origin_name, quantity_label
from landscape.plotting.looks import CurveLook, look_of
from landscape.plotting.palette import BLUE
from landscape.plotting.panels import check_counts, check_same_grid
from landscape.plotting.scales import on_log_scale
from landscape.plotting.sizes import ink, scaled
from landscape.plotting.values import line_values, value_at
from landscape.results import Surface

__all__ = ["plot_lines"]


def plot_lines(
    surfaces: Sequence[Surface],
    ax: Axes | None = None,
    *,
    log_scale: bool = False,
    quantity: str = "loss",
    **look: Unpack[CurveLook],
) -> Axes:
    """Draw L lines on one grid, such as random lines of several seeds, with their mean and standard deviation.

    The band is the mean plus and minus one standard deviation of a sample (division by L - 1). At points where any
    line is NaN or infinite, mean and band have a gap and a cross is drawn at the upper edge. Stars mark the lines at
    the origin. On a log scale, values at or below 0 are drawn at the smallest positive one; a warning and the label
    say so. The ``look`` has ``title``, ``vmin``, ``vmax`` and ``star``, see `CurveLook`.

    Raises:
        InputError: there are fewer than two lines, a plane among them, different grids, or a quantity that is unknown
            or was not computed.
    """
    check_counts("plot_lines", surfaces, least=2)
    shown = look_of("plot_lines", CurveLook, look, log_scale)
    exact = [line_values(surface, quantity) for surface in surfaces]
    check_same_grid(surfaces)
    drawn, log_scale, clipped = on_log_scale(exact, log_scale)
    values, axis = np.stack(drawn), surfaces[0].alphas
    mean, deviation = values.mean(0), values.std(0, ddof=1)
    ax = axes_or_new(ax, (5.6, 3.8))
    if log_scale:
        ax.set_yscale("log", nonpositive="clip")
    mark_zero(ax)
    thin = ax.plot(axis, values.T, color=BLUE, linewidth=scaled(0.6), alpha=0.45)
    thin[0].set_label(f"{len(surfaces)} lines")
    ax.plot(axis, mean, color=ink(1), linewidth=scaled(2), label="mean")
    _draw_band(ax, axis, mean, deviation)
    origins = [value_at(surface, line, 0) for surface, line in zip(surfaces, values, strict=True)]
    if shown.star and not np.isnan(origins).all():
        ax.plot(np.zeros(len(origins)), origins, label=origin_name(surfaces[0]), **star_style(11))
    if (bad := np.isnan(values)).any():
        mark_nonfinite(ax, axis[bad.any(0)], BLUE, count_text(int(bad.sum()), bad.size))
    limit_values(ax, shown)
    draw_legend(ax)
    label = quantity_label(surfaces, quantity, log_scale, clipped)
    label_slice(ax, surfaces[0], title=common_title(surfaces), values=label, alike=surfaces, look=shown)
    return ax


def _draw_band(ax: Axes, axis: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> None:
    """Draw the band of one standard deviation; its lower edge does not extend the range of a log scale."""
    lowest = ax.get_ylim()[0]
    ax.fill_between(
        axis, mean - deviation, mean + deviation, color=BLUE, alpha=0.2, linewidth=0,
        label="± 1 standard deviation over lines",
    )  # fmt: skip
    if ax.get_yscale() == "log":
        ax.set_ylim(bottom=lowest)
