"""The options of looks that figures share: colours, limits, title, star and camera."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import matplotlib
import numpy as np
from matplotlib.colors import Colormap

from landscape.checks import MOST_LEVELS, check_count, check_flag, check_text, is_number, is_whole
from landscape.errors import InputError, InputTypeError

__all__ = ["BasinsLook", "CurveLook", "Look", "PlaneLook", "SurfaceLook", "TitleLook", "ValueLook", "look_of"]


class TitleLook(TypedDict, total=False):
    """The look that every figure has."""

    title: str | None  # in place of the one composed of what the result is of; "" for none


class ValueLook(TitleLook, total=False):
    """The look of numbers along an axis."""

    vmin: float | None  # lower end of the axis of the values; None: that of matplotlib
    vmax: float | None  # upper end of that axis


class CurveLook(ValueLook, total=False):
    """The look of the loss along lines."""

    star: bool  # whether stars mark the networks


class BasinsLook(TitleLook, total=False):
    """The look of planes in colours, without a star."""

    cmap: str | Colormap | None  # a colour map of matplotlib, or its name; None: that of matplotlib's settings, viridis
    levels: int | Sequence[float]  # the number of bands of colour, or their edges, in increasing order
    vmin: float | None  # lower end of the colours; None: the first of several edges, or the smallest finite value
    vmax: float | None  # upper end of the colours


class PlaneLook(BasinsLook, total=False):
    """The look of planes in colours."""

    star: bool  # whether a star marks the network


class SurfaceLook(TitleLook, total=False):
    """The look of planes in three dimensions."""

    cmap: str | Colormap | None  # as in `PlaneLook`
    vmin: float | None  # lower end of the colours and of the vertical axis; None: the smallest finite value
    vmax: float | None  # upper end of both
    star: bool  # whether a star marks the network
    view: tuple[float, float]  # elevation and azimuth of the camera, in degrees


@dataclass(frozen=True)
class Look:
    """The look of any figure, with the values of options that were left out."""

    title: str | None = None
    cmap: str | Colormap | None = None
    levels: int | Sequence[float] = 30
    vmin: float | None = None
    vmax: float | None = None
    star: bool = True
    view: tuple[float, float] = (38, -55)

    def __post_init__(self) -> None:
        if is_whole(self.levels):  # also one of numpy
            object.__setattr__(self, "levels", int(self.levels))

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """The ends of the values, as far as they are given, or the outer ones of several levels."""
        first, last = (None, None) if isinstance(self.levels, int) else (self.levels[0], self.levels[-1])
        return first if self.vmin is None else self.vmin, last if self.vmax is None else self.vmax

    @property
    def colormap(self) -> str | Colormap:
        """The colour map; without one that of matplotlib's settings, which is viridis unless they are changed."""
        return str(matplotlib.rcParams["image.cmap"]) if self.cmap is None else self.cmap

    def check(self) -> None:
        """Raise InputError for an unknown colour map, and for other options that cannot be drawn."""
        check_text("title", self.title)
        check_flag("star", self.star)
        if isinstance(self.cmap, str) and self.cmap not in matplotlib.colormaps:
            near = difflib.get_close_matches(self.cmap, list(matplotlib.colormaps), 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "use one such as viridis, magma, cividis or gray"
            raise InputError(f"unknown colour map {self.cmap!r}; {hint}")
        if not isinstance(self.cmap, str | Colormap | None):
            raise InputTypeError(f"cmap takes the name of a colour map or a Colormap, not {type(self.cmap).__name__}")
        check_levels(self.levels)
        for name, limit in (("vmin", self.vmin), ("vmax", self.vmax)):
            if limit is not None and not _is_finite(limit):
                raise InputError(f"{name} is {limit!r}; it must be a finite number, or None")
        if not isinstance(self.view, Sequence) or len(self.view) != 2 or not all(map(_is_finite, self.view)):
            raise InputError(f"view is {self.view!r}; it must be two angles in degrees, (elevation, azimuth)")


def look_of(function: str, kind: type, options: Mapping[str, Any], log_scale: bool = False) -> Look:
    """The look that the ``options`` of ``function`` describe, each of which must be one of ``kind``.

    Raises:
        InputError: there is no such option, or its value cannot be drawn.
    """
    known = tuple(kind.__annotations__)
    if others := [name for name in options if name not in known]:
        raise InputTypeError(f"{function} has no option {others[0]!r}; its figures take {', '.join(known)}")
    check_flag("log_scale", log_scale)
    look = Look(**options)
    look.check()
    low, high = look.limits
    if (log_scale and low is not None and low <= 0) or (low is not None and high is not None and low >= high):
        ends = " to ".join(f"{n}={x:g}" for n, x in (("vmin", low), ("vmax", high)) if x is not None)
        raise InputError(f"values cannot run from {ends}{' on a log scale' if log_scale else ''}")
    return look


def check_levels(levels: int | Sequence[float]) -> None:
    """Raise InputError unless ``levels`` is a number of bands, or the edges of bands in increasing order."""
    if isinstance(levels, int | np.integer):
        if levels < 2:
            raise InputError(f"a contour figure needs at least 2 levels, not {levels}")
        check_count("levels", levels, most=MOST_LEVELS)
        return
    try:
        edges = np.asarray(levels)
    except ValueError:  # of a ragged list
        edges = np.empty(0)
    numbers = edges.dtype.kind in "iuf" and edges.ndim == 1
    if not numbers or len(edges) < 2 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise InputError(f"levels is {levels!r}; it must be their number, or two or more values in increasing order")


def _is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)
