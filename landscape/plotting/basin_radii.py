"""The loss along random lines, and the radius within which all of them stay low."""

import numpy as np
from matplotlib.axes import Axes
from typing_extensions import Unpack

from landscape.checks import check_type
from landscape.plotting.axes import draw_legend
from landscape.plotting.lines import plot_lines
from landscape.plotting.looks import CurveLook, look_of
from landscape.plotting.palette import VERMILLION
from landscape.plotting.sizes import scaled
from landscape.results import BasinRadii

__all__ = ["plot_basin_radii"]


def plot_basin_radii(basin: BasinRadii, ax: Axes | None = None, **look: Unpack[CurveLook]) -> Axes:
    """All lines with their mean and spread, the level L(0) + rise, and the radii: a tick for each at the level.

    The shaded range is that of `BasinRadii.radius`; its legend says how many of the directions stay inside, and the
    share of all random directions that does so at least (Clopper and Pearson, one-sided, 95 %). The ``look`` has
    ``title``, ``vmin``, ``vmax`` and ``star``, see `CurveLook`.
    """
    check_type(basin, BasinRadii, "plot_basin_radii(basin)", "the result of ll.basin_radii(objective, model)")
    look_of("plot_basin_radii", CurveLook, look)  # refused under this name
    ax = plot_lines(basin.lines, ax, **look)
    radii, radius, base = basin.radii, basin.radius, float(basin.loss[0, basin.alphas == 0][0])
    share, inside = basin.share_inside(radius), basin.inside(radius)
    ax.axhline(
        base + basin.rise, color=VERMILLION, linewidth=scaled(1), linestyle="--",
        label=f"{basin.rise:g} above the centre",
    )  # fmt: skip
    ax.axvspan(
        -radius, radius, color=VERMILLION, alpha=0.1, linewidth=0, zorder=0.4,
        label=f"radius {radius:.3g}: {inside} of {len(basin)} stay below;\nof all, at least {share:.1%} (95 %)",
    )  # fmt: skip
    finite = radii[np.isfinite(radii)]
    ax.plot(
        finite,
        np.full(len(finite), base + basin.rise),
        linestyle="none",
        marker="|",
        color=VERMILLION,
        markersize=scaled(9),
    )
    draw_legend(ax)
    return ax
