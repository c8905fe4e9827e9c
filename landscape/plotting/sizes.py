"""Sizes and tones that follow matplotlib's settings, so that one setting changes all figures."""

from typing import Any

import matplotlib
from matplotlib.colors import to_hex, to_rgb

__all__ = ["figure_size", "ink", "is_set", "scaled", "setting", "text_size"]

USUAL = 10.0  # font.size of matplotlib, for which the sizes in the code are meant


def scaled(points: float) -> float:
    """``points`` of a line, a marker or a text, in proportion to the font size of matplotlib's settings."""
    return points * float(setting("font.size")) / USUAL


def text_size(points: float, name: str) -> float | str:
    """The size of a text: that of the setting ``name``, such as "axes.titlesize", if set, else ``points``, `scaled`."""
    size: float | str = setting(name) if is_set(name) else scaled(points)
    return size


def figure_size(usual: tuple[float, float]) -> tuple[float, float]:
    """Width and height of a new figure in inches: those of matplotlib's settings if they are set, else the usual."""
    width, height = setting("figure.figsize") if is_set("figure.figsize") else usual
    return float(width), float(height)


def ink(share: float) -> str:
    """A tone between the background (0) and the text (1), such as a grey on white, or one on black."""
    text, background = (to_rgb(setting(name)) for name in ("text.color", "axes.facecolor"))
    red, green, blue = (share * a + (1 - share) * b for a, b in zip(text, background, strict=True))
    return to_hex((red, green, blue))


def is_set(name: str) -> bool:
    """Whether the setting ``name`` of matplotlib differs from its default."""
    defaults: Any = matplotlib.rcParamsDefault  # whose type knows the names of the newest version only
    return bool(setting(name) != defaults[name])


def setting(name: str) -> Any:
    """The value of a setting of matplotlib."""
    settings: Any = matplotlib.rcParams
    return settings[name]
