"""Figures as arrays of pixels, for films and trackers."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from landscape.plotting.axes import whole

__all__ = ["pixels_of"]


def pixels_of(drawn: Figure | SubFigure | Axes) -> np.ndarray:
    """The pixels [H, W, 3] uint8 of a figure, or of the figure of the axes, which keeps its size and its canvas."""
    figure = whole(drawn)
    canvas = figure.canvas
    try:
        drawing: Any = FigureCanvasAgg(figure)  # whose methods have no types
        drawing.draw()
        return np.array(drawing.buffer_rgba(), dtype=np.uint8)[..., :3]
    finally:
        figure.set_canvas(canvas)
