"""Links from reports to the figures that exist."""

import os
from collections.abc import Sequence
from pathlib import Path

from landscape.escaping import markdown_text
from landscape.studies.kit.tables import image
from landscape.studies.matrix.tables import Group

__all__ = ["GROUP_FIGURES", "RUN_FIGURES", "Links"]

RUN_FIGURES = ("interpolation.png", "slices.png", "curvature.png")
GROUP_FIGURES = ("connectivity/connectivity.png", "pca/pca.png")


class Links:
    """Relative links from the folder ``reports`` to the files below ``figures`` that exist."""

    def __init__(self, figures: Path, reports: Path):
        self.figures, self.reports = figures, reports

    def to(self, place: str, names: Sequence[str]) -> list[str]:
        """Links to those of the figures ``names`` in the folder ``place`` that exist."""
        paths = [self.figures / place / name for name in names]
        return [Path(os.path.relpath(path, self.reports)).as_posix() for path in paths if path.is_file()]

    def images(self, title: str, place: str, names: Sequence[str]) -> str:
        """The figures ``names`` in the folder ``place``, as Markdown images."""
        return "\n".join(image(f"{title}: {Path(link).stem}", link) for link in self.to(place, names))

    def first_figures(self, groups: Sequence[Group]) -> str:
        """The figures of the first seed of each group, as Markdown with headings."""
        blocks = []
        for group in groups:
            first = group.runs[0][0]
            title = f"{group.name}, seed {first['seed']}"
            blocks.append(f"### {markdown_text(title)}\n\n" + self.images(title, first["place"], RUN_FIGURES))
        return "\n\n".join(blocks)
