"""Texts that fit the room of their axes: wrapped, or a shorter one where there is little."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.gridspec import GridSpec
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Bbox

from landscape.escaping import printable
from landscape.plotting.sizes import scaled, setting

__all__ = ["Room", "cell_of", "fits", "room_of", "text_width", "wrapped"]

NARROW = 34  # times the font size: axes with less room have short titles
LEFT, RIGHT, BAR, ABOVE, BELOW = 46.0, 8.0, 55.0, 46.0, 36.0  # points that labels and ticks take, at a font of 10
BAR_SHARE = 0.1  # of the width that a colour bar takes beside its labels


@dataclass(frozen=True)
class Room:
    """The part of a figure that belongs to axes with their labels, in points."""

    width: float
    height: float
    bar: bool  # whether a colour bar stands in it, at the right

    @property
    def narrow(self) -> bool:
        """Whether only short texts have a place."""
        return self.width < scaled(10 * NARROW)

    @property
    def inside(self) -> tuple[float, float]:
        """About the width and height of the frame."""
        left, right = self._sides
        return max(1.0, self.width - left - right), max(1.0, self.height - scaled(ABOVE + BELOW))

    @property
    def across(self) -> float:
        """The longest horizontal text that is centred at the frame."""
        return self.inside[0] + 2 * min(self._sides) - scaled(24)

    @property
    def along(self) -> float:
        """The longest vertical text that is centred at the frame."""
        return self.inside[1] + scaled(2 * BELOW - 6)

    @property
    def _sides(self) -> tuple[float, float]:
        return scaled(LEFT), (BAR_SHARE * self.width + scaled(BAR) if self.bar else scaled(RIGHT))


def cell_of(ax: Axes) -> Bbox:
    """The cell of ``ax`` in the grid of their figure, in pixels; the whole figure for axes that are in none."""
    whole, spec = ax.figure.bbox, ax.get_subplotspec()
    grid = None if spec is None else spec.get_gridspec()
    if spec is None or not isinstance(grid, GridSpec):
        return Bbox(whole.get_points())
    widths, heights = (_ratios(values) for values in (grid.get_width_ratios(), grid.get_height_ratios()))
    (left, right), (top, bottom) = (
        np.cumsum([0, *ratios])[[span.start, span.stop]] / sum(ratios)
        for ratios, span in ((widths, spec.colspan), (heights, spec.rowspan))
    )
    return Bbox.from_extents(
        whole.x0 + left * whole.width, whole.y1 - bottom * whole.height,
        whole.x0 + right * whole.width, whole.y1 - top * whole.height,
    )  # fmt: skip


def _ratios(values: Any) -> list[float]:  # which has no useful type in matplotlib
    return [float(ratio) for ratio in values]


def room_of(ax: Axes) -> Room:
    """The room of ``ax``: their cell in the grid of their figure, or, for axes placed by hand, the frame itself."""
    bar = any(getattr(artist, "colorbar", None) is not None for artist in ax.collections)
    points, spec = 72 / ax.figure.dpi, ax.get_subplotspec()
    if spec is None or not isinstance(spec.get_gridspec(), GridSpec):  # placed by hand, or in a grid inside a grid
        frame, figure = ax.get_position(original=True), ax.figure.bbox
        width, height = points * figure.width * frame.width, points * figure.height * frame.height
        return Room(width + scaled(LEFT + RIGHT), height + scaled(ABOVE + BELOW), bar)
    cell = cell_of(ax)
    return Room(points * cell.width, points * cell.height, bar)


def text_width(text: str, size: float | str) -> float:
    """The width of one line of ``text`` in the default font of ``size``, in points."""
    return _width(text, FontProperties(size=size), *map(tuple, (setting("font.family"), setting("font.sans-serif"))))


@lru_cache(maxsize=4096)  # wrapping asks for the widths of the same words again and again
def _width(text: str, font: FontProperties, *families: tuple[str, ...]) -> float:
    """The width of a line in ``font``, whose families have the names ``families`` in matplotlib's settings."""
    width: float = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]
    return width


def fits(text: str, width: float, size: float | str) -> bool:
    """Whether every line of ``text`` has at most ``width`` points in the default font of ``size``."""
    return all(text_width(line, size) <= width for line in text.split("\n"))


def wrapped(text: str, width: float, size: float | str, most: int = 3) -> str:
    """``text`` in at most ``most`` lines of ``width`` points, in the default font of ``size`` points.

    Lines are shorter where a single word would otherwise be the last one; they then end with commas if they can.
    """

    def fit(line: str) -> bool:
        return fits(line.rstrip(), width, size)

    pieces = _pieces(printable(text), fit)
    lines = _filled(pieces, width, size)
    if len(lines) > 1 and " " not in lines[-1].strip():
        lines = _balanced(pieces, width, size, lines)
    if len(lines) > most:
        last = lines[most - 1].rstrip()
        while last and not fit(last + "…"):
            last = last[:-1]
        lines[most - 1 :] = [last + "…"]
    return "\n".join(line.rstrip() for line in lines)


def _balanced(pieces: list[str], width: float, size: float | str, lines: list[str]) -> list[str]:
    """As many lines of ``pieces`` as ``lines``, but shorter ones, of which the last one is no single word."""
    narrower = [_filled(pieces, percent / 100 * width, size) for percent in range(95, 55, -5)]
    better = [each for each in narrower if len(each) == len(lines) and " " in each[-1].strip()]
    at_commas = [each for each in better if all(line.rstrip().endswith(",") for line in each[:-1])]
    return (at_commas or better or [lines])[0]


def _filled(pieces: list[str], width: float, size: float | str) -> list[str]:
    """Lines of ``pieces``, each as long as ``width`` points allow."""
    lines = [""]
    for piece in pieces:
        if lines[-1] and not fits((lines[-1] + piece).rstrip(), width, size):
            lines.append("")
        lines[-1] += piece
    return lines


def _pieces(text: str, fit: Callable[[str], bool], breaks: tuple[str, ...] = (" ", "[,/_-]", ".")) -> list[str]:
    """``text`` cut after blanks; words that do not fit are also cut after punctuation and, at last, anywhere."""
    pieces: list[str] = []
    for piece in re.split(f"(?<={breaks[0]})", text):
        pieces += [piece] if fit(piece) or not breaks[1:] else _pieces(piece, fit, breaks[1:])
    return pieces
