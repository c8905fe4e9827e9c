"""Figures of runs and groups, drawn from the stored measurements without torch."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.plotting import (
    plot_contour,
    plot_panels,
    plot_path,
    plot_slices,
    plot_spectrum,
    save_figure,
)
from landscape.plotting.captions import off_plane_note, title_of
from landscape.results import Eigenpairs, SpectralDensity, Surface, Trajectory
from landscape.storage.files import plain_name
from landscape.storage.records import file_hash, made_once, whole_record
from landscape.studies.matrix.tables import WAYS

__all__ = ["FIGURES", "draw_group", "draw_once", "draw_run"]

FIGURES = "figures.json"
DPI = 110
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"  # of the colour-blind-safe set of Okabe and Ito
Panels = dict[str, Callable[[Axes], object]]


def draw_once(probes: Path, folder: Path, draw: Callable[[Path, Path], list[Path]]) -> bool:
    """Draw the figures of one record with ``draw``, unless they exist already.

    Args:
        probes: Path of the record.
        folder: Folder of the figures. It gets figures.json, written last, with the hash of the record.
        draw: Function of the folder of the record and the folder of the figures that returns the files it wrote.

    Returns:
        Whether the figures were drawn.
    """
    return made_once(folder / FIGURES, {"of": file_hash(probes)}, lambda place: ({}, draw(probes.parent, place)))


def draw_run(probes: Path, folder: Path) -> list[Path]:
    """Draw interpolation.png, slices.png and curvature.png of one run from the folder ``probes`` of its measurements.

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
        "interpolation.png": {
            "initial to trained network: loss": partial(_draw_splits, ways, "loss"),
            "initial to trained network: accuracy": partial(_draw_splits, ways, "accuracy"),
            "from the trained network towards the initial one": partial(_draw_layer_line, surfaces["layer_line"]),
        },
        "slices.png": {
            "random line": partial(plot_slices, surfaces["random_line"]),
            "random plane": partial(plot_contour, surfaces["random_plane"]),
        },
        "curvature.png": {
            "largest eigenvalues": partial(plot_spectrum, Eigenpairs.load(probes / "eigenvalues.npz")),
            "spectral density": partial(plot_spectrum, SpectralDensity.load(probes / "density.npz")),
        },
    }
    files = []
    for name, panels in figures.items():
        figure = plot_panels(panels, size=(4.6, 3.6))
        if name != "interpolation.png":
            figure.suptitle(title_of(surfaces["random_plane"]), fontsize=10)
        files.append(save_figure(figure, folder / name, dpi=DPI))
    return files


def draw_group(probes: Path, folder: Path) -> list[Path]:
    """Draw connectivity/connectivity.png and pca/pca.png of one group, as far as they were measured.

    Returns:
        The files that were written.
    """
    record, files = whole_record(probes / "group.json"), []
    if pairs := record["pairs"]:
        panels: Panels = {}
        for first, second in (pair["seeds"] for pair in pairs):
            lines = {name: Surface.load(probes / f"{name}_{first}_{second}.npz") for name in WAYS}
            panels[f"seed {first} to seed {second}"] = partial(_draw_connections, lines)
        figure = plot_panels(panels, columns=3, size=(4.0, 3.3))
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
        files.append(_save(figure, folder / "connectivity" / "connectivity.png"))
    if planes := record["paths"]:
        panels = {title: partial(_draw_paths, probes, title, plane["paths"]) for title, plane in planes.items()}
        figure = plot_panels(panels, columns=2, size=(5.6, 4.6))
        files.append(_save(figure, folder / "pca" / "pca.png"))
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
    ax.legend(fontsize=8, framealpha=0.85)


def _positive(surface: Surface) -> bool:
    """Whether all losses are positive and finite, as a logarithmic scale requires."""
    return bool((surface.loss > 0).all() and np.isfinite(surface.loss).all())


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_figure(figure, path, dpi=DPI)
