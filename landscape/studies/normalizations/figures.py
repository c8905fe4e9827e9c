"""The figures of the study, from its stored numbers."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.plotting import plot_comparison, plot_histories, plot_panels, plot_rows, plot_sharpness, plot_spectrum
from landscape.results import SHARPNESS_CAUTION, Sharpness, SpectralDensity, Surface
from landscape.results.summary import range_hint
from landscape.studies.normalizations.report import SHARPNESS_COLUMNS, WINDOW, smoothed_losses

__all__ = ["normalization_figures"]

Networks = Mapping[str, Sequence[dict[str, Any]]]  # normalisation -> results of one network a seed, as in the report


def normalization_figures(networks: Networks, surfaces: Mapping[str, Surface]) -> dict[str, tuple[str, Figure]]:
    """The figures of the study: name of the file without its ending -> (caption, figure).

    Args:
        networks: Normalisation -> results of one network for each seed.
        surfaces: Normalisation -> surface of the first seed.
    """
    log_scale = range_hint(list(surfaces.values())) is not None
    landscapes = plot_comparison(list(surfaces.values()), titles=list(surfaces), log_scale=log_scale)
    figures = {
        "training": ("Training and validation", _training(networks)),
        "landscapes": ("Loss over a filter-normalised random plane, first seed, on one colour scale", landscapes),
    }
    # Nothing can be measured of networks that have diverged, so figures without data are left out.
    if _measured(networks, "eigenvalues") or _measured(networks, "trace"):
        caption = "Largest eigenvalues and trace of the Hessian; bars: standard errors"
        figures["eigenvalues"] = (caption, _hessian(networks))
    if _measured(networks, "density"):
        caption = "Spectral density of the Hessian, first seed: mean over probes, and their range as a band"
        figures["densities"] = (caption, _densities(networks))
    if any(_measured(networks, measure) for measure in SHARPNESS_COLUMNS):
        figures["sharpness"] = (f"Sharpness; bars: standard errors. {SHARPNESS_CAUTION[:-1]}", _sharpness(networks))
    return figures


def _training(networks: Networks) -> Figure:
    epochs = {norm: [run["training"]["epochs"] for run in runs] for norm, runs in networks.items()}
    smooth = {norm: [smoothed_losses(history) for history in runs] for norm, runs in epochs.items()}

    def of(quantity: str) -> dict[str, list[list[float]]]:
        return {norm: [[entry[quantity] for entry in run] for run in runs] for norm, runs in epochs.items()}

    def steps(ax: Axes) -> None:
        plot_histories(smooth, ax, x_label="step", y_label="cross-entropy", first=WINDOW, log_scale=True)

    panels: dict[str, Callable[..., Any]] = {f"training loss, mean of {WINDOW} batches": steps}
    if not all(curve.size for curves in smooth.values() for curve in curves):
        panels = {"training loss": lambda ax: plot_histories(of("train_loss"), ax, y_label="cross-entropy")}
    panels["validation loss"] = lambda ax: plot_histories(of("validation_loss"), ax, y_label="cross-entropy")
    panels["validation accuracy"] = lambda ax: plot_histories(of("validation_accuracy"), ax, y_label="share")
    return plot_panels(panels, size=(4.0, 3.2))


def _hessian(networks: Networks) -> Figure:
    eigenvalues = [(norm, value, None) for norm, run in _measured(networks, "eigenvalues") for value in run["values"]]
    traces = [(norm, run["value"], run["standard_error"]) for norm, run in _measured(networks, "trace")]
    panels = {"largest eigenvalues": eigenvalues, "trace": traces}
    drawn = {title: partial(plot_rows, rows, x_label="1 / weight²") for title, rows in panels.items() if rows}
    return plot_panels(drawn, size=(4.0, 2.8))


def _densities(networks: Networks) -> Figure:
    panels: dict[str, Callable[..., Any]] = {}
    for norm, run in _measured(networks, "density"):
        nodes, weights = (np.array(run[key]) for key in ("nodes", "weights"))
        density = SpectralDensity(nodes, weights, run["products"], run["metadata"])
        panels.setdefault(norm, partial(_draw_density, density))
    return plot_panels(panels)


def _draw_density(density: SpectralDensity, ax: Axes) -> None:
    """Draw the density without its legend, for which a small panel has no room; the caption says the same."""
    if (legend := plot_spectrum(density, ax).get_legend()) is not None:
        legend.remove()


def _sharpness(networks: Networks) -> Figure:
    panels: dict[str, Callable[..., Any]] = {}
    for measure, title in SHARPNESS_COLUMNS.items():
        measured = [(norm, Sharpness(**run)) for norm, run in _measured(networks, measure)]
        if measured:
            labels, results = zip(*measured, strict=True)
            panels[f"{title}, r = {results[0].radius:g}"] = partial(plot_sharpness, results, labels=labels)
    return plot_panels(panels)


def _measured(networks: Networks, name: str) -> list[tuple[str, dict[str, Any]]]:
    """(normalisation, result) of every network for which the result ``name`` could be measured."""
    return [(norm, run[name]) for norm, runs in networks.items() for run in runs if "failed" not in run[name]]
