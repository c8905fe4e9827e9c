"""A path of training, seen from a plane."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landscape.errors import InputError
from landscape.results.archive import read_archive, write_archive
from landscape.results.surface import Surface

__all__ = ["Trajectory", "check_same_plane"]

FIELDS = ("steps", "coordinates", "distance", "relative_distance", "loss", "shadow_loss")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The points theta_t of a training run, projected onto a plane by least squares: theta_t -> s_t.

    A point lies off the plane by its distance, and the surface passes below it at its shadow s_t, not at the point
    itself: ``loss`` and ``shadow_loss`` differ by what the plane cannot show.
    """

    steps: np.ndarray  # [T] int64, epoch or step of each point, increasing
    coordinates: np.ndarray  # [T, 2] float64, the shadow s_t in the coordinates of the plane
    distance: np.ndarray  # [T] float64, |theta_t - s_t|
    relative_distance: np.ndarray  # [T] float64 in [0, 1], |theta_t - s_t| / |theta_t - origin|, 0 at the origin
    loss: np.ndarray  # [T] float64, mean loss at theta_t; NaN if not computed
    shadow_loss: np.ndarray  # [T] float64, mean loss at s_t; NaN if not computed
    metadata: dict  # name, unit ("epoch" or "step"), explained_variance of the plane, slice, data; JSON types only

    @property
    def share_off_plane(self) -> np.ndarray:
        """[T], distance of each point from the plane as a share of the largest distance of any from the origin."""
        off = self.relative_distance > 0
        away = self.distance[off] / self.relative_distance[off]
        return self.distance / away.max() if away.size else self.distance

    def save(self, path: str | Path) -> Path:
        """Write all fields to ``path`` (.npz, compressed, no pickle), whole or not at all."""
        return write_archive(path, self.metadata, {name: getattr(self, name) for name in FIELDS})

    @classmethod
    def load(cls, path: str | Path) -> "Trajectory":
        """Read what :meth:`save` wrote.

        Raises:
            InputError: the file is missing, damaged, or no trajectory.
        """
        metadata, arrays = read_archive(path, "trajectory", FIELDS)
        trajectory = cls(metadata=metadata, **arrays)
        count = len(trajectory.steps)
        expected = {name: (count, 2) if name == "coordinates" else (count,) for name in FIELDS}
        if found := [name for name in FIELDS if arrays[name].shape != expected[name]]:
            raise InputError(f"{path}: {found[0]} has shape {arrays[found[0]].shape}, not {expected[found[0]]}")
        return trajectory


def check_same_plane(surface: Surface, trajectories: Sequence[Trajectory]) -> None:
    """Raise InputError where a trajectory was projected onto another plane than that of ``surface``."""
    wanted = surface.metadata.get("slice", {}).get("fingerprint")
    for path in trajectories:
        if path.metadata.get("slice", {}).get("fingerprint") != wanted:
            name = path.metadata.get("name") or "the trajectory"
            raise InputError(f"{name} was projected onto another plane than the surface's; project it onto that one")
