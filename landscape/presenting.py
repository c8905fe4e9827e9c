"""Display of objects: one line of facts where they are printed, a table with a picture in a notebook."""

from __future__ import annotations

import base64
import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from landscape.errors import InputError
from landscape.escaping import html_text, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Pictured", "Presented", "plural", "range_text", "sample_text", "text_table", "value_text"]

LINE = 180  # characters of the line, at most
PART = 80  # characters of one fact, at most
SIZE, DPI = (4.8, 3.6), 80  # size of pictures in a notebook, in inches, and dots per inch


class Presented(ABC):
    """Base class of objects that display their ``facts``."""

    @property
    @abstractmethod
    def facts(self) -> Mapping[str, str]:
        """The kind, size and main numbers of the object, name -> text, without whole arrays."""

    def __repr__(self) -> str:
        parts = (_shortened(f"{name} {text}", PART) for name, text in self.facts.items() if text)
        return f"{type(self).__name__}({_shortened(', '.join(parts), LINE)})"

    def _repr_html_(self) -> str:
        facts = [(html_text(name), html_text(text)) for name, text in self.facts.items() if text]
        rows = "".join(f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in facts)
        title = f"<strong>{html_text(type(self).__name__)}</strong>"
        return f"<div>{title}{self._picture_html()}<table>{rows}</table></div>"

    def _picture_html(self) -> str:
        return ""


class Pictured(Presented):
    """Base class of objects that can also be drawn."""

    @abstractmethod
    def draw(self, ax: Axes) -> None:
        """Draw the main picture of the object into ``ax``."""

    def _picture_html(self) -> str:
        """The picture as an image with embedded data; empty if the values cannot be drawn."""
        from landscape.plotting.backend import import_matplotlib  # only here: results are often used without pictures

        import_matplotlib()
        from matplotlib.figure import Figure

        figure = Figure(SIZE, layout="constrained")  # notebooks would show a figure of pyplot a second time
        try:
            self.draw(figure.add_subplot())
        except InputError:
            return ""
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI)
        source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        return f'<br><img alt="{html_text(type(self).__name__)}" src="{source}">'


def value_text(value: float, error: float | None = None) -> str:
    """``value`` to four digits, with its standard error if that is finite."""
    return f"{value:.4g}" + ("" if error is None or not np.isfinite(error) else f" ± {error:.2g}")


def range_text(values: np.ndarray) -> str:
    """The smallest and the largest finite value, as text."""
    finite = values[np.isfinite(values)]
    return f"{finite.min():.4g} to {finite.max():.4g}" if finite.size else "nowhere finite"


def sample_text(metadata: Mapping[str, object]) -> str:
    """Name, split and size of the data on which a result with this ``metadata`` was computed; empty if unknown."""
    data = metadata.get("data")
    if not isinstance(data, Mapping):
        return ""
    name = " ".join(str(data[key]) for key in ("name", "split") if data.get(key))
    size = f"{data['size']:,} samples" if isinstance(data.get("size"), int) else ""
    return ", ".join(filter(None, [name, size]))


def plural(count: int, what: str) -> str:
    """``count`` and ``what`` is counted, with an s unless there is one.

    Example:
        >>> plural(1, "name"), plural(0, "name"), plural(2_000, "name")
        ('1 name', '0 names', '2,000 names')
    """
    return f"{count:,} {what}{'s' * (count != 1)}"


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """The cells of ``rows`` in columns, as plain text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in padded)


def _shortened(text: str, length: int) -> str:
    text = one_line(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"
