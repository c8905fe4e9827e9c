"""A path of training, projected onto a plane."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from landscape.checks import check_type
from landscape.errors import InputError
from landscape.escaping import math_free
from landscape.presenting import range_text, sample_text, value_text
from landscape.results.archive import Archived
from landscape.results.surface import Surface
from landscape.storage.arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Trajectory", "check_same_plane", "trajectories_of"]


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory(Archived):
    """The points theta_t of a training run, and their shadows s_t, the orthogonal projections onto a plane.

    The points themselves lie off the plane, at a distance. A surface over the plane shows the loss at the shadows,
    which ``shadow_loss`` holds, and not the ``loss`` at the points.
    """

    called = "trajectory"
    forms: ClassVar = {
        "steps": Array("T", kinds="iu", increasing=True),
        "coordinates": Array("T 2"),
        "distance": Array("T", low=0),
        "relative_distance": Array("T", low=0, high=1 + 1e-6),  # up to rounding
        "loss": Array("T"),
        "shadow_loss": Array("T"),
    }

    steps: np.ndarray  # [T] int64, epoch or step of each point, increasing
    coordinates: np.ndarray  # [T, 2] float64, the shadow s_t in the coordinates of the plane
    distance: np.ndarray  # [T] float64, |theta_t - s_t|
    relative_distance: np.ndarray  # [T] float64 in [0, 1], |theta_t - s_t| / |theta_t - origin|, 0 at the origin
    loss: np.ndarray  # [T] float64, mean loss at theta_t; NaN if not computed
    shadow_loss: np.ndarray  # [T] float64, mean loss at s_t; NaN if not computed
    metadata: dict[str, Any]  # name, unit ("epoch" or "step"), explained_variance of the plane, slice, data

    @property
    def facts(self) -> dict[str, str]:
        unit = str(self.metadata.get("unit") or "step")
        return {
            "name": str(self.metadata.get("name") or ""),
            "points": f"{len(self.steps):,}",
            f"{unit}": f"{self.steps[0]} to {self.steps[-1]}" if len(self.steps) else "",
            "loss": range_text(self.loss),
            "last loss": value_text(self.loss[-1]) if len(self.loss) else "",
            "distance from the plane": range_text(self.distance),
            "of": sample_text(self.metadata),
        }

    def draw(self, ax: "Axes") -> None:
        ax.plot(self.steps, self.loss, label="at the point")
        ax.plot(self.steps, self.shadow_loss, linestyle="--", label="at its shadow on the plane")
        ax.set(xlabel=math_free(self.metadata.get("unit") or "step"), ylabel="loss")
        ax.legend(fontsize=8)

    @property
    def share_off_plane(self) -> np.ndarray:
        """Distance of each point from the plane [T], as a share of the largest distance of a point from the origin."""
        off = self.relative_distance > 0
        away = self.distance[off] / self.relative_distance[off]
        return self.distance / away.max() if away.size else self.distance


def trajectories_of(trajectories: Trajectory | Sequence[Trajectory]) -> list[Trajectory]:
    """One or more ``trajectories`` as a list.

    Raises:
        InputTypeError: They are something else.
    """
    what = "trajectories, as ll.project returns them"
    check_type(trajectories, Trajectory | Sequence, "a picture of paths", what)
    paths = [trajectories] if isinstance(trajectories, Trajectory) else list(trajectories)
    for path in paths:
        check_type(path, Trajectory, "a picture of paths", what)
    return paths


def check_same_plane(surface: Surface, trajectories: Sequence[Trajectory]) -> None:
    """Raise InputError if a trajectory was projected onto another plane than that of ``surface``."""
    fingerprint = (surface.metadata.get("slice") or {}).get("fingerprint")
    for path in trajectories:
        if (path.metadata.get("slice") or {}).get("fingerprint") != fingerprint:
            name = path.metadata.get("name") or "the trajectory"
            raise InputError(f"{name} was projected onto another plane than the surface's; project it onto that one")
