"""The basins of several surfaces with the same axes, such as those of the checkpoints of a training run."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from landscape.presenting import sample_text, value_text
from landscape.results.archive import Archived
from landscape.storage.arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BasinHistory"]


@dataclass(frozen=True, eq=False, repr=False)
class BasinHistory(Archived):
    """Significant basins, each followed from one surface to the next; one column for each basin.

    Two basins of successive surfaces are the same one if each contains the minimum of the other. What a surface does
    not have is NaN. Basins are in the order in which they appear, and of decreasing persistence there.
    """

    called = "history of basins"
    forms: ClassVar = {
        "alphas": Array("A", finite=True, increasing=True),
        "betas": Array("B", finite=True, increasing=True, optional=True),
        "minima": Array("S K D"),
        "births": Array("S K"),
        "deaths": Array("S K"),
        "errors": Array("S K", low=0),
        "origins": Array("K", kinds="iu", low=-1),
        "fates": Array("K", kinds="iu", low=-1),
        "gaps": Array("S", kinds="iu", low=0),
        "interpolated": Array("S", low=0, high=1),
    }

    alphas: np.ndarray  # [A] float64, coordinates along the first direction
    betas: np.ndarray | None  # [B] float64, along the second direction; None for lines
    minima: np.ndarray  # [S, K, D] float64, coordinates of the minimum of each basin; D is 1 or 2
    births: np.ndarray  # [S, K] float64, loss at the minima
    deaths: np.ndarray  # [S, K] float64, loss at the saddles; infinite for a basin that never ends in its surface
    errors: np.ndarray  # [S, K] float64, standard errors of deaths - births; NaN if unknown
    origins: (
        np.ndarray
    )  # [K] int64, the basin in which each one appeared; -1 if none: on the first surface, or in a gap
    fates: np.ndarray  # [K] int64, the basin that took its place; -1 if none: on the last surface, in a gap
    gaps: np.ndarray  # [S] int64, number of points of each surface whose loss is NaN or infinite
    interpolated: np.ndarray  # [S] float64, share of the points of each surface that are interpolated
    metadata: dict[str, Any]  # names of the surfaces, neighbours, data and slice of the last surface; JSON types only

    @property
    def axes(self) -> tuple[np.ndarray, ...]:
        """The coordinate vectors of the surfaces: one for lines, two for planes."""
        return (self.alphas,) if self.betas is None else (self.alphas, self.betas)

    @property
    def names(self) -> list[str]:
        """The names of the surfaces."""
        return list(self.metadata["names"])

    @property
    def present(self) -> np.ndarray:
        """Mask [S, K]: which surface has which basin."""
        mask: np.ndarray = np.isfinite(self.births)
        return mask

    @property
    def persistence(self) -> np.ndarray:
        """deaths - births [S, K], in units of the loss; infinite for a basin that never ends."""
        heights: np.ndarray = self.deaths - self.births
        return heights

    @property
    def first(self) -> np.ndarray:
        """Index [K] of the first surface that has each basin."""
        index: np.ndarray = self.present.argmax(0)
        return index

    @property
    def last(self) -> np.ndarray:
        """Index [K] of the last surface that has each basin."""
        index: np.ndarray = len(self.gaps) - 1 - self.present[::-1].argmax(0)
        return index

    @property
    def events(self) -> list[str]:
        """What happens to the basins, one line for each that appears or ends on the way."""
        lines = []
        for basin, (first, last) in enumerate(zip(self.first, self.last, strict=True)):
            parts = []
            if first > 0:
                where = f"in basin {self.origins[basin]}" if self.origins[basin] >= 0 else "where there was a gap"
                parts.append(f"appears {where} at {self.names[first]}, {self._depth(first, basin)}")
            if last < len(self.gaps) - 1:
                into = f"becomes part of basin {self.fates[basin]}" if self.fates[basin] >= 0 else "ends in a gap"
                parts.append(f"{into} at {self.names[last + 1]}")
            if parts:
                lines.append(f"basin {basin} {' and '.join(parts)}")
        return lines

    @property
    def facts(self) -> dict[str, str]:
        partly = [name for name, share in zip(self.names, self.interpolated, strict=True) if share > 0]
        holes = [name for name, count in zip(self.names, self.gaps, strict=True) if count]
        return {
            "surfaces": f"{len(self.gaps)}",
            "basins": ", ".join(f"{count}" for count in self.present.sum(1)),
            "appear": f"{int((self.first > 0).sum())}",
            "end": f"{int((self.last < len(self.gaps) - 1).sum())}",
            "interpolated": ", ".join(partly),
            "with gaps": ", ".join(holes),
            "of": sample_text(self.metadata),
        }

    def draw(self, ax: "Axes") -> None:
        from landscape.plotting import plot_topology  # here, because results are used without matplotlib as well

        plot_topology(self, ax)

    def mismatch(self) -> str | None:
        names = self.metadata.get("names")
        if not isinstance(names, list) or len(names) != len(self.gaps) or not all(isinstance(n, str) for n in names):
            return f"it has {len(self.gaps)} surfaces, but their names are {names!r}"[:200]
        if not self.present.any(0).all():
            return "one of its basins is on no surface"
        return None

    def _depth(self, surface: int, basin: int) -> str:
        depth = self.persistence[surface, basin]
        if not np.isfinite(depth):
            return "without end"
        return f"{value_text(depth, self.errors[surface, basin])} deep"
