"""A figure of titled panels for functions that draw into axes."""

import math
from collections.abc import Callable, Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.errors import InputError
from landscape.escaping import math_free
from landscape.plotting.axes import new_figure

__all__ = ["plot_panels"]


def plot_panels(
    panels: Mapping[str, Callable[[Axes], object]], *, columns: int = 4, size: tuple[float, float] = (2.9, 2.4)
) -> Figure:
    """Draw one panel for each title, whose function is called with the axes; ``size`` of a panel is in inches.

    Raises:
        InputError: there are no panels.
    """
    if not panels:
        raise InputError("plot_panels needs at least one panel")
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure((size[0] * columns, size[1] * rows))
    for number, (title, draw) in enumerate(panels.items(), start=1):
        ax = figure.add_subplot(rows, columns, number)
        ax.set_title(math_free(title), fontsize=10)
        draw(ax)
        ax.tick_params(labelsize=8)
    return figure
