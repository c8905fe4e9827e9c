"""Training trajectories on the contours of their plane, and their losses."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from landscape.checks import check_type
from landscape.errors import InputError
from landscape.escaping import legend_text, math_free
from landscape.plotting.axes import axes_or_new, dress_bar, label_axes, legend_entries, new_figure
from landscape.plotting.captions import axis_labels, off_plane_note, quantity_label, small_paths_note, title_of
from landscape.plotting.planes import check_style, draw_plane
from landscape.plotting.scales import color_scale, on_log_scale
from landscape.plotting.values import plane_values
from landscape.results import Surface, Trajectory
from landscape.results.trajectory import check_same_plane

__all__ = ["draw_paths", "path_canvas", "path_colors", "plot_path", "plot_path_losses", "several"]

COLORS = ("#E31A1C", "#FF7F00", "#FB9AC5", "#FFFFFF", "#7FDBFF", "#B15928", "#A6CEE3", "#000000")  # seen on viridis
NUMBERED = 5  # points of a path that are labelled with their step
DOTS = 80  # a path of at most so many points has a dot at each of them


def plot_path(
    surface: Surface,
    trajectories: Trajectory | Sequence[Trajectory],
    ax: Axes | None = None,
    *,
    levels: int = 30,
    log_scale: bool = False,
) -> Axes:
    """Draw the projections of one or more training runs onto their plane over filled contours of the loss.

    A diamond marks the start of every run, a square its end; some points are labelled with their step. The contours
    show the loss at the projection (the shadow) of a point, not at the point itself; so the title gives the largest
    distance of a point from the plane, as a share of its largest distance from the origin.

    Raises:
        InputError: there is no trajectory, one was projected onto another plane, or `plot_contour` would refuse the
            arguments.
    """
    trajectories = several(trajectories)
    ax = path_canvas(surface, trajectories, ax, levels=levels, log_scale=log_scale)
    draw_paths(ax, trajectories)
    ax.legend(handles=legend_entries(ax), loc="best", fontsize=8, framealpha=0.85, handlelength=1.4)
    return ax


def plot_path_losses(trajectories: Trajectory | Sequence[Trajectory], *, log_scale: bool = False) -> Figure:
    """Draw the loss at every point of a path and at its shadow on the plane, and below it the distance from the plane.

    That distance is a share of the extent of the path, the largest distance of its points from the origin. On a log
    scale, losses at or below 0 are drawn at the smallest positive one; a warning and the label say so.

    Raises:
        InputError: there is no trajectory.
    """
    trajectories = several(trajectories)
    losses = [values for path in trajectories for values in (path.loss, path.shadow_loss)]
    losses, log_scale, clipped = on_log_scale(losses, log_scale)
    figure = new_figure((5.6, 5.0))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    pairs = zip(losses[::2], losses[1::2], strict=True)  # at the points of a path, and at their shadows
    for path, color, (loss, shadow) in zip(trajectories, path_colors(trajectories, dark=False), pairs, strict=True):
        label = legend_text(f"{path.metadata.get('name')}: ") if len(trajectories) > 1 else ""
        upper.plot(path.steps, loss, color=color, label=f"{label}at the point")
        upper.plot(path.steps, shadow, color=color, linestyle="--", label=f"{label}at its shadow on the plane")
        lower.plot(path.steps, 100 * path.share_off_plane, color=color)
    if log_scale:
        upper.set_yscale("log")
    upper.legend(fontsize=8, framealpha=0.85)
    upper.set_ylabel("\n".join(filter(None, ["loss (log scale)" if log_scale else "loss", clipped])))
    lower.set(xlabel=math_free(trajectories[0].metadata.get("unit", "step")), ylabel="off the plane\n(% of extent)")
    lower.set_ylim(bottom=0)
    figure.align_ylabels()
    return figure


def path_canvas(
    surface: Surface, trajectories: Sequence[Trajectory], ax: Axes | None, *, levels: int, log_scale: bool
) -> Axes:
    """The filled contours beneath the paths of `plot_path` and `animate_path`."""
    check_same_plane(surface, trajectories)
    check_style("contour", levels)
    (values,), log_scale, clipped = on_log_scale([plane_values(surface, "loss")], log_scale)
    scale = color_scale([values], log_scale)
    ax = axes_or_new(ax, (5.8, 4.6))
    filled = draw_plane(ax, surface, values, scale, levels=levels, mark_origin=False)
    if filled is not None and scale is not None:
        dress_bar(ax.figure.colorbar(filled, ax=ax), scale, quantity_label(surface, "loss", log_scale, clipped))
    notes = [title_of(surface), off_plane_note(trajectories), small_paths_note(surface, trajectories)]
    label_axes(ax, "\n".join(filter(None, notes)), *axis_labels(surface))
    alphas, betas = surface.axes
    ax.set(xlim=alphas[[0, -1]], ylim=betas[[0, -1]])
    return ax


def draw_paths(ax: Axes, trajectories: Sequence[Trajectory]) -> None:
    """Draw the line, dots, start, end and some step numbers of every path."""
    halo = [withStroke(linewidth=3, foreground="0.15", alpha=0.6)]
    for path, color in zip(trajectories, path_colors(trajectories), strict=True):
        x, y = path.coordinates.T
        name = legend_text(path.metadata.get("name") or "path of training")
        dot = "." if len(x) <= DOTS else None
        ax.plot(x, y, color=color, linewidth=1.6, marker=dot, markersize=4, label=name, path_effects=halo, zorder=8)
        last = path is trajectories[-1]  # only its ends are labelled, so that the legend lists the paths first
        ends: tuple[dict[str, Any], ...] = {"marker": "D", "color": "#1A9850"}, {"marker": "s", "color": "#2166AC"}
        for at, style, label in zip((0, -1), ends, ("start", "end"), strict=True):
            ax.plot(
                x[at], y[at], linestyle="none", markersize=8, markeredgecolor="white", markeredgewidth=0.9, zorder=10,
                label=label if last else None, **style,
            )  # fmt: skip
    _number_steps(ax, trajectories[0])


def path_colors(trajectories: Sequence[Trajectory], *, dark: bool = True) -> list[str]:
    """One colour for each path, visible on the colours of a surface (``dark``) or on white."""
    colors = COLORS if dark else [color for color in COLORS if color not in ("#FFFFFF", "#7FDBFF", "#A6CEE3")]
    return [colors[k % len(colors)] for k in range(len(trajectories))]


def _number_steps(ax: Axes, path: Trajectory) -> None:
    """Label some points with their step; points too close to a labelled one are left out."""
    to_pixels = ax.transData.transform
    labelled: list[np.ndarray] = [to_pixels(path.coordinates[0]), to_pixels(path.coordinates[-1])]
    unit = math_free(path.metadata.get("unit", "step"))
    for t in np.linspace(0, len(path.steps) - 1, NUMBERED + 2).round().astype(int)[1:-1]:
        position = to_pixels(path.coordinates[t])
        if min(np.hypot(*(position - other)) for other in labelled) < 0.06 * ax.bbox.width:
            continue
        labelled.append(position)
        ax.annotate(
            f"{unit} {path.steps[t]}", path.coordinates[t], xytext=(5, 5), textcoords="offset points", fontsize=7,
            color="white", path_effects=[withStroke(linewidth=2, foreground="0.15")], zorder=11,
        )  # fmt: skip


def several(trajectories: Trajectory | Sequence[Trajectory]) -> list[Trajectory]:
    """One or more ``trajectories`` as a list.

    Raises:
        InputError: there is none.
    """
    check_type(trajectories, Trajectory | Sequence, "a picture of paths", "trajectories, as ll.project returns them")
    paths = [trajectories] if isinstance(trajectories, Trajectory) else list(trajectories)
    if not paths:
        raise InputError("there is no trajectory to draw")
    return paths
