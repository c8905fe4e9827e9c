"""Values between evaluated grid points, by radial basis functions through all of them."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import RBFInterpolator

__all__ = ["KINDS", "Kind", "interpolate"]

GLOBAL = 700  # points up to which one system of equations holds all; beyond, each value comes from its neighbours
NEIGHBOURS = 80


TRANSFORMS: dict[str, tuple[Callable, Callable]] = {
    "logarithm of the loss": (np.log, np.exp),
    "square root of the loss": (np.sqrt, np.square),
    "loss": (np.asarray, np.asarray),
}


@dataclass(frozen=True)
class Kind:
    """One way to interpolate: r^3 or r^5 through the loss or through a function of it."""

    kernel: str
    transform: str = "loss"

    def __str__(self) -> str:
        return f"{self.kernel} radial basis functions through the {self.transform}"

    def fits(self, values: np.ndarray) -> bool:
        """Whether ``values`` have the logarithm or the square root."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return bool(np.isfinite(TRANSFORMS[self.transform][0](values)).all())


KINDS = tuple(Kind(kernel, transform) for transform in TRANSFORMS for kernel in ("cubic", "quintic"))


def interpolate(kind: Kind, places: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values [Q, M] at ``wanted`` [Q, axes] of the smooth function through ``values`` [P, M] at ``places`` [P, axes].

    s(x) = sum_p w_p phi(|x - x_p|) + a quadratic, phi(r) = r^3 or r^5, with as few wiggles as a natural spline has on
    a line (Duchon 1977, "Splines minimizing rotation-invariant semi-norms in Sobolev spaces"). Where there are too few
    places for a quadratic, a plane or a constant takes its part. NaN where ``kind`` does not fit the values.
    """
    if not len(wanted):
        return np.empty((0, values.shape[1]))
    if not kind.fits(values):
        return np.full((len(wanted), values.shape[1]), np.nan)
    if len(places) < 10:
        kernel, degree = "linear", 0
    elif min(len(np.unique(axis)) for axis in places.T) < 3:  # which leaves a square undetermined
        kernel, degree = "cubic", 1
    else:
        kernel, degree = kind.kernel, 2
    forward, back = TRANSFORMS[kind.transform]
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore")  # a degree below the kernel's smallest is meant: too few points, or a line
        function = RBFInterpolator(
            places,
            forward(values),
            kernel=kernel,
            degree=degree,
            neighbors=NEIGHBOURS if len(places) > GLOBAL else None,
        )
        return back(function(wanted))
