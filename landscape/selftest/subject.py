"""What the checks are run on: the functions of the toolkit, each of which another can stand in for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from landscape.connectivity import align, barrier
from landscape.curvature import (
    eigenvector_plane,
    ggn_product,
    hessian_product,
    spectral_density,
    top_eigenpairs,
    trace,
)
from landscape.evaluation import evaluate
from landscape.objective.objectives import objective
from landscape.sharpness import sharpness
from landscape.slices.curves import Curve
from landscape.slices.interpolations import interpolation_line, three_point_plane
from landscape.slices.random_slices import random_line, random_plane
from landscape.trajectories import pca_plane, project

__all__ = ["TOOLKIT", "Place", "Toolkit"]


@dataclass(frozen=True)
class Toolkit:
    """The functions that are checked. A defect in one of them is told by the checks that use it."""

    objective: Callable[..., Any] = objective
    evaluate: Callable[..., Any] = evaluate
    random_line: Callable[..., Any] = random_line
    random_plane: Callable[..., Any] = random_plane
    interpolation_line: Callable[..., Any] = interpolation_line
    three_point_plane: Callable[..., Any] = three_point_plane
    curve: Callable[..., Any] = Curve.through
    pca_plane: Callable[..., Any] = pca_plane
    eigenvector_plane: Callable[..., Any] = eigenvector_plane
    hessian_product: Callable[..., Any] = hessian_product
    ggn_product: Callable[..., Any] = ggn_product
    top_eigenpairs: Callable[..., Any] = top_eigenpairs
    trace: Callable[..., Any] = trace
    spectral_density: Callable[..., Any] = spectral_density
    sharpness: Callable[..., Any] = sharpness
    align: Callable[..., Any] = align
    barrier: Callable[..., Any] = barrier
    project: Callable[..., Any] = project


TOOLKIT = Toolkit()


@dataclass(frozen=True)
class Place:
    """Where the checks run, and in which arithmetic."""

    device: torch.device
    dtype: torch.dtype

    @property
    def options(self) -> dict[str, Any]:
        """For `objective`."""
        return {"device": self.device, "dtype": self.dtype}

    def tolerance(self, float64: float) -> float:
        """The allowed relative difference: ``float64`` in that arithmetic, more by the ratio of the precisions else."""
        if self.dtype == torch.float64:
            return float64
        return max(1e-4, float64 * torch.finfo(self.dtype).eps / torch.finfo(torch.float64).eps)
