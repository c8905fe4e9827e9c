"""Values between evaluated grid points, by radial basis functions through all of them."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import RBFInterpolator

__all__ = ["KINDS", "Kind", "interpolate"]

GLOBAL = 700  # points up to which one system of equations holds all; beyond, each value comes from its neighbours
NEIGHBOURS = 80


@dataclass(frozen=True)
class Kind:
    """One way to interpolate: r^3 or r^5 through the values or through their logarithms."""

    kernel: str
    logarithm: bool

    def __str__(self) -> str:
        return f"{self.kernel} radial basis functions through the {'logarithm of the ' if self.logarithm else ''}loss"


KINDS = tuple(Kind(kernel, logarithm) for logarithm in (True, False) for kernel in ("cubic", "quintic"))


def interpolate(kind: Kind, places: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values [Q, M] at ``wanted`` [Q, axes] of the smooth function through ``values`` [P, M] at ``places`` [P, axes].

    s(x) = sum_p w_p phi(|x - x_p|) + a quadratic, phi(r) = r^3 or r^5, with as few wiggles as a natural spline has on
    a line (Duchon 1977, "Splines minimizing rotation-invariant semi-norms in Sobolev spaces"). Where there are too few
    places for a quadratic, a plane or a constant takes its part. NaN where the logarithm does not exist.
    """
    if not len(wanted):
        return np.empty((0, values.shape[1]))
    if kind.logarithm and not (values > 0).all():
        return np.full((len(wanted), values.shape[1]), np.nan)
    if len(places) < 10:
        kernel, degree = "linear", 0
    elif min(len(np.unique(axis)) for axis in places.T) < 3:  # which leaves a square undetermined
        kernel, degree = "cubic", 1
    else:
        kernel, degree = kind.kernel, 2
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore")  # a degree below the kernel's smallest is meant: too few points, or a line
        function = RBFInterpolator(
            places,
            np.log(values) if kind.logarithm else values,
            kernel=kernel,
            degree=degree,
            neighbors=NEIGHBOURS if len(places) > GLOBAL else None,
        )
        found = function(wanted)
        return np.exp(found) if kind.logarithm else found
