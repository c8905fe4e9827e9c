"""The basins of a surface and the saddles between them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from landscape.presenting import sample_text, value_text
from landscape.results.archive import Archived
from landscape.results.standard_errors import DEVIATIONS, critical_value
from landscape.storage.arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Topology"]


@dataclass(frozen=True, eq=False, repr=False)
class Topology(Archived):
    """The merge tree of the sublevel sets {loss <= t} of a surface, with one row for each basin.

    A basin is born at its minimum, when t reaches the loss there, and dies at the saddle where it meets a basin with
    a lower minimum. Its persistence is the loss at the saddle minus the loss at the minimum. Basins are sorted by
    decreasing persistence; the first one is that of the lowest minimum, which never dies.
    """

    called = "topology"
    forms: ClassVar = {
        "alphas": Array("A", finite=True, increasing=True),
        "betas": Array("B", finite=True, increasing=True, optional=True),
        "loss": Array("A B"),
        "minima": Array("K D", kinds="iu", low=0),
        "births": Array("K", finite=True),
        "saddles": Array("K D", kinds="iu", low=-1),
        "deaths": Array("K"),
        "errors": Array("K", low=0),
        "parents": Array("K", kinds="iu", low=-1),
        "labels": Array("A B", kinds="iu", low=-1),
    }

    alphas: np.ndarray  # [A] float64, coordinates along the first direction
    betas: np.ndarray | None  # [B] float64, along the second direction; None for a line
    loss: np.ndarray  # [A, B] float64, loss of the surface; on a line all arrays lack the axis of length B
    minima: np.ndarray  # [K, D] int64, grid index of the minimum of each basin; D is 1 or 2
    births: np.ndarray  # [K] float64, loss at the minima
    saddles: np.ndarray  # [K, D] int64, grid index of the saddle where the basin ends; -1 if it never ends
    deaths: np.ndarray  # [K] float64, loss at the saddles; infinite if there is none
    errors: np.ndarray  # [K] float64, standard errors of deaths - births; NaN if unknown
    parents: np.ndarray  # [K] int64, the basin into which each one merges; -1 if it merges into none
    labels: np.ndarray  # [A, B] int64, the basin in which steepest descent from a point ends; -1 if not finite
    metadata: dict[str, Any]  # metadata of the surface, and "topology", the settings of the analysis; JSON types only

    @property
    def persistence(self) -> np.ndarray:
        """The persistence deaths - births [K], in units of the loss; infinite for a basin that never ends."""
        heights: np.ndarray = self.deaths - self.births
        return heights

    @property
    def critical(self) -> float:
        """The standard errors that a significant persistence exceeds: two, and more where the samples are few.

        The number of samples is that of the data in the metadata, and unlimited if these tell none. Source: Student's t
        at the level of two standard deviations of a normal distribution.
        """
        size = (self.metadata.get("data") or {}).get("size")
        return critical_value(size) if isinstance(size, int) else DEVIATIONS

    @property
    def significant(self) -> np.ndarray:
        """Mask [K] of the basins whose persistence exceeds ``critical`` standard errors, or has an unknown error."""
        with np.errstate(invalid="ignore"):
            mask: np.ndarray = ~(self.persistence <= self.critical * self.errors)
        return mask

    @property
    def significant_labels(self) -> np.ndarray:
        """``labels`` [A, B] with every basin within the noise counted as part of the one into which it merges."""
        significant, into = self.significant, np.arange(len(self.births) + 1)
        into[-1] = -1  # of points that are not finite
        for basin in range(len(self.births)):
            while not significant[into[basin]]:
                into[basin] = self.parents[into[basin]]
        labels: np.ndarray = into[self.labels]
        return labels

    @property
    def facts(self) -> dict[str, str]:
        basins = int(self.significant.sum())
        lesser = len(self.births) - basins
        ending = np.flatnonzero(self.significant & np.isfinite(self.deaths))
        deepest = value_text(self.persistence[ending[0]], self.errors[ending[0]]) if len(ending) else ""
        return {
            "points": " x ".join(map(str, self.loss.shape)),
            "basins": f"{basins:,}" + (f" and {lesser:,} within the noise" if lesser else ""),
            "lowest minimum": value_text(self.births.min()) if len(self.births) else "",
            "persistence of the second": deepest,
            "interpolated": "yes" if self.metadata.get("interpolation") else "",
            "of": sample_text(self.metadata),
        }

    def draw(self, ax: "Axes") -> None:
        from landscape.plotting import plot_topology  # here, because results are used without matplotlib as well

        plot_topology(self, ax)
