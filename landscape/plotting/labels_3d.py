"""The size of three-dimensional axes, such that their labels stay inside the figure."""

import warnings

import numpy as np
from matplotlib.transforms import Bbox
from mpl_toolkits.mplot3d import Axes3D

from landscape.plotting.axes import whole
from landscape.plotting.room import cell_of

__all__ = ["fit_labels"]

ZOOM, LEAST = 0.95, 0.4  # largest and smallest size of the box of the axes, as a share of matplotlib's
INSIDE = 0.98  # share of the cell that labels may fill
TRIALS = 3


def fit_labels(ax: Axes3D) -> None:
    """Draw the box of ``ax`` as large as it can be while its labels stay in the cell of ``ax`` for the present camera.

    Layout engines do not reserve space for the labels of three-dimensional axes, whose places are known only once they
    are drawn. The surface is not drawn meanwhile.
    """
    artists = [artist for artist in (*ax.collections, *ax.lines) if artist.get_visible()]
    for artist in artists:
        artist.set_visible(False)
    zoom = ZOOM
    for _ in range(TRIALS):
        ax.set_box_aspect(None, zoom=zoom)
        with warnings.catch_warnings():  # labels of a box that is still too large may leave no space for other axes
            warnings.simplefilter("ignore")
            whole(ax.figure).draw_without_rendering()
        if (share := _share(ax)) >= 1:
            break
        zoom = max(LEAST, 0.99 * zoom * share)
    ax.set_box_aspect(None, zoom=zoom)
    for artist in artists:
        artist.set_visible(True)


def _share(ax: Axes3D) -> float:
    """The factor by which the labels, as they are drawn, would have to come nearer to the middle of ``ax``."""
    boxes = [axis.get_tightbbox() for axis in (ax.xaxis, ax.yaxis, ax.zaxis)]
    labels = Bbox.union([box for box in boxes if box is not None])
    cell = cell_of(ax)
    middle = np.array(((ax.bbox.x0 + ax.bbox.x1) / 2, (ax.bbox.y0 + ax.bbox.y1) / 2))
    reach = np.concatenate([middle - labels.min, labels.max - middle])
    room = np.concatenate([middle - cell.min, cell.max - middle]) * INSIDE
    return float((room / np.maximum(reach, 1)).min())
