"""A star on a 3-D surface, drawn hollow if the surface hides it."""

import numpy as np
from matplotlib.backend_bases import RendererBase
from mpl_toolkits.mplot3d import Axes3D, proj3d
from mpl_toolkits.mplot3d.art3d import Line3D

__all__ = ["Star"]

NEAR = 1e-3  # share of the surface's depth: cells nearer to the star than this do not hide it


class Star(Line3D):  # type: ignore[misc]  # mpl_toolkits has no types
    """A marker at (0, 0, z), filled if the camera sees it, hollow if the surface x, y, heights [A, B] hides it."""

    def __init__(self, z: float, x: np.ndarray, y: np.ndarray, heights: np.ndarray, **style: object):
        super().__init__([0], [0], [z], **style)
        self._place, self._surface = (0.0, 0.0, z), (x, y, heights)
        self._edge = self.get_markeredgecolor()

    def draw(self, renderer: RendererBase) -> None:
        self.show_from(self.axes)
        super().draw(renderer)

    def show_from(self, ax: Axes3D) -> bool:
        """Make the star filled or hollow for the camera of ``ax``, and return whether it is hidden."""
        hidden = self.is_hidden(ax)
        self.set_markerfacecolor("none" if hidden else self.get_color())
        self.set_markeredgecolor(self.get_color() if hidden else self._edge)
        return hidden

    def is_hidden(self, ax: Axes3D) -> bool:
        """Whether any triangle of the surface lies between the star and the camera of ``ax``."""
        projection = ax.get_proj()
        (x0,), (y0,), (depth,) = (np.atleast_1d(value) for value in proj3d.proj_transform(*self._place, projection))
        x, y, z = (values.reshape(self._surface[0].shape) for values in _projected(self._surface, projection))
        corners = (slice(None, -1), slice(1, None))
        corner_points = [np.stack([values[i, j] for values in (x, y, z)]) for i in corners for j in corners]
        extent = np.nanmax(z) - np.nanmin(z)
        a, b, c, d = corner_points  # of every cell of the grid, which is drawn as two triangles
        triangles = ((a, b, c), (d, b, c))
        return any((_depth_at(triangle, x0, y0) < depth - NEAR * extent).any() for triangle in triangles)


def _projected(surface: tuple[np.ndarray, ...], projection: np.ndarray) -> tuple[np.ndarray, ...]:
    places: tuple[np.ndarray, ...] = proj3d.proj_transform(*(np.ravel(values) for values in surface), projection)
    return places


def _depth_at(triangle: tuple[np.ndarray, ...], x0: float, y0: float) -> np.ndarray:
    """The depth of every triangle (three corners [3, A, B] of x, y, z) at the position (x0, y0); NaN outside it."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = triangle
    with np.errstate(divide="ignore", invalid="ignore"):
        area = (by - cy) * (ax - cx) + (cx - bx) * (ay - cy)
        a = ((by - cy) * (x0 - cx) + (cx - bx) * (y0 - cy)) / area
        b = ((cy - ay) * (x0 - cx) + (ax - cx) * (y0 - cy)) / area
        inside = (a >= 0) & (b >= 0) & (a + b <= 1)
        return np.where(inside, a * az + b * bz + (1 - a - b) * cz, np.nan)
