"""Eigenvalues and the spectral density."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from typing_extensions import Unpack

from landscape.errors import InputError, InputTypeError
from landscape.plotting.axes import axes_or_new, draw_legend, label_axes, limit_values
from landscape.plotting.captions import title_of
from landscape.plotting.looks import Look, ValueLook, look_of
from landscape.plotting.palette import BLUE, VERMILLION
from landscape.plotting.sizes import ink, scaled, setting
from landscape.results import Eigenpairs, SpectralDensity

__all__ = ["plot_spectrum"]

NAMES = {"hessian": "Hessian", "ggn": "Gauss-Newton matrix", "hessian by finite differences": "Hessian (differences)"}
DECADES = 7  # of the vertical axis below the peak of a density


def plot_spectrum(
    spectrum: Eigenpairs | SpectralDensity,
    ax: Axes | None = None,
    *,
    width: float | None = None,
    **look: Unpack[ValueLook],
) -> Axes:
    """Draw eigenvalues, or a spectral density.

    Each eigenvalue is a stem with an error bar of residual x |eigenvalue|, which contains a true eigenvalue. Markers of
    eigenvalues that have not converged are hollow; negative eigenvalues have another colour.

    A density is drawn on a logarithmic scale: its mean over the probes, and the range over all of them.

    Args:
        spectrum: The eigenpairs, or the nodes and weights of the quadrature of a density.
        ax: Axes to draw into; None makes a new figure of pyplot.
        width: Standard deviation of the Gaussian that widens every node of a density, see `SpectralDensity.curve`.
        look: ``title``, ``vmin`` and ``vmax``, see `ValueLook`.

    Raises:
        InputError: ``spectrum`` is neither; a width is given for eigenvalues, or is not positive; or the density is
            not finite.
    """
    shown = look_of("plot_spectrum", ValueLook, look)
    if isinstance(spectrum, SpectralDensity):
        return _draw_density(spectrum, ax, width, shown)
    if not isinstance(spectrum, Eigenpairs):
        raise InputTypeError(
            "plot_spectrum takes eigenpairs (ll.top_eigenpairs(product)) or a spectral density "
            f"(ll.spectral_density(product)), not {type(spectrum).__name__}"
        )
    if width is not None:
        raise InputError("a width belongs to a spectral density, and these are eigenvalues; leave it out")
    return _draw_eigenvalues(spectrum, ax, shown)


def _draw_eigenvalues(pairs: Eigenpairs, ax: Axes | None, look: Look) -> Axes:
    ax = axes_or_new(ax, (5.6, 3.8))
    numbers = np.arange(1, len(pairs.values) + 1)
    ax.axhline(0, color=ink(0.4), linewidth=scaled(0.8), zorder=0.5)
    ax.errorbar(
        numbers, pairs.values, yerr=pairs.residuals * np.abs(pairs.values), fmt="none", ecolor=ink(1),
        elinewidth=scaled(1), capsize=scaled(3), zorder=3, label="± residual",
    )  # fmt: skip
    for sign, color in ((1, BLUE), (-1, VERMILLION)):
        for converged in (True, False):
            mask = (np.where(pairs.values < 0, -1, 1) == sign) & (pairs.converged == converged)
            if mask.any():
                ax.vlines(numbers[mask], 0, pairs.values[mask], color=color, linewidth=scaled(1.2))
                label = ("positive" if sign > 0 else "negative") + ("" if converged else ", not converged")
                ax.plot(
                    numbers[mask], pairs.values[mask], "o", color=color, markersize=scaled(5), label=label,
                    markerfacecolor=color if converged else setting("axes.facecolor"),
                )  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.margins(y=0.08)
    limit_values(ax, look)
    draw_legend(ax)
    label_axes(
        ax, title_of(pairs), "number of the eigenpair", f"eigenvalue of the {_matrix(pairs.metadata)}", look=look
    )
    return ax


def _draw_density(density: SpectralDensity, ax: Axes | None, width: float | None, look: Look) -> Axes:
    grid, mean, low, high = density.curve(width=width)
    if not np.isfinite(mean).all():
        raise InputError("the density is not finite; compute it again")
    ax = axes_or_new(ax, (5.6, 3.8))
    floor = mean.max() * 10.0**-DECADES
    ax.set_yscale("log")
    probes = len(density.nodes)
    if probes > 1:
        ax.fill_between(
            grid, np.maximum(low, floor), np.maximum(high, floor), color=BLUE, alpha=0.25, linewidth=0,
            label=f"lowest to highest of {probes} probes",
        )  # fmt: skip
    ax.plot(grid, mean, color=BLUE, linewidth=scaled(1.4), label="mean" if probes > 1 else "one probe")
    ax.set_ylim(floor, max(high.max(), mean.max()) * 3)
    limit_values(ax, look)
    draw_legend(ax, loc="upper right")
    label_axes(
        ax, title_of(density), f"eigenvalue of the {_matrix(density.metadata)}", "density (log scale)", look=look
    )
    return ax


def _matrix(metadata: dict[str, Any]) -> str:
    return NAMES.get(str(metadata.get("operator")), "matrix")
