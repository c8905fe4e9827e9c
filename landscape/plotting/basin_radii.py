"""The loss along random lines, and the radius within which all of them stay low."""

import numpy as np
from matplotlib.axes import Axes

from landscape.checks import check_type
from landscape.plotting.lines import plot_lines
from landscape.results import BasinRadii

__all__ = ["plot_basin_radii"]

COLOR = "#D55E00"  # vermillion of the colour-blind-safe set of Okabe and Ito


def plot_basin_radii(basin: BasinRadii, ax: Axes | None = None) -> Axes:
    """All lines with their mean and spread, the level L(0) + rise, and the radii: a tick for each at the level.

    The shaded range is that of `BasinRadii.radius`; its legend says how many of the directions stay inside, and the
    share of all random directions that does so at least (Clopper and Pearson, one-sided, 95 %).
    """
    check_type(basin, BasinRadii, "plot_basin_radii(basin)", "the result of ll.basin_radii(objective, model)")
    ax = plot_lines(basin.lines, ax)
    radii, radius, base = basin.radii, basin.radius, float(basin.loss[0, basin.alphas == 0][0])
    share, inside = basin.share_inside(radius), basin.inside(radius)
    ax.axhline(
        base + basin.rise, color=COLOR, linewidth=1, linestyle="--", label=f"{basin.rise:g} above the centre"
    )  # fmt: skip
    ax.axvspan(
        -radius, radius, color=COLOR, alpha=0.1, linewidth=0, zorder=0.4,
        label=f"radius {radius:.3g}: {inside} of {len(basin)} stay below;\nof all, at least {share:.1%} (95 %)",
    )  # fmt: skip
    finite = radii[np.isfinite(radii)]
    ax.plot(finite, np.full(len(finite), base + basin.rise), linestyle="none", marker="|", color=COLOR, markersize=9)
    ax.legend(fontsize=8, framealpha=0.85)
    return ax
