"""Second derivatives of the loss at one point."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from landscape.checks import is_number
from landscape.errors import InputError
from landscape.presenting import range_text, sample_text, value_text
from landscape.results.archive import Archived
from landscape.storage.arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Eigenpairs", "SpectralDensity", "TraceEstimate"]

BELOW_WIDTH = 1e-12  # share of the largest |node|; a spectrum with a smaller range counts as one point


@dataclass(frozen=True, eq=False, repr=False)
class Eigenpairs(Archived):
    """k eigenvalues l_i with unit eigenvectors v_i of a symmetric D x D matrix H, in the requested order."""

    called = "eigenpairs"
    forms: ClassVar = {
        "values": Array("k"),
        "residuals": Array("k", low=0),
        "converged": Array("k", kinds="b"),
        "vectors": Array("k D"),
        "products": Array("", kinds="iu", low=0),
    }

    values: np.ndarray  # [k] float64, Rayleigh quotients v_i^T H v_i
    residuals: np.ndarray  # [k] float64, |H v_i - l_i v_i| / |l_i|; an eigenvalue lies within residual x |l_i| of l_i
    converged: np.ndarray  # [k] bool, residual is at most the requested one, and no eigenvalue farther out was missed
    vectors: np.ndarray  # [k, D] float32, parameters flattened and concatenated in the order of the metadata
    products: int  # number of products with the matrix
    metadata: dict[str, Any]  # operator, parameters {name: shape}, which, tol, seed, data, objective, seconds

    @property
    def facts(self) -> dict[str, str]:
        count, size = self.vectors.shape
        return {
            "values": f"{range_text(self.values)} ({count:,} of {size:,})",
            "residuals": range_text(self.residuals),
            "converged": f"{int(self.converged.sum()):,} of {count:,}",
            "products": f"{self.products:,}",
            "matrix": str(self.metadata.get("operator") or ""),
            "of": sample_text(self.metadata),
        }

    def draw(self, ax: "Axes") -> None:
        from landscape.plotting import plot_spectrum  # here, because results are used without matplotlib as well

        plot_spectrum(self, ax)


@dataclass(frozen=True, eq=False, repr=False)
class TraceEstimate(Archived):
    """An estimate of the trace of a symmetric D x D matrix by random probes."""

    called = "trace"
    forms: ClassVar = {
        "value": Array(""),
        "standard_error": Array("", low=0),
        "products": Array("", kinds="iu", low=0),
        "converged": Array("", kinds="b"),
        "samples": Array("n"),
    }

    value: float  # the estimate
    standard_error: float  # standard deviation of the samples / sqrt(n)
    products: int  # number of products with the matrix
    converged: bool  # whether the standard error is at most the requested share of |value|
    samples: np.ndarray  # [n] float64, unbiased estimates of the trace, whose mean is the value
    metadata: dict[str, Any]  # method, relative_error, seed, operator, parameters {name: shape}, data, seconds

    @property
    def facts(self) -> dict[str, str]:
        return {
            "value": value_text(self.value, self.standard_error),
            "samples": f"{len(self.samples):,}",
            "products": f"{self.products:,}",
            "converged": "yes" if self.converged else "no",
            "matrix": str(self.metadata.get("operator") or ""),
            "of": sample_text(self.metadata),
        }

    def draw(self, ax: "Axes") -> None:
        from landscape.plotting import plot_rows  # here, because results are used without matplotlib as well

        plot_rows([("trace", self.value, self.standard_error)], ax)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Both ends of the confidence interval of the trace, value -+ t standard_error.

        t is the quantile of Student's distribution with n - 1 degrees of freedom, for n samples.

        Raises:
            InputError: ``confidence`` is not between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise InputError(f"confidence is a probability between 0 and 1, not {confidence}")
        from scipy.stats import t

        half = float(t.ppf((1 + confidence) / 2, len(self.samples) - 1)) * self.standard_error
        return self.value - half, self.value + half


@dataclass(frozen=True, eq=False, repr=False)
class SpectralDensity(Archived):
    """The distribution of the eigenvalues of a symmetric D x D matrix, as quadrature rules of P random probes."""

    called = "spectral density"
    forms: ClassVar = {
        "nodes": Array("P m", finite=True),
        "weights": Array("P m", finite=True, low=0),
        "products": Array("", kinds="iu", low=0),
    }

    nodes: np.ndarray  # [P, m] float64, Ritz values of each probe, increasing
    weights: np.ndarray  # [P, m] float64, quadrature weight of each node; every row sums to one
    products: int  # number of products with the matrix
    metadata: dict[str, Any]  # steps, seed, operator, parameters {name: shape}, data, objective, seconds

    @property
    def facts(self) -> dict[str, str]:
        probes, nodes = self.nodes.shape
        return {
            "eigenvalues": range_text(self.nodes),
            "probes": f"{probes:,} of {nodes:,} nodes",
            "products": f"{self.products:,}",
            "matrix": str(self.metadata.get("operator") or ""),
            "of": sample_text(self.metadata),
        }

    def draw(self, ax: "Axes") -> None:
        from landscape.plotting import plot_spectrum  # here, because results are used without matplotlib as well

        plot_spectrum(self, ax)

    def curve(
        self, grid: np.ndarray | None = None, width: float | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The density smoothed by Gaussians, as (grid, mean, lowest and highest density over the probes), each [G].

        The density of a probe is sum_i w_i N(x; node_i, width^2). The mean integrates to one over all real numbers, and
        over the default grid, which extends six widths beyond the nodes.

        Args:
            grid: Points x [G]; by default 2,001 equidistant ones.
            width: Standard deviation of the Gaussians; by default a hundredth of the range of the nodes.

        Raises:
            InputError: The width is not positive.
        """
        low, high = float(self.nodes.min()), float(self.nodes.max())
        if width is None:
            size = max(abs(low), abs(high)) or 1.0
            width = 0.01 * (high - low if high - low > BELOW_WIDTH * size else size)
        if not is_number(width) or not width > 0:
            raise InputError(f"the width of a density must be positive, not {width}")
        grid = np.linspace(low - 6 * width, high + 6 * width, 2001) if grid is None else np.asarray(grid, np.float64)
        heights = np.stack([_heights(*probe, grid, width) for probe in zip(self.nodes, self.weights, strict=True)])
        return grid, heights.mean(0), heights.min(0), heights.max(0)


def _heights(nodes: np.ndarray, weights: np.ndarray, grid: np.ndarray, width: float) -> np.ndarray:
    """sum_i w_i N(grid; node_i, width^2)."""
    bells = np.exp(-(((grid[:, None] - nodes) / width) ** 2) / 2)
    heights: np.ndarray = bells @ weights / (width * np.sqrt(2 * np.pi))
    return heights
