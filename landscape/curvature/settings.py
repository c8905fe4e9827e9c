"""How closely curvature is measured, under the names of the keywords of the functions that measure it."""

from dataclasses import dataclass
from typing import Any

from landscape.checks import check_count, check_number
from landscape.curvature.hutchinson import LEAST_PRODUCTS

__all__ = ["CurvatureSettings"]

MOST = 1_000_000  # eigenpairs, products, probes or steps


@dataclass(frozen=True, kw_only=True)
class CurvatureSettings:
    """How many eigenvalues are computed, and how closely trace and spectral density are estimated."""

    k: int = 10
    """Eigenpairs of the Hessian, those of largest magnitude unless others are chosen."""
    tol: float = 1e-3
    """Residual |H v - l v| / |l| at which an eigenpair has converged."""
    relative_error: float = 0.05
    """Relative standard error at which the trace has converged."""
    max_products: int = 300
    """Products with the Hessian for the trace at most."""
    probes: int = 5
    """Random vectors for the spectral density."""
    steps: int = 60
    """Lanczos steps from each of them."""

    def check(self) -> None:
        """Raise InputError, with one line that says what to change, where a value is out of range."""
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
        """About how many products with the matrix all three take at most."""
        return 6 * self.k + 30 + self.max_products + self.probes * self.steps
