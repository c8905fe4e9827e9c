"""The files of the figures that scripts draw: their formats, resolution, style and colours."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.checks import check_count, check_distinct
from landscape.cli.messages import wrote
from landscape.errors import InputError
from landscape.plotting import save_figure
from landscape.plotting.looks import Look

__all__ = ["FigureFiles"]

SHOWN = ("png", "svg")  # formats that pages and reports can show
MOST_DPI = 1200


@dataclass(frozen=True)
class FigureFiles:
    """The files of the figures."""

    format: tuple[Literal["png", "pdf", "svg"], ...] = ("png",)
    """Formats of every figure, one or several of png, pdf and svg."""
    dpi: int = 200
    """Dots per inch of a png."""
    figure_style: Literal["default", "paper", "slide"] = "default"
    """paper: a column of 3.3 inches with small type and short labels. slide: 16:9 with large type."""
    cmap: str = "viridis"
    """Colour map of matplotlib, such as viridis, magma, cividis or gray."""

    def check(self) -> None:
        """Raise InputError for a format that is missing or named twice, and for an unknown colour map."""
        if not self.format:
            raise InputError("format names no format; give one or several of png, pdf, svg")
        check_distinct("format", self.format)
        check_count("dpi", self.dpi, least=10, most=MOST_DPI)
        Look(cmap=self.cmap).check()

    @contextmanager
    def styled(self) -> Iterator[None]:
        """Draw the figures inside in the style and the colours of these settings."""
        named = [] if self.figure_style == "default" else [f"landscape.plotting.{self.figure_style}"]
        with style.context([*named, {"image.cmap": self.cmap}]):
            yield

    def save(self, drawn: Figure | Axes, path: Path) -> Path:
        """Write a figure in every format to ``path``, to which its ending is added; return a file that pages show."""
        files = self.write(drawn, path)
        for file in files:
            wrote(file)
        return next((file for file in files if file.suffix[1:] in SHOWN), files[0])

    def write(self, drawn: Figure | Axes, path: Path) -> list[Path]:
        """The files of a figure in every format, written to ``path``, to which their endings are added."""
        return [save_figure(drawn, path.with_name(f"{path.name}.{ending}"), dpi=self.dpi) for ending in self.format]

    def draw(self, path: Path, plot: Callable[..., Figure | Axes], *arguments: Any, **options: Any) -> Path:
        """Call ``plot`` with the ``arguments`` and ``options`` in the style, and `save` what it draws."""
        with self.styled():
            return self.save(plot(*arguments, **options), path)
