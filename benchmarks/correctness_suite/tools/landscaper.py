"""landscaper behind the protocol."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from landscaper import LossLandscape, PyHessian
from landscaper.utils import generate_random_orthogonal_directions
from torch import nn

from benchmarks.correctness_suite.protocol import (
    Axes,
    CannotAnswer,
    Density,
    Direction,
    Estimate,
    Picture,
    Subject,
    Tool,
)

__all__ = ["Adapter"]

TOLERANCE, PROBES = 0.05, 40


class Adapter(Tool):
    says_orthogonal = True
    differs: ClassVar[dict[str, str]] = {
        "filter norms": "rescales every tensor to the square root of its size, then all to the norm of the network",
        "biases and BatchNorm": "moves them, as every tensor",
        "trace": "takes its tolerance for that between two estimates in turn, which says little about their error",
        "negative trace": "takes its tolerance for that between two estimates in turn",
        "network unchanged": "the caller's loss function decides on the mode",
    }
    remarks: ClassVar[dict[str, str]] = {
        "given directions": "n - 1 steps of 2 / n of the range, drawn on an axis over the whole range; noise is added "
        "to the largest loss",
        "NaN": "replaced by the mean",
        "orthogonal directions": "the first direction is taken for one of length 1",
        "float64 eigenvalue": "vectors are divided by their norm plus 1e-6",
    }

    def surface(self, subject: Subject, directions: Sequence[Direction], axes: Axes) -> Picture:
        """Its coordinates are shares of |theta| along directions that it rescales to length |theta|."""
        if not all(np.array_equal(axis, -axis[::-1]) for axis in axes) or axes[0][-1] != axes[1][-1]:
            raise CannotAnswer("ranges around the network only, one for both axes")
        if len(axes[0]) != len(axes[1]):
            raise CannotAnswer("one number of points for both axes")
        unit = _norm(subject.model.parameters()) / _norm(directions[0].values())  # both directions are equally long
        flat = [list(direction.values()) for direction in directions]
        landscape = self._landscape(subject, flat, len(axes[0]), float(axes[0][-1]) / unit)
        alphas, betas = (np.asarray(coordinates) * unit for coordinates in landscape.ranges)
        return Picture(alphas, betas, np.asarray(landscape.loss))

    def directions(self, subject: Subject) -> tuple[Direction, Direction]:
        torch.manual_seed(0)
        names = [name for name, _ in subject.model.named_parameters()]
        first, second = generate_random_orthogonal_directions(subject.model, 2)
        return dict(zip(names, first, strict=True)), dict(zip(names, second, strict=True))

    def random_picture(self, subject: Subject, seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        np.random.seed(seed)  # of the noise
        directions = generate_random_orthogonal_directions(subject.model, 2)
        return np.asarray(self._landscape(subject, directions, 3, 1.0).loss)

    def _landscape(self, subject: Subject, directions: Any, steps: int, distance: float) -> Any:
        def loss(model: nn.Module, data: Any) -> float:
            return float(subject.loss(model(data[0]), data[1]))

        return LossLandscape.compute(
            subject.model, subject.whole, directions, loss, steps=steps, distance=distance, dim=2, device="cpu"
        )

    def _hessian(self, subject: Subject) -> Any:
        return PyHessian(subject.model, subject.loss, subject.batches, "cpu")

    def eigenvalues(self, subject: Subject, count: int) -> np.ndarray:
        torch.manual_seed(0)
        return np.array(self._hessian(subject).eigenvalues(maxIter=2000, tol=1e-7, top_n=count)[0])

    def trace(self, subject: Subject, seed: int) -> Estimate:
        torch.manual_seed(seed)
        value = float(self._hessian(subject).trace(maxIter=5000, tol=TOLERANCE))
        return Estimate(value, error=TOLERANCE * abs(value))

    def density(self, subject: Subject, seed: int) -> Density:
        """It returns all squared entries of the eigenvectors; the weights are the first row."""
        torch.manual_seed(seed)
        nodes, weights = self._hessian(subject).density(iter=12, n_v=PROBES)
        return Density(np.array(nodes).real, np.array([probe[0] for probe in weights]).real, PROBES)


def _norm(tensors: Any) -> float:
    return math.sqrt(sum(float((tensor.detach().double() ** 2).sum()) for tensor in tensors))
