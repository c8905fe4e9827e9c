"""Settings of measurements of curvature, named like the keywords of the functions that measure it."""

from dataclasses import dataclass
from typing import Any

from landscape.checks import check_count, check_number
from landscape.curvature.hutchinson import LEAST_PRODUCTS

__all__ = ["CurvatureSettings"]

MOST = 1_000_000  # eigenpairs, products, probes or steps


@dataclass(frozen=True, kw_only=True)
class CurvatureSettings:
    """The measurements of eigenvalues, trace and spectral density."""

    k: int = 10
    """Number of eigenpairs of the Hessian; by default those with the largest absolute eigenvalues."""
    tol: float = 1e-3
    """Largest residual |H v - l v| / |l| of an eigenpair that counts as converged."""
    relative_error: float = 0.05
    """Standard error of the trace to reach, as a share of the trace."""
    max_products: int = 300
    """Largest number of products with the Hessian for the trace."""
    probes: int = 5
    """Number of random vectors for the spectral density."""
    steps: int = 60
    """Number of Lanczos steps from each random vector."""

    def check(self) -> None:
        """Raise InputError, with one line that says what to change, if a value is out of range."""
        for name in ("k", "probes", "steps"):
            check_count(name, getattr(self, name), most=MOST)
        check_count("max_products", self.max_products, LEAST_PRODUCTS, MOST)
        for name in ("tol", "relative_error"):
            check_number(name, getattr(self, name), above=0)

    @property
    def of_eigenpairs(self) -> dict[str, Any]:
        """The keywords of `top_eigenpairs`."""
        return {"k": self.k, "tol": self.tol}

    @property
    def of_trace(self) -> dict[str, Any]:
        """The keywords of `trace`."""
        return {"relative_error": self.relative_error, "max_products": self.max_products}

    @property
    def of_density(self) -> dict[str, Any]:
        """The keywords of `spectral_density`."""
        return {"probes": self.probes, "steps": self.steps}

    @property
    def most_products(self) -> int:
        """The approximate number of products that all three measurements take at most."""
        return 6 * self.k + 30 + self.max_products + self.probes * self.steps
