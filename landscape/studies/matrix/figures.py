"""Figures of runs and groups, from the files that their probes left; no torch."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.plotting import plot_contour, plot_density, plot_eigenvalues, plot_path, plot_slices, save_figure
from landscape.plotting.captions import title_of
from landscape.results import Eigenpairs, SpectralDensity, Surface, Trajectory
from landscape.storage.files import plain_name
from landscape.studies.matrix.records import clear_record, file_hash, is_current, whole_record, write_record
from landscape.studies.matrix.tables import WAYS

__all__ = ["FIGURES", "draw_group", "draw_once", "draw_run"]

FIGURES = "figures.json"
DPI = 110
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"  # of the colour-blind-safe set of Okabe and Ito
COLUMNS = 3  # panels of connectivity in a row


def draw_once(probes: Path, folder: Path, draw: Callable[[Path, Path], list[Path]]) -> bool:
    """Call ``draw(folder of the record probes, folder) -> files`` unless its figures are there; whether they were not.

    ``folder`` gets figures.json, written last, with the hash of the record that the figures show.
    """
    recipe = {"of": file_hash(probes)}
    if is_current(folder / FIGURES, recipe):
        return False
    clear_record(folder / FIGURES)
    write_record(folder / FIGURES, recipe, {}, draw(probes.parent, folder))
    return True


def draw_run(probes: Path, folder: Path) -> list[Path]:
    """interpolation.png, slices.png and curvature.png of one run, from its probes; none where these failed."""
    if "failed" in whole_record(probes / "probes.json"):
        return []
    surfaces = {name: Surface.load(probes / f"{name}.npz") for name in ("layer_line", "random_line", "random_plane")}
    ways = {split: Surface.load(probes / f"interpolation_{split}.npz") for split in ("train", "test")}
    figure, axes = _panels(3)
    for quantity, ax in zip(("loss", "accuracy"), axes, strict=False):
        _draw_ways(ax, {split: (way, f"{split} {quantity}") for split, way in ways.items()}, quantity)
        ax.set(title=f"initial to trained network: {quantity}", xlabel="α (0 = initial, 1 = trained)", ylabel=quantity)
    axes[2].set(title="from the trained network towards the initial one", xlabel="α (units of layer-wise norms)")
    plot_slices(surfaces["layer_line"], axes[2], log_scale=_positive(surfaces["layer_line"]))
    axes[2].locator_params(axis="x", nbins=5)
    if (legend := axes[2].get_legend()) is not None:
        legend.remove()
    files = [save_figure(figure, folder / "interpolation.png", dpi=DPI)]

    figure, axes = _panels(2)
    figure.suptitle(title_of(surfaces["random_plane"]), fontsize=10)
    axes[0].set(title="random line")
    axes[1].set(title="random plane")
    plot_slices(surfaces["random_line"], axes[0])
    plot_contour(surfaces["random_plane"], axes[1])
    files.append(save_figure(figure, folder / "slices.png", dpi=DPI))

    figure, axes = _panels(2)
    figure.suptitle(title_of(surfaces["random_plane"]), fontsize=10)
    axes[0].set(title="largest eigenvalues")
    axes[1].set(title="spectral density")
    plot_eigenvalues(Eigenpairs.load(probes / "eigenvalues.npz"), axes[0])
    plot_density(SpectralDensity.load(probes / "density.npz"), axes[1])
    return [*files, save_figure(figure, folder / "curvature.png", dpi=DPI)]


def draw_group(probes: Path, folder: Path) -> list[Path]:
    """connectivity/connectivity.png and pca/pca.png of one group, where there is what they show."""
    record, files = whole_record(probes / "group.json"), []
    if pairs := record["pairs"]:
        rows = math.ceil(len(pairs) / COLUMNS)
        figure = Figure((4.0 * min(COLUMNS, len(pairs)), 3.3 * rows), layout="constrained")
        axes = list(figure.subplots(rows, min(COLUMNS, len(pairs)), squeeze=False).flat)
        for pair, ax in zip(pairs, axes, strict=False):
            first, second = pair["seeds"]
            found = {name: Surface.load(probes / f"{name}_{first}_{second}.npz") for name in WAYS}
            _draw_ways(ax, {name: (found[name], label) for name, label in WAYS.items()}, "loss")
            ax.legend_.remove()
            ax.set(title=f"seed {first} to seed {second}", xlabel="α (0 = first, 1 = second)", ylabel="training loss")
        for ax in axes[len(pairs) :]:
            ax.remove()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
        files.append(_save(figure, folder / "connectivity" / "connectivity.png"))
    if planes := record["paths"]:
        columns = min(2, len(planes))
        figure = Figure((5.6 * columns, 4.6 * math.ceil(len(planes) / columns)), layout="constrained")
        axes = list(figure.subplots(math.ceil(len(planes) / columns), columns, squeeze=False).flat)
        for title, ax in zip(planes, axes, strict=False):
            names = [f"path_{plain_name(title)}_{plain_name(name)}" for name in planes[title]["paths"]]
            paths = [Trajectory.load(probes / f"{name}.npz") for name in names]
            surface = Surface.load(probes / f"plane_{plain_name(title)}.npz")
            plot_path(surface, paths, ax, log_scale=_positive(surface))
            ax.set_title(f"{title}\n{ax.get_title().splitlines()[-1]}", fontsize=10)
        for ax in axes[len(planes) :]:
            ax.remove()
        files.append(_save(figure, folder / "pca" / "pca.png"))
    return files


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure((4.6 * count, 3.6), layout="constrained")
    return figure, list(figure.subplots(1, count))


def _draw_ways(ax: Axes, ways: dict[str, tuple[Surface, str]], quantity: str) -> None:
    """One curve for every way, by key its surface and its name in the legend."""
    styles = zip((BLUE, ORANGE, GREEN), ("-", "--", "-."), strict=True)
    for (surface, label), (color, style) in zip(ways.values(), styles, strict=False):
        values = getattr(surface, quantity)
        ax.plot(surface.alphas, np.where(np.isfinite(values), values, np.nan), style, color=color, label=label)
    ax.legend(fontsize=8, framealpha=0.85)


def _positive(surface: Surface) -> bool:
    """Whether a logarithmic scale can show the losses."""
    return bool((surface.loss > 0).all() and np.isfinite(surface.loss).all())


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_figure(figure, path, dpi=DPI)
