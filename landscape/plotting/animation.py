"""Films of planes: a surface that turns, paths that grow on it, and planes one after the other."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.checks import check_choice, check_texts, check_type, checked_path
from landscape.errors import InputError
from landscape.escaping import math_free
from landscape.plotting.captions import common_title, off_plane_note, shared_label, title_of
from landscape.plotting.film import Film
from landscape.plotting.looks import Look, PlaneLook, look_of
from landscape.plotting.panels import check_counts
from landscape.plotting.paths import path_canvas, path_colors
from landscape.plotting.pixels import pixels_of
from landscape.plotting.planes import plot_contour
from landscape.plotting.scales import color_limits, on_log_scale
from landscape.plotting.sizes import figure_size
from landscape.plotting.surfaces import plot_surface
from landscape.plotting.values import plane_values, value_at
from landscape.results import Surface, Trajectory
from landscape.results.trajectory import check_same_plane, trajectories_of

__all__ = ["animate"]

View = Literal["contour", "surface"]
SIZE = (5.8, 4.8)  # inches
WHOLE_TURN = 360.0  # degrees
TURNING = 0.82  # size of the box of a surface that turns, so that its labels stay inside from every side


def animate(
    results: Surface | Sequence[Surface] | Mapping[str, Surface],
    path: str | Path,
    *,
    trajectories: Trajectory | Sequence[Trajectory] = (),
    names: Sequence[str] | None = None,
    view: View | None = None,
    levels: int | Sequence[float] = 30,
    log_scale: bool = False,
    quantity: str = "loss",
    seconds: float = 8.0,
    pause: float | None = None,
    dpi: int = 110,
) -> Path:
    """Write a film (.gif, or .mp4 with ffmpeg) of one plane that turns, of paths on it, or of several planes.

    - One plane: its 3-D surface turns once around the vertical axis.
    - One plane with ``trajectories``: the paths of training grow on it. In 3-D they are drawn at the height of their
      shadows on the surface, in front of it.
    - Several planes, such as those of epochs or of `Plane.flight`: one after the other, all with the same colours and
      the same height of the vertical axis. The axes are those of each plane.

    Args:
        results: One plane, several, or a mapping name -> plane.
        path: The file to write; its suffix determines the format.
        trajectories: Training runs that were projected onto the plane.
        names: What the title says of each of several planes; default: the keys of the mapping, or numbers.
        view: "contour" or "surface" (in 3-D); default: "surface" for one plane alone, otherwise "contour".
        levels: Number of bands of the contours, or their edges.
        log_scale: Logarithmic colours and heights, as in `plot_contour`.
        quantity: "loss", "accuracy", "standard_error", or one of ``surface.quantities``.
        seconds: Length of the film without the pause.
        pause: Seconds for which the last frame stays; default: 1, or 0 for a surface that turns.
        dpi: Pixels of an inch; the film is 5.8 x 4.8 inches, unless ``figure.figsize`` of matplotlib is set.

    Raises:
        InputError: the file cannot be written on this machine, there is no plane, a path belongs to another plane,
            or a length, resolution, view or quantity cannot be used.

    Example:
        >>> axis = np.linspace(-1, 1, 5)
        >>> bowl = Surface(axis, axis, np.add.outer(axis**2, axis**2), np.zeros((5, 5)), None, None, {})
        >>> animate(bowl, "bowl.gif", seconds=0.2, dpi=40).name
        'bowl.gif'
    """
    check_type(results, Surface | Sequence | Mapping, "animate(results, path)", "a Surface, or several of them")
    if isinstance(results, Mapping):
        names, results = [*map(str, results)] if names is None else names, list(results.values())
    surfaces = [results] if isinstance(results, Surface) else list(results)
    paths = trajectories_of(trajectories)
    check_texts("names", names)
    check_counts("animate", surfaces, names=names)
    alone = len(surfaces) == 1 and not paths
    view = view or ("surface" if alone else "contour")
    _check(surfaces, paths, view, alone)
    film = Film(seconds, (0.0 if alone else 1.0) if pause is None else pause, dpi)
    film.check(path := checked_path(path))
    look = look_of("animate", PlaneLook, {"levels": levels}, log_scale)
    planes = [plane_values(surface, quantity) for surface in surfaces]
    if not any((values > 0).any() for values in planes):  # on a linear scale, of which one warning tells
        _, log_scale, _ = on_log_scale(planes, log_scale)
    stage = _Stage(Figure(figure_size(SIZE), dpi=dpi, layout="constrained"), view, look, log_scale, quantity)
    if paths:
        count, draw = _growing(stage, surfaces[0], paths, film.frames)
    elif alone:
        count, draw = _turning(stage, surfaces[0], film.frames)
    else:
        count, draw = _one_by_one(
            stage, surfaces, names or [f"{k + 1} of {len(surfaces)}" for k in range(len(surfaces))]
        )
    return film.write(path, _frames(stage.figure, count, draw, still=len(surfaces) == 1), count)


@dataclass(frozen=True)
class _Stage:
    """The figure of a film, and how planes are drawn on it."""

    figure: Figure
    view: View
    look: Look
    log_scale: bool
    quantity: str

    def draw(self, surface: Surface, title: str, **look: Any) -> Axes:
        """The only axes of the figure, with ``surface`` drawn anew."""
        self.figure.clear()
        options: dict[str, Any] = {"log_scale": self.log_scale, "quantity": self.quantity, "title": title, **look}
        if self.view == "contour":
            return plot_contour(surface, self.figure.add_subplot(), levels=self.look.levels, **options)
        options["title"] = "\n".join(filter(None, [title, shared_label(surface)]))
        ax: Any = self.figure.add_subplot(projection="3d")
        # Short labels, which touch nothing from any side; the title has the units.
        ax.set(xlabel="α", ylabel="β", zlabel=self.quantity.replace("_", " ") + " (log scale)" * self.log_scale)
        return plot_surface(surface, ax, **options)


def _check(surfaces: list[Surface], paths: list[Trajectory], view: View, alone: bool) -> None:
    check_choice("view", view, get_args(View))
    if paths and len(surfaces) > 1:
        raise InputError(f"paths grow on one plane, not on {len(surfaces)}; pass one, or leave the trajectories out")
    if alone and view == "contour":
        raise InputError("the contours of one plane do not move; pass several planes, trajectories, or view='surface'")
    check_same_plane(surfaces[0], paths)


def _turning(stage: _Stage, surface: Surface, frames: int) -> tuple[int, Callable[[int], None]]:
    ax: Any = stage.draw(surface, title_of(surface))
    ax.set_box_aspect(None, zoom=TURNING)
    start = ax.azim
    for text in ax.get_legend().get_texts() if ax.get_legend() else ():
        text.set_text(text.get_text().partition(" (behind")[0])  # which changes as the surface turns

    def draw(frame: int) -> None:
        ax.view_init(ax.elev, start + WHOLE_TURN * frame / frames)

    return frames, draw


def _one_by_one(stage: _Stage, surfaces: list[Surface], names: Sequence[str]) -> tuple[int, Callable[[int], None]]:
    exact = [plane_values(surface, stage.quantity) for surface in surfaces]
    planes, log_scale, _ = on_log_scale(exact, stage.log_scale)
    limits = color_limits(np.concatenate([values.ravel() for values in planes]), log_scale) or (None, None)
    title = common_title(surfaces)

    def draw(frame: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values off a log scale, which have been warned of above
            head = "\n".join(filter(None, [title, names[frame]]))
            stage.draw(surfaces[frame], head, vmin=limits[0], vmax=limits[1])

    return len(surfaces), draw


def _growing(stage: _Stage, surface: Surface, paths: list[Trajectory], most: int) -> tuple[int, Callable[[int], None]]:
    places = [path.coordinates for path in paths]
    if stage.view == "surface":
        title = "\n".join(filter(None, [title_of(surface), off_plane_note(paths)]))
        ax: Any = stage.draw(surface, title, star=False)
        places = [np.column_stack([xy, _heights(stage, surface, xy)]) for xy in places]
    else:
        canvas = stage.figure.add_subplot()
        options: dict[str, Any] = {"log_scale": stage.log_scale, "quantity": stage.quantity}
        ax = path_canvas(surface, paths, canvas, look=stage.look, **options)
    colors = path_colors(paths)
    empty: list[list[float]] = [[]] * places[0].shape[1]
    lines = [ax.plot(*empty, color=color, linewidth=1.8, zorder=8)[0] for color in colors]
    style = {"marker": "o", "markersize": 7, "markeredgecolor": "white", "zorder": 9}
    heads = [ax.plot(*empty, color=color, **style)[0] for color in colors]
    longest = max(paths, key=lambda path: len(path.steps))
    unit, last = math_free(longest.metadata.get("unit", "step")), len(longest.steps) - 1
    text = getattr(ax, "text2D", ax.text)(
        0.02, 0.97, "", transform=ax.transAxes, va="top", fontsize="small", bbox={"facecolor": "white"}, zorder=11,
        color="black",
    )  # fmt: skip
    shown = np.unique(np.linspace(0, last, min(most, last + 1)).round().astype(int)).tolist()

    def draw(frame: int) -> None:
        for points, line, head in zip(places, lines, heads, strict=True):
            steps = points[: shown[frame] + 1].T
            for artist, part in ((line, steps), (head, steps[:, -1:])):
                (artist.set_data_3d if len(part) == 3 else artist.set_data)(*part)
        text.set_text(f"{unit} {longest.steps[shown[frame]]}")

    return len(shown), draw


def _heights(stage: _Stage, surface: Surface, places: np.ndarray) -> np.ndarray:
    """The heights [T] at which the shadows ``places`` [T, 2] lie on the drawn surface; NaN outside it."""
    (values,), log_scale, _ = on_log_scale([plane_values(surface, stage.quantity)], stage.log_scale)
    values = np.log10(values) if log_scale else values
    return np.array([value_at(surface, values, *place) for place in places])


def _frames(figure: Figure, count: int, draw: Callable[[int], None], still: bool) -> Iterator[np.ndarray]:
    """The pixels of every frame; axes that stand ``still`` keep the layout of the first one."""
    for frame in range(count):
        draw(frame)
        if still and frame == 0:
            pixels_of(figure)  # which lays it out
            figure.set_layout_engine("none")
        yield pixels_of(figure)
