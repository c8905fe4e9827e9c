"""Animations of paths and surfaces: GIF, and MP4 if ffmpeg is installed."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.animation import FFMpegWriter, FuncAnimation, PillowWriter
from matplotlib.figure import Figure

from landscape.errors import InputError
from landscape.escaping import math_free
from landscape.plotting.axes import dress_bar, label_axes, new_figure
from landscape.plotting.captions import axis_labels, common_labels, common_title, quantity_label
from landscape.plotting.looks import Look
from landscape.plotting.panels import check_counts
from landscape.plotting.paths import path_canvas, path_colors, several
from landscape.plotting.planes import check_style, draw_plane
from landscape.plotting.scales import color_scale, on_log_scale
from landscape.plotting.values import plane_values
from landscape.results import Surface, Trajectory
from landscape.storage.files import written_whole

__all__ = ["animate_path", "animate_surfaces", "animation_formats"]

FRAMES = 120  # of the animation of a path, at most
DPI = 110  # dots per inch


def animate_path(
    surface: Surface,
    trajectories: Trajectory | Sequence[Trajectory],
    path: str | Path,
    *,
    levels: int = 30,
    log_scale: bool = False,
    fps: int = 10,
) -> Path:
    """Write an animation of one or more training paths over the contours of their plane to ``path`` (.gif or .mp4).

    Raises:
        InputError: files with the suffix cannot be written on this machine, or `plot_path` would refuse the arguments.
    """
    trajectories = several(trajectories)
    figure = new_figure((5.8, 4.6))
    ax = path_canvas(surface, trajectories, figure.add_subplot(), look=Look(levels=levels), log_scale=log_scale)
    colors = path_colors(trajectories)
    lines = [ax.plot([], [], color=color, linewidth=1.8, zorder=8)[0] for color in colors]
    heads = [
        ax.plot([], [], marker="o", markersize=7, color=color, markeredgecolor="white", zorder=9)[0] for color in colors
    ]
    longest = max(trajectories, key=lambda trajectory: len(trajectory.steps))
    unit = math_free(longest.metadata.get("unit", "step"))
    text = ax.text(0.02, 0.97, "", transform=ax.transAxes, va="top", fontsize=9, bbox={"facecolor": "white"}, zorder=11)
    last = len(longest.steps) - 1

    def draw(frame: int) -> None:
        for trajectory, line, head in zip(trajectories, lines, heads, strict=True):
            steps = trajectory.coordinates[: frame + 1].T
            line.set_data(*steps)
            head.set_data(steps[:, -1:])
        text.set_text(f"{unit} {longest.steps[frame]}")

    frames = np.unique(np.linspace(0, last, min(FRAMES, last + 1)).round().astype(int))
    return _save(figure, draw, frames.tolist(), Path(path), fps)


def animate_surfaces(
    surfaces: Sequence[Surface],
    path: str | Path,
    *,
    titles: Sequence[str],
    levels: int = 30,
    log_scale: bool = False,
    fps: int = 2,
) -> Path:
    """Write an animation that shows one plane after the other, such as those of several epochs, to ``path``.

    All planes share one colour scale.

    Raises:
        InputError: files with the suffix cannot be written on this machine, or `plot_comparison` would refuse the
            arguments.
    """
    check_counts("animate_surfaces", surfaces, titles=titles)
    check_style("contour", levels)
    losses = [plane_values(surface, "loss") for surface in surfaces]
    planes, log_scale, clipped = on_log_scale(losses, log_scale)
    scale = color_scale(planes, log_scale)
    figure = new_figure((5.6, 4.6))
    ax = figure.add_subplot()
    labels = common_labels(surfaces) or axis_labels(surfaces[0], lengths=False)
    bar = None

    def draw(frame: int) -> None:
        nonlocal bar
        ax.clear()
        filled = draw_plane(ax, surfaces[frame], planes[frame], scale, levels=levels)
        if bar is None and filled is not None and scale is not None:
            bar = ax.figure.colorbar(filled, ax=ax)
            dress_bar(bar, scale, quantity_label(surfaces, "loss", log_scale, clipped))
        label_axes(ax, f"{common_title(surfaces)}\n{titles[frame]}", *labels)

    return _save(figure, draw, list(range(len(surfaces))), Path(path), fps)


def animation_formats() -> tuple[str, ...]:
    """The suffixes of the animations that can be written on this machine."""
    return (".gif", ".mp4") if FFMpegWriter.isAvailable() else (".gif",)


def _save(figure: Figure, draw: Callable[[int], None], frames: list[int], path: Path, fps: int) -> Path:
    import matplotlib.pyplot as plt  # the figure belongs to it and is closed below

    if path.suffix not in animation_formats():
        known = " or ".join(animation_formats())
        raise InputError(f"cannot write {path}: use {known} (.mp4 needs ffmpeg on the PATH)")
    draw(frames[0])
    figure.canvas.draw()
    figure.set_layout_engine("none")  # keep the layout of the first frame, so that the axes do not move
    animation = FuncAnimation(figure, draw, frames=frames, init_func=lambda: None)
    writer = (PillowWriter if path.suffix == ".gif" else FFMpegWriter)(fps=fps)
    with written_whole(path) as temporary, matplotlib.rc_context({"savefig.bbox": None}):
        animation.save(temporary, writer=writer, dpi=DPI)
    plt.close(figure)
    return path
