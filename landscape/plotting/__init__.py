"""Figures of results with matplotlib; drawing functions write no files and need no torch."""

from landscape.plotting import backend  # noqa: F401 (before anything else imports matplotlib)
from landscape.plotting.backend import import_matplotlib

import_matplotlib()  # before the modules below import it

# ruff: noqa: E402
from landscape.plotting.animation import animate
from landscape.plotting.barriers import plot_barriers
from landscape.plotting.basin_radii import plot_basin_radii
from landscape.plotting.comparison import plot_comparison, plot_difference, plot_spread
from landscape.plotting.curvature import plot_spectrum
from landscape.plotting.film import animation_formats
from landscape.plotting.grids import plot_panels
from landscape.plotting.histories import plot_histories
from landscape.plotting.lines import plot_lines
from landscape.plotting.paths import plot_path, plot_path_losses
from landscape.plotting.planes import plot_contour
from landscape.plotting.rows import plot_rows
from landscape.plotting.saving import save_figure
from landscape.plotting.scales import shared_colors, shared_limits
from landscape.plotting.sharpness import plot_sharpness
from landscape.plotting.slices import plot_slices
from landscape.plotting.smoothing import smooth
from landscape.plotting.surfaces import plot_surface
from landscape.plotting.tiles import plot_tiles
from landscape.plotting.topology import plot_topology

__all__ = [
    "animate",
    "animation_formats",
    "plot_barriers",
    "plot_basin_radii",
    "plot_comparison",
    "plot_contour",
    "plot_difference",
    "plot_histories",
    "plot_lines",
    "plot_panels",
    "plot_path",
    "plot_path_losses",
    "plot_rows",
    "plot_sharpness",
    "plot_slices",
    "plot_spectrum",
    "plot_spread",
    "plot_surface",
    "plot_tiles",
    "plot_topology",
    "save_figure",
    "shared_colors",
    "shared_limits",
    "smooth",
]
