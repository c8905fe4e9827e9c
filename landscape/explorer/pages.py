"""Surfaces and training paths as one HTML file that also opens offline."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, Literal, get_args

import numpy as np

from landscape.checks import check_choice, check_flag, check_text, check_texts, check_type, checked_path
from landscape.errors import InputError
from landscape.escaping import html_text, script_json
from landscape.explorer.contents import page_title, surface_content, surface_names, trajectory_content
from landscape.plotting.captions import common_title
from landscape.plotting.panels import check_counts
from landscape.results import Surface, Trajectory
from landscape.results.comparability import differences
from landscape.results.summary import LARGE_RANGE
from landscape.results.trajectory import check_same_plane, trajectories_of
from landscape.storage.files import written_whole

__all__ = ["explore", "page_script"]

View = Literal["explorer", "path"]
SCRIPTS = (
    "state",
    "words",
    "marks",
    "figures",
    "paths",
    "cursor",
    "tables",
    "panels",
    "saving",
    "play",
    "controls",
)  # later files use earlier ones


def explore(
    results: Surface | Sequence[Surface] | Mapping[str, Surface],
    path: str | Path = "explorer.html",
    *,
    trajectories: Trajectory | Sequence[Trajectory] = (),
    names: Sequence[str] | None = None,
    pictures: Sequence[np.ndarray | None] | None = None,
    title: str | None = None,
    log_scale: bool | None = None,
    view: View = "explorer",
) -> Path:
    """Write an interactive page of planes: 3-D surface, contours, and slices of both through a shared cursor.

    A slider selects the surface, and two surfaces can be shown side by side with linked cameras and one colour scale.
    The page shows loss, accuracy or standard error, on a linear or logarithmic scale, in light or dark colours, and can
    be operated by keyboard. All values are embedded in float64; NaN and infinite values are gaps in 3-D and crossed
    grey cells in the contours. A table says how the values were computed and how accurate they are. The page works
    offline and blocks all connections.

    Args:
        results: One plane, several planes (their grids may differ), or a mapping name -> plane.
        path: The file to write.
        trajectories: Training runs projected onto the plane of the surfaces and drawn on each of them: the projections
            on the surface and, if both were computed on the same data, the points at their true losses.
        names: Names of the surfaces; default: the keys of the mapping, or the metadata in which they differ.
        pictures: Picture (or None) of each surface, [H, W] or [H, W, 3], uint8 or floats in [0, 1].
        title: Heading of the page; default: the model and epoch of the surfaces.
        log_scale: Whether the page opens on a logarithmic scale; None: where the values are positive and span a factor
            of more than 100. Values that are not all positive have a linear scale.
        view: "explorer", or "path" for one plane in 3-D, a slider over the steps of the trajectories, and every point
            at its true loss, above or below the plane.

    Raises:
        InputError: there are no surfaces, a line is among them, the number of names or pictures is not theirs, a
            picture has another shape, or a trajectory belongs to another plane; or a "path" has several planes, or no
            trajectory.

    Example:
        >>> axis = np.linspace(-1, 1, 5)
        >>> bowl = np.add.outer(axis**2, axis**2)
        >>> explore(Surface(axis, axis, bowl, 0.1 * bowl, None, None, {})).name
        'explorer.html'
    """
    check_type(results, Surface | Sequence | Mapping, "explore(results)", "a Surface, or several of them")
    if isinstance(results, Mapping):
        names, results = [*map(str, results)] if names is None else names, list(results.values())
    surfaces = [results] if isinstance(results, Surface) else list(results)
    path, trajectories = checked_path(path), trajectories_of(trajectories)
    check_texts("names", names)
    check_counts("explore", surfaces, names=names, pictures=pictures)
    check_text("title", title)
    if log_scale is not None:
        check_flag("log_scale", log_scale)
    check_choice("view", view, get_args(View))
    if view == "path" and (len(surfaces) > 1 or not trajectories):
        raise InputError('view="path" shows the trajectories of one plane; leave it out to explore surfaces')
    title = title or ("Training path on the loss landscape" if view == "path" else page_title(surfaces))
    for surface in surfaces:
        check_same_plane(surface, trajectories)
    names, pictures = names or surface_names(surfaces), pictures or [None] * len(surfaces)
    content = {
        "view": view,
        "log": log_scale,
        "large_range": LARGE_RANGE,
        "subtitle": common_title(surfaces),
        "differences": differences([surface.metadata for surface in surfaces]),
        "surfaces": [surface_content(*parts) for parts in zip(surfaces, names, pictures, strict=True)],
        "trajectories": [trajectory_content(trajectory, surfaces) for trajectory in trajectories],
    }
    return _write(path, title, content)


def page_script() -> str:
    """The script of every page: its files joined inside one function, which keeps their names from being global."""
    files = "\n".join(_page_file(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n\n{files}}})();\n'


def _page_file(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text("utf-8")


def _write(path: Path, title: str, content: dict[str, Any]) -> Path:
    """Fill the page with plotly's library and our own files unchanged, and with everything else escaped."""
    from plotly.offline import get_plotlyjs  # here, because importing it takes long and most runs write no page

    page = Template(_page_file("page.html")).substitute(
        title=html_text(title),
        style=_page_file("style.css"),
        plotly=get_plotlyjs(),
        content=script_json(content),
        explorer=page_script(),
    )
    with written_whole(path) as temporary:
        temporary.write_text(page, "utf-8")
    return path
