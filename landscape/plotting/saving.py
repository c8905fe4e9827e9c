"""Writing figures to files."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from landscape.checks import check_number, check_type
from landscape.errors import InputError
from landscape.plotting.axes import whole
from landscape.storage.files import written_whole

__all__ = ["save_figure"]


def save_figure(figure: Figure | SubFigure | Axes, path: str | Path, dpi: int = 200) -> Path:
    """Write a figure, or the figure of the axes, to ``path``; its suffix determines the format.

    The file is written completely or not at all. It holds no date, so that drawing and saving a figure again gives the
    same bytes. The figure stays open; ``pyplot.close(figure)`` frees one that belongs to pyplot.

    Raises:
        InputError: matplotlib cannot write files with this suffix, ``dpi`` is below 10, or ``path`` cannot be
            written.
    """
    check_type(figure, Figure | SubFigure | Axes, "save_figure(figure, path)", "a figure or axes of matplotlib")
    check_type(path, str | Path, "save_figure(figure, path)", "the path of a file")
    check_number("dpi", dpi, least=10)
    path = Path(path)
    drawn = whole(figure)
    formats = drawn.canvas.get_supported_filetypes()
    suffix = path.suffix[1:].lower()
    if suffix not in formats:
        raise InputError(f"cannot write {path}: no figure format {path.suffix!r}; use .png, .pdf or .svg")
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(suffix)
    # Journals require TrueType outlines, which type 42 embeds; a fixed salt makes the ids in an svg reproducible.
    style: dict[Any, object] = {"pdf.fonttype": 42, "svg.hashsalt": "landscape"}
    with written_whole(path) as temporary, matplotlib.rc_context(style):
        drawn.savefig(temporary, dpi=dpi, metadata=undated)
    return path
