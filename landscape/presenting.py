"""Objects that tell their main facts: in one line where they are printed, as a table with a picture in a notebook."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from landscape.errors import InputError
from landscape.escaping import html_text, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Presented", "range_text", "sample_text", "value_text"]

LINE = 180  # characters, at most
PART = 50  # of one fact
DPI = 80  # of pictures in a notebook


class Presented:
    """A base class whose subclasses say their ``facts``, and some of them ``draw`` a picture."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What it is, how large, and its main numbers: name -> text, never whole arrays."""
        raise NotImplementedError

    def draw(self) -> Figure | None:
        """A small figure; None for what has no picture."""
        return None

    def __repr__(self) -> str:
        parts = (_shortened(f"{name} {text}", PART) for name, text in self.facts.items() if text)
        return f"{type(self).__name__}({_shortened(', '.join(parts), LINE)})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html_text(name)}</th><td>{html_text(text)}</td></tr>" for name, text in self.facts.items() if text
        )
        name = html_text(type(self).__name__)
        return f"<div><strong>{name}</strong>{_picture_html(self, name)}<table>{rows}</table></div>"


def value_text(value: float, error: float | None = None) -> str:
    """``value`` to four digits, with its standard error where there is one."""
    return f"{value:.4g}" + ("" if error is None or not np.isfinite(error) else f" ± {error:.2g}")


def range_text(values: np.ndarray) -> str:
    """The smallest and the largest finite of ``values``."""
    finite = values[np.isfinite(values)]
    return f"{finite.min():.4g} to {finite.max():.4g}" if finite.size else "nowhere finite"


def sample_text(metadata: Mapping[str, object]) -> str:
    """Name, split and size of the data that a result with this ``metadata`` was computed on; empty if not known."""
    data = metadata.get("data")
    if not isinstance(data, Mapping):
        return ""
    name = " ".join(str(data[key]) for key in ("name", "split") if data.get(key))
    size = f"{data['size']:,} samples" if isinstance(data.get("size"), int) else ""
    return ", ".join(filter(None, [name, size]))


def _shortened(text: str, length: int) -> str:
    text = one_line(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _picture_html(subject: Presented, name: str) -> str:
    """The picture of ``subject`` as an image that holds its own bytes; nothing where it cannot be drawn."""
    try:
        figure = subject.draw()
    except InputError:
        figure = None
    if figure is None:
        return ""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return f'<br><img alt="{name}" src="{source}">'
