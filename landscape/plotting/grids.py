"""A figure of titled panels for functions that draw into axes."""

import math
from collections.abc import Callable, Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from landscape.errors import InputError
from landscape.escaping import math_free
from landscape.plotting.axes import figure_or_new, whole
from landscape.plotting.panels import room_for_panels
from landscape.plotting.sizes import scaled, text_size

__all__ = ["plot_panels"]


def plot_panels(
    panels: Mapping[str, Callable[[Axes], object]],
    *,
    figure: Figure | SubFigure | None = None,
    columns: int = 4,
    size: tuple[float, float] = (2.9, 2.4),
) -> Figure:
    """Draw one panel for each title, whose function is called with the axes.

    ``size`` of a panel is in inches at a font size of 10 points; a narrow ``figure``, or narrow figures in matplotlib's
    settings, have fewer than ``columns`` panels in a row. ``figure`` may be a subfigure; None makes a new
    one of pyplot.

    Raises:
        InputError: there are no panels.
    """
    if not panels:
        raise InputError("plot_panels needs at least one panel")
    frames = room_for_panels(min(columns, len(panels)), size[0], 0, figure, least=170)
    rows = math.ceil(len(panels) / frames.columns)
    width = frames.width / 72
    height = max(scaled(1.8), width * size[1] / size[0]) * rows
    canvas = figure_or_new(figure, (width * frames.columns, height), grow=True)
    for number, (title, draw) in enumerate(panels.items(), start=1):
        ax = canvas.add_subplot(rows, frames.columns, number)
        ax.set_title(math_free(title), fontsize=scaled(10))
        draw(ax)
        ax.tick_params(labelsize=text_size(8, "xtick.labelsize"))
    return whole(canvas)
