"""The figures of a study that exist, as reports show them."""

import os
from collections.abc import Sequence
from pathlib import Path

from landscape.studies.kit.blocks import Block, Heading, Images
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

    def images(self, title: str, place: str, names: Sequence[str]) -> Images:
        """The figures ``names`` in the folder ``place``."""
        return Images([(f"{title}: {Path(link).stem}", link) for link in self.to(place, names)])

    def first_figures(self, groups: Sequence[Group]) -> list[Block]:
        """The figures of the first seed of each group, with headings."""
        blocks: list[Block] = []
        for group in groups:
            first = group.runs[0][0]
            title = f"{group.name}, seed {first['seed']}"
            blocks += [Heading(title, 3), self.images(title, first["place"], RUN_FIGURES)]
        return blocks
