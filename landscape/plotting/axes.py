"""Elements that the figures share: new axes, labels, the star, legend entries and colour bars."""

import weakref
from collections import deque
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from landscape.escaping import math_free
from landscape.plotting.scales import ROUND_STEPS, Scale, log_ticks

__all__ = ["axes_or_new", "dress_bar", "label_axes", "legend_entries", "mark_nonfinite", "new_figure", "star_style"]

FILE_BACKENDS = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")  # of pyplot, which show no windows
KEPT = 5  # figures made here that pyplot keeps with such a backend
_kept: deque[weakref.ref[Figure]] = deque()

TITLE_PAD = 10  # points; matplotlib's 6 let a wide title touch the uppermost tick label of the y axis
STAR_COLOR = "#D55E00"  # vermillion of the colour-blind-safe set of Okabe and Ito


def axes_or_new(ax: Axes | None, size: tuple[float, float], projection: str | None = None) -> Axes:
    return new_figure(size).add_subplot(projection=projection) if ax is None else ax


def new_figure(size: tuple[float, float]) -> Figure:
    """A new figure of pyplot, which notebooks and ``pyplot.show`` display.

    With a backend that only writes files, pyplot keeps just the latest of these figures, so that loops do not fill the
    memory; earlier ones remain usable through references to them. If the backend cannot be loaded, the figure does
    not belong to pyplot.
    """
    try:
        import matplotlib.pyplot as plt  # only here, so that drawing into the caller's axes does not load pyplot

        figure = plt.figure(figsize=size, layout="constrained")
    except (ImportError, ValueError):  # the environment names a backend that is not installed
        return Figure(figsize=size, layout="constrained")
    if matplotlib.get_backend().lower() in FILE_BACKENDS:
        _kept.append(weakref.ref(figure))
        while len(_kept) > KEPT:
            if (oldest := _kept.popleft()()) is not None:
                plt.close(oldest)
    return figure


def label_axes(ax: Axes, title: str, x_label: str, y_label: str, *, size: float = 10) -> None:
    """Set the title and labels, except those that the caller has set already."""
    if not ax.get_title() and title:
        ax.set_title(math_free(title), fontsize=10, pad=TITLE_PAD)
    if not ax.get_xlabel():
        ax.set_xlabel(math_free(x_label), fontsize=size)
    if not ax.get_ylabel():
        ax.set_ylabel(math_free(y_label), fontsize=size)


def star_style(size: float) -> dict[str, Any]:
    return {
        "marker": "*", "markersize": size, "color": STAR_COLOR, "markeredgecolor": "white",
        "markeredgewidth": 0.7, "linestyle": "none", "zorder": 10,
    }  # fmt: skip


def legend_entries(ax: Axes) -> list[Artist]:
    """The labelled artists of a plane, for its legend: star, dots, paths and hatching."""
    artists: list[Artist] = [*ax.lines, *ax.patches]
    return [artist for artist in artists if not str(artist.get_label()).startswith("_")]


def mark_nonfinite(ax: Axes, x: np.ndarray, color: str, label: str, row: int = 0) -> None:
    """Draw crosses at ``x`` along the upper edge, in row ``row``, for points whose value is NaN or infinite."""
    ax.plot(
        x, np.full(len(x), 0.975 - 0.035 * row), transform=ax.get_xaxis_transform(), color=color, marker="x",
        markersize=4, linestyle="none", label=label,
    )  # fmt: skip


def dress_bar(bar: Colorbar, scale: Scale, label: str, ticks: int = 7, size: float = 9) -> None:
    """Give the colour bar its label and about ``ticks`` ticks at round numbers."""
    bar.locator = log_ticks(scale.limits) if scale.log_scale else MaxNLocator(ticks, steps=ROUND_STEPS)
    if scale.log_scale:
        bar.formatter = FuncFormatter(lambda value, _: f"{value:.4g}")
    elif hasattr(bar.formatter, "set_useOffset"):
        bar.formatter.set_useOffset(False)
    bar.minorticks_off()
    bar.update_ticks()
    bar.outline.set_linewidth(0.5)
    bar.ax.tick_params(labelsize=size)
    bar.ax.yaxis.get_offset_text().set_fontsize(size)
    bar.set_label(math_free(label), fontsize=size + 1)
