"""Figures of runs and groups, drawn from the stored measurements without torch."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.escaping import math_free
from landscape.plotting import (
    plot_contour,
    plot_panels,
    plot_path,
    plot_slices,
    plot_spectrum,
)
from landscape.plotting.captions import off_plane_note, title_of
from landscape.plotting.room import wrapped
from landscape.plotting.sizes import scaled
from landscape.results import Eigenpairs, SpectralDensity, Surface, Trajectory
from landscape.storage.files import make_folder, plain_name
from landscape.storage.records import file_hash, made_once, whole_record
from landscape.studies.matrix.tables import WAYS

__all__ = ["FIGURES", "FigureWriter", "draw_group", "draw_once", "draw_run"]

FIGURES = "figures.json"
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"  # of the colour-blind-safe set of Okabe and Ito
Panels = dict[str, Callable[[Axes], object]]


class FigureWriter(Protocol):
    """The look of figures and their formats; its repr names all settings."""

    def styled(self) -> AbstractContextManager[None]:
        """Draw the figures inside in the look."""
        ...

    def write(self, drawn: Figure | Axes, path: Path) -> list[Path]:
        """The files of a figure, written to ``path``, to which their endings are added."""
        ...


def draw_once(
    probes: Path, folder: Path, draw: Callable[[Path, Path, FigureWriter], list[Path]], writer: FigureWriter
) -> bool:
    """Draw the figures of one record with ``draw``, unless they exist already in the same look and formats.

    Args:
        probes: Path of the record.
        folder: Folder of the figures. It gets figures.json, written last, with the hash of the record.
        draw: Function of the folder of the record, the folder of the figures and the ``writer`` that returns the files
            that were written.
        writer: The look and the formats.

    Returns:
        Whether the figures were drawn.
    """

    def made(place: Path) -> tuple[dict[str, str], list[Path]]:
        with writer.styled():
            return {}, draw(probes.parent, place, writer)

    return made_once(folder / FIGURES, {"of": file_hash(probes), "figures": repr(writer)}, made)


def draw_run(probes: Path, folder: Path, writer: FigureWriter) -> list[Path]:
    """Draw the figures interpolation, slices and curvature of one run from the folder ``probes`` of its measurements.

    Nothing is drawn if the measurements failed.

    Returns:
        The files that were written.
    """
    if "failed" in whole_record(probes / "probes.json"):
        return []
    names = ("layer_line", "random_line", "random_plane", "interpolation_train", "interpolation_test")
    surfaces = {name: Surface.load(probes / f"{name}.npz") for name in names}
    ways = {split: surfaces[f"interpolation_{split}"] for split in ("train", "test")}
    figures: dict[str, Panels] = {
        "interpolation": {
            "initial to trained network: loss": partial(_draw_splits, ways, "loss"),
            "initial to trained network: accuracy": partial(_draw_splits, ways, "accuracy"),
            "from the trained network towards the initial one": partial(_draw_layer_line, surfaces["layer_line"]),
        },
        "slices": {
            "random line": partial(plot_slices, surfaces["random_line"]),
            "random plane": partial(plot_contour, surfaces["random_plane"]),
        },
        "curvature": {
            "largest eigenvalues": partial(plot_spectrum, Eigenpairs.load(probes / "eigenvalues.npz")),
            "spectral density": partial(plot_spectrum, SpectralDensity.load(probes / "density.npz")),
        },
    }
    files: list[Path] = []
    for name, panels in figures.items():
        figure = plot_panels(panels, size=(4.6, 3.6))
        if name != "interpolation":
            width, size = 72 * figure.get_figwidth() - scaled(12), scaled(10)
            lines = [wrapped(line, width, size) for line in title_of(surfaces["random_plane"]).split("\n")]
            figure.suptitle(math_free("\n".join(lines)), fontsize=size)
        files += writer.write(figure, folder / name)
    return files


def draw_group(probes: Path, folder: Path, writer: FigureWriter) -> list[Path]:
    """Draw the figures connectivity/connectivity and pca/pca of one group, as far as they were measured.

    Returns:
        The files that were written.
    """
    record = whole_record(probes / "group.json")
    files: list[Path] = []
    if pairs := record["pairs"]:
        panels: Panels = {}
        for first, second in (pair["seeds"] for pair in pairs):
            lines = {name: Surface.load(probes / f"{name}_{first}_{second}.npz") for name in WAYS}
            panels[f"seed {first} to seed {second}"] = partial(_draw_connections, lines)
        figure = plot_panels(panels, columns=3, size=(4.0, 3.3))
        columns = 3 if figure.get_figwidth() > scaled(6) else 1
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=scaled(8)
        )
        files += writer.write(figure, make_folder(folder / "connectivity") / "connectivity")
    if planes := record["paths"]:
        panels = {title: partial(_draw_paths, probes, title, plane["paths"]) for title, plane in planes.items()}
        figure = plot_panels(panels, columns=2, size=(5.6, 4.6))
        files += writer.write(figure, make_folder(folder / "pca") / "pca")
    return files


def _draw_splits(ways: dict[str, Surface], quantity: str, ax: Axes) -> None:
    _draw_ways(ax, {split: (way, f"{split} {quantity}") for split, way in ways.items()}, quantity)
    ax.set(xlabel="α (0 = initial, 1 = trained)", ylabel=quantity)


def _draw_layer_line(surface: Surface, ax: Axes) -> None:
    ax.set_xlabel("α (units of layer-wise norms)")
    plot_slices(surface, ax, log_scale=_positive(surface))
    ax.locator_params(axis="x", nbins=5)
    if (legend := ax.get_legend()) is not None:
        legend.remove()


def _draw_connections(surfaces: dict[str, Surface], ax: Axes) -> None:
    """Draw the loss between two seeds on each way; the figure has one legend for all panels."""
    _draw_ways(ax, {name: (surfaces[name], label) for name, label in WAYS.items()}, "loss")
    if (legend := ax.get_legend()) is not None:
        legend.remove()
    ax.set(xlabel="α (0 = first, 1 = second)", ylabel="training loss")


def _draw_paths(probes: Path, title: str, names: list[str], ax: Axes) -> None:
    """Draw the training paths of some seeds on the surface of their plane."""
    key = plain_name(title)
    paths = [Trajectory.load(probes / f"path_{key}_{plain_name(name)}.npz") for name in names]
    surface = Surface.load(probes / f"plane_{key}.npz")
    plot_path(surface, paths, ax, log_scale=_positive(surface), title=f"{title}\n{off_plane_note(paths)}")


def _draw_ways(ax: Axes, ways: dict[str, tuple[Surface, str]], quantity: str) -> None:
    """Draw one curve for each way, given as its surface and its label in the legend."""
    styles = zip((BLUE, ORANGE, GREEN), ("-", "--", "-."), strict=True)
    for (surface, label), (color, style) in zip(ways.values(), styles, strict=False):
        values = getattr(surface, quantity)
        ax.plot(surface.alphas, np.where(np.isfinite(values), values, np.nan), style, color=color, label=label)
    ax.legend(fontsize=scaled(8), framealpha=0.85)


def _positive(surface: Surface) -> bool:
    """Whether all losses are positive and finite, as a logarithmic scale requires."""
    return bool((surface.loss > 0).all() and np.isfinite(surface.loss).all())
