"""Figures to files."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from landscape.errors import InputError
from landscape.storage.files import written_whole

__all__ = ["save_figure"]


def save_figure(figure: Figure | Axes, path: str | Path, dpi: int = 200) -> Path:
    """Write the figure (or that of an axes) to ``path``, whole or not at all; the suffix picks the format.

    A figure drawn and saved again gives the same bytes: no date is stored. The figure stays open and usable;
    one made by pyplot is freed with ``pyplot.close(figure)``.

    Raises:
        InputError: a suffix that matplotlib cannot write, or a path that cannot be written.
    """
    path = Path(path)
    drawn: Figure | SubFigure | Axes = figure
    while not isinstance(drawn, Figure):  # an axes, perhaps in a subfigure
        drawn = drawn.figure
    formats = drawn.canvas.get_supported_filetypes()
    suffix = path.suffix[1:].lower()
    if suffix not in formats:
        raise InputError(f"cannot write {path}: no figure format {path.suffix!r}; use .png, .pdf or .svg")
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(suffix)
    # Type 42 embeds TrueType outlines, which journals ask for; a fixed salt makes svg names repeatable.
    style: dict[Any, object] = {"pdf.fonttype": 42, "svg.hashsalt": "landscape"}
    with written_whole(path) as temporary, matplotlib.rc_context(style):
        drawn.savefig(temporary, dpi=dpi, metadata=undated)
    return path
