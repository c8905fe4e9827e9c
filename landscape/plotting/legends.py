"""The type of legends, and the corner of a plane in which a legend covers the least."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties

from landscape.plotting.room import Room, room_of, text_width, wrapped
from landscape.plotting.sizes import scaled, text_size

__all__ = ["Corner", "fitted_labels", "free_corner", "legend_entries", "plane_frame"]

CORNERS = {"upper right": (1, 1), "upper left": (0, 1), "lower right": (1, 0), "lower left": (0, 0)}  # as shares


@dataclass(frozen=True)
class Corner:
    """The corner of a frame that a legend takes."""

    name: str  # as matplotlib calls it
    size: np.ndarray  # about the width and height of the legend, as shares of those of the frame [2]

    def covers(self, points: np.ndarray, margin: np.ndarray) -> np.ndarray:
        """Which ``points`` [n, 2] lie in the corner or within ``margin`` [2] of it; all are shares of the frame."""
        inside: np.ndarray = (np.abs(CORNERS[self.name] - points) < self.size + margin).all(axis=1)
        return inside


def legend_entries(ax: Axes) -> list[Artist]:
    """The labelled artists of a plane, for its legend: star, dots, paths and hatching."""
    artists: list[Artist] = [*ax.lines, *ax.patches]
    return [artist for artist in artists if not str(artist.get_label()).startswith("_")]


def plane_frame(ax: Axes) -> tuple[float, float]:
    """About the width and height of the frame of a plane beside the colour bar that it has or will get, in points."""
    return replace(room_of(ax), bar=True).inside


def fitted_labels(room: Room, labels: Sequence[str]) -> tuple[list[str], float | str]:
    """The ``labels`` of a legend wrapped to the frame of ``room``, and their size, as small as the frame demands."""
    width, height = room.inside
    for points in (7.0, 6.0, 5.0) if room.narrow else (8.0, 7.0, 6.0, 5.0):
        size = text_size(points, "legend.fontsize")
        texts = [wrapped(label, width - 5 * scaled(points), size) for label in labels]
        lines = sum(text.count("\n") + 1 for text in texts)
        if (1.3 * lines + 0.4 * len(texts) + 1.5) * scaled(points) < 0.75 * height:
            break
    return texts, size


def free_corner(ax: Axes, labels: Sequence[str], marks: np.ndarray) -> Corner | None:
    """The corner in which a legend of ``labels`` covers the fewest ``marks`` [n, 2], which are shares of the frame.

    None without labels. The first of several such corners is the upper right one.
    """
    if not labels:
        return None
    room = replace(room_of(ax), bar=True)
    share = np.array(_legend_size(room, labels)) / room.inside
    return min((Corner(name, share) for name in CORNERS), key=lambda corner: corner.covers(marks, np.zeros(2)).sum())


def _legend_size(room: Room, labels: Sequence[str]) -> tuple[float, float]:
    """About the width and height of a legend of ``labels`` in axes with ``room``, in points."""
    texts, size = fitted_labels(room, labels)
    line = FontProperties(size=size).get_size_in_points()
    lines = [each for text in texts for each in text.split("\n")]
    width = max(text_width(each, size) for each in lines) + 5 * line
    return width, (1.3 * len(lines) + 0.4 * len(texts) + 2) * line
