"""Training trajectories on the contours of their plane, and their losses."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from typing_extensions import Unpack

from landscape.checks import check_type
from landscape.errors import InputError
from landscape.escaping import legend_text, math_free
from landscape.plotting.axes import (
    axes_or_new,
    draw_legend,
    draw_legend_below,
    dress_bar,
    figure_or_new,
    label_axes,
    label_slice,
    limit_values,
    whole,
)
from landscape.plotting.bands import Numbers
from landscape.plotting.captions import common_title, off_plane_note, quantity_label, small_paths_note
from landscape.plotting.legends import free_corner, legend_entries, plane_frame
from landscape.plotting.looks import Look, PlaneLook, ValueLook, look_of
from landscape.plotting.planes import draw_plane
from landscape.plotting.room import room_of, text_width
from landscape.plotting.scales import color_scale, on_log_scale
from landscape.plotting.sizes import ink, is_set, scaled
from landscape.plotting.values import plane_values
from landscape.results import Surface, Trajectory
from landscape.results.trajectory import check_same_plane, trajectories_of

__all__ = ["draw_paths", "path_canvas", "path_colors", "plot_path", "plot_path_losses", "several"]

COLORS = ("#E31A1C", "#FF7F00", "#F06BAE", "#29B6F6", "#B15928", "#A0A0A0")  # seen on viridis and on white
NUMBERED = 5  # points of a path that are labelled with their step
LEAST_OFF = 0.01  # per cent, the least upper end of the axis of distances: what is far below it is rounding
ENDS: dict[str, dict[str, Any]] = {
    "start": {"marker": "D", "color": "#1A9850"},
    "end": {"marker": "s", "color": "#2166AC"},
}
MARKED = 200  # points of a path, of which as many determine where the legend and the numbers of contours stand
DOTS = 80  # a path of at most so many points has a dot at each of them


def plot_path(
    surface: Surface,
    trajectories: Trajectory | Sequence[Trajectory],
    ax: Axes | None = None,
    *,
    log_scale: bool = False,
    quantity: str = "loss",
    **look: Unpack[PlaneLook],
) -> Axes:
    """Draw the projections of one or more training runs onto their plane over filled contours of the loss.

    A diamond marks the start of every run, a square its end; some points are labelled with their step. The contours
    show the loss at the projection (the shadow) of a point, not at the point itself; so the title gives the largest
    distance of a point from the plane, as a share of its largest distance from the origin. ``quantity`` and the look
    are those of `plot_contour`; ``star=False`` leaves out the marks of start and end.

    Raises:
        InputError: there is no trajectory, one was projected onto another plane, or `plot_contour` would refuse the
            arguments.
    """
    check_type(surface, Surface, "plot_path(surface, trajectories)", "a Surface, as ll.evaluate returns it")
    trajectories = several(trajectories)
    shown = look_of("plot_path", PlaneLook, look, log_scale)
    ax = path_canvas(surface, trajectories, ax, look=shown, log_scale=log_scale, quantity=quantity)
    draw_paths(ax, trajectories, marks=shown.star)
    _draw_legend(ax, trajectories)
    return ax


def plot_path_losses(
    trajectories: Trajectory | Sequence[Trajectory],
    *,
    figure: Figure | SubFigure | None = None,
    log_scale: bool = False,
    **look: Unpack[ValueLook],
) -> Figure:
    """Draw the loss at every point of a path and at its shadow on the plane, and below it the distance from the plane.

    That distance is a share of the extent of the path, the largest distance of its points from the origin. On a log
    scale, losses at or below 0 are drawn at the smallest positive one; a warning and the label say so. ``figure``
    may be a subfigure; None makes a new one of pyplot. The ``look`` has ``title``, ``vmin`` and ``vmax``, see
    `ValueLook`.

    Raises:
        InputError: there is no trajectory.
    """
    trajectories = several(trajectories)
    shown = look_of("plot_path_losses", ValueLook, look, log_scale)
    losses = [values for path in trajectories for values in (path.loss, path.shadow_loss)]
    losses, log_scale, clipped = on_log_scale(losses, log_scale)
    least = scaled(3.2) if is_set("figure.figsize") else 5.0  # inches: the title, two axes and the legend
    canvas = figure_or_new(figure, (5.6, least), grow=True)
    upper, lower = canvas.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    narrow, (at_point, at_shadow) = room_of(upper).narrow, _loss_lines()
    pairs = zip(losses[::2], losses[1::2], strict=True)  # at the points of a path, and at their shadows
    for path, color, (loss, shadow) in zip(trajectories, path_colors(trajectories), pairs, strict=True):
        upper.plot(path.steps, loss, color=color, **at_point)
        upper.plot(path.steps, shadow, color=color, **at_shadow)
        lower.plot(path.steps, 100 * path.share_off_plane, color=color)
    if log_scale:
        upper.set_yscale("log")
    limit_values(upper, shown)
    values = "\n".join(filter(None, ["loss (log scale)" if log_scale else "loss", clipped]))
    alone = str(trajectories[0].metadata.get("name") or "") if len(trajectories) == 1 else ""
    label_axes(upper, ", ".join(filter(None, [alone, common_title(trajectories)])), "", values, look=shown)
    lower.set_ylabel("off the\nplane (%)" if narrow else "off the plane\n(% of extent)")
    label_axes(lower, "", str(trajectories[0].metadata.get("unit", "step")), "")
    lower.set_ylim(0, max(lower.get_ylim()[1], LEAST_OFF))
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    draw_legend_below(lower, _loss_entries(trajectories, narrow))
    canvas.align_ylabels()
    return whole(canvas)


def _loss_lines() -> tuple[dict[str, Any], dict[str, Any]]:
    """A thick pale line for points and a thin dashed one for shadows, so that both are seen where they are equal."""
    return {"linewidth": scaled(3), "alpha": 0.45}, {"linewidth": scaled(1.2), "linestyle": "--"}


def _loss_entries(trajectories: Sequence[Trajectory], narrow: bool) -> list[Artist]:
    """The legend of the losses: the colour of every one of several paths, and the two kinds of lines."""
    colors, (at_point, at_shadow) = path_colors(trajectories), _loss_lines()
    runs = list(zip(trajectories, colors, strict=True)) if len(trajectories) > 1 else []
    names = ("point", "shadow") if narrow else ("at the point", "at its shadow on the plane")
    kind = ink(1) if runs else colors[0]
    return [
        *(Line2D([], [], color=color, label=legend_text(path.metadata.get("name") or "")) for path, color in runs),
        Line2D([], [], color=kind, label=names[0], **at_point),
        Line2D([], [], color=kind, label=names[1], **at_shadow),
    ]


def path_canvas(
    surface: Surface,
    trajectories: Sequence[Trajectory],
    ax: Axes | None,
    *,
    look: Look = Look(),  # noqa: B008 (frozen)
    log_scale: bool = False,
    quantity: str = "loss",
) -> Axes:
    """The filled contours beneath the paths of `plot_path` and `animate`."""
    check_same_plane(surface, trajectories)
    (values,), log_scale, clipped = on_log_scale([plane_values(surface, quantity)], log_scale)
    scale = color_scale([values], log_scale, look)
    ax = axes_or_new(ax, (5.8, 4.6))
    numbers = Numbers(plane_frame(ax), _marks(trajectories), (*map(_name, trajectories), *ENDS))
    filled = draw_plane(ax, surface, values, scale, levels=look.levels, star=0, numbers=numbers)
    if filled is not None and scale is not None:
        dress_bar(ax.figure.colorbar(filled, ax=ax), scale, quantity_label(surface, quantity, log_scale, clipped))
    notes = [off_plane_note(trajectories), small_paths_note(surface, trajectories)]
    label_slice(ax, surface, notes=notes, look=look)
    alphas, betas = surface.axes
    ax.set(xlim=alphas[[0, -1]], ylim=betas[[0, -1]])
    return ax


def draw_paths(ax: Axes, trajectories: Sequence[Trajectory], *, marks: bool = True) -> None:
    """Draw the line, dots and some step numbers of every path, and ``marks`` at its start and end."""
    halo = [withStroke(linewidth=scaled(3), foreground="0.15", alpha=0.6)]
    for path, color in zip(trajectories, path_colors(trajectories), strict=True):
        x, y = path.coordinates.T
        dot = "." if len(x) <= DOTS else None
        ax.plot(
            x,
            y,
            color=color,
            linewidth=scaled(1.6),
            marker=dot,
            markersize=scaled(4),
            label=_name(path),
            path_effects=halo,
            zorder=8,
        )
        last = path is trajectories[-1]  # only its ends are labelled, so that the legend lists the paths first
        for at, (label, style) in zip((0, -1), ENDS.items(), strict=True) if marks else ():
            ax.plot(
                x[at], y[at], linestyle="none", markersize=scaled(8), markeredgecolor="white",
                markeredgewidth=scaled(0.9), zorder=10, label=label if last else None, **style,
            )  # fmt: skip
    if not room_of(ax).narrow:
        _number_steps(ax, trajectories[0])


def _name(path: Trajectory) -> str:
    return legend_text(path.metadata.get("name") or "path of training")


def _marks(trajectories: Sequence[Trajectory]) -> np.ndarray:
    """Points of all paths, some of them where there are many [n, 2]."""
    places = [path.coordinates[:: -(-len(path.steps) // MARKED)] for path in trajectories]
    return np.concatenate([*places, *(path.coordinates[-1:] for path in trajectories)])


def _draw_legend(ax: Axes, trajectories: Sequence[Trajectory]) -> None:
    """Draw the legend in the corner where it covers the fewest points of the paths."""
    handles, marks = legend_entries(ax), (ax.transData + ax.transAxes.inverted()).transform(_marks(trajectories))
    if (corner := free_corner(ax, [str(handle.get_label()) for handle in handles], marks)) is not None:
        draw_legend(ax, handles, loc=corner.name, handlelength=1.4)


def path_colors(trajectories: Sequence[Trajectory]) -> list[str]:
    """One colour for each path, the same on the colours of a surface and on white."""
    return [COLORS[k % len(COLORS)] for k in range(len(trajectories))]


def _number_steps(ax: Axes, path: Trajectory) -> None:
    """Label some points with their step; labels that would touch another one or an end are left out."""
    to_fraction, frame = ax.transData + ax.transAxes.inverted(), np.array(replace(room_of(ax), bar=True).inside)
    places = to_fraction.transform(path.coordinates) * frame  # points
    taken: list[np.ndarray] = [places[0], places[-1]]
    numbers = [(np.array(to_fraction.transform(text.get_position()) * frame), text.get_text()) for text in ax.texts]
    unit = math_free(path.metadata.get("unit", "step"))
    for t in np.linspace(0, len(path.steps) - 1, NUMBERED + 2).round().astype(int)[1:-1]:
        text = f"{unit} {path.steps[t]}"
        size = np.array((text_width(text, scaled(7)), scaled(7)))
        apart = np.abs(places[t] - np.array(taken)) > 1.3 * size
        if not apart.any(axis=1).all() or (places[t] + 1.3 * size > frame).any():
            continue
        middle = places[t] + scaled(5) + size / 2
        if any(
            (np.abs(middle - place) < (size + text_width(number, scaled(7))) / 2).all() for place, number in numbers
        ):
            continue  # a number of a contour line, at any angle
        taken.append(places[t])
        ax.annotate(
            text, path.coordinates[t], xytext=(scaled(5),) * 2, textcoords="offset points", zorder=11,
            path_effects=[withStroke(linewidth=scaled(2), foreground="0.15")], fontsize=scaled(7), color="white",
        )  # fmt: skip


def several(trajectories: Trajectory | Sequence[Trajectory]) -> list[Trajectory]:
    """One or more ``trajectories`` as a list.

    Raises:
        InputError: there is none.
    """
    if not (paths := trajectories_of(trajectories)):
        raise InputError("there is no trajectory to draw")
    return paths
