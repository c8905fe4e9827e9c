"""A star on a 3-D surface that shows whether the surface hides it."""

import numpy as np
from matplotlib.backend_bases import RendererBase
from mpl_toolkits.mplot3d import Axes3D, proj3d
from mpl_toolkits.mplot3d.art3d import Line3D

__all__ = ["Star"]

NEAR = 1e-3  # of the depth of the surface: the cells that the star lies on are not before it


class Star(Line3D):  # type: ignore[misc]  # mpl_toolkits has no types
    """A marker at (0, 0, z), filled where the camera sees it, hollow where the surface x, y, z [A, B] hides it."""

    def __init__(self, z: float, x: np.ndarray, y: np.ndarray, heights: np.ndarray, **style: object):
        super().__init__([0], [0], [z], **style)
        self._place, self._surface = (0.0, 0.0, z), (x, y, heights)
        self._edge = self.get_markeredgecolor()

    def draw(self, renderer: RendererBase) -> None:
        self.show_from(self.axes)
        super().draw(renderer)

    def show_from(self, ax: Axes3D) -> bool:
        """Fill or empty the star as the camera of ``ax`` sees it; whether it is hidden."""
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
        quarters = [np.stack([values[i, j] for values in (x, y, z)]) for i in corners for j in corners]
        extent = np.nanmax(z) - np.nanmin(z)
        for triangle in ((quarters[0], quarters[1], quarters[2]), (quarters[3], quarters[1], quarters[2])):
            before = _depth_at(triangle, x0, y0)  # NaN outside the triangle
            if (before < depth - NEAR * extent).any():
                return True
        return False


def _projected(surface: tuple[np.ndarray, ...], projection: np.ndarray) -> tuple[np.ndarray, ...]:
    places: tuple[np.ndarray, ...] = proj3d.proj_transform(*(np.ravel(values) for values in surface), projection)
    return places


def _depth_at(triangle: tuple[np.ndarray, ...], x0: float, y0: float) -> np.ndarray:
    """The depth of every triangle (three corners [3, A, B] of x, y, z) at the place (x0, y0); NaN outside it."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = triangle
    with np.errstate(divide="ignore", invalid="ignore"):
        area = (by - cy) * (ax - cx) + (cx - bx) * (ay - cy)
        a = ((by - cy) * (x0 - cx) + (cx - bx) * (y0 - cy)) / area
        b = ((cy - ay) * (x0 - cx) + (ax - cx) * (y0 - cy)) / area
        inside = (a >= 0) & (b >= 0) & (a + b <= 1)
        return np.where(inside, a * az + b * bz + (1 - a - b) * cz, np.nan)
