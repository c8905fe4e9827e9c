"""nngeom behind the protocol."""

from collections.abc import Sequence
from typing import ClassVar

import nngeom as package
import numpy as np
import torch
from nngeom.probes import filter_normalize, orthogonalize, random_direction
from torch import Tensor, nn

from benchmarks.correctness_suite.protocol import Axes, CannotAnswer, Direction, Estimate, Path, Picture, Subject, Tool

__all__ = ["Adapter"]

PROBES = 100


class Adapter(Tool):
    says_orthogonal = True
    differs: ClassVar[dict[str, str]] = {
        "filter norms": "describes its filter normalisation as layer by layer",
        "biases and BatchNorm": "moves them, by the norm of the tensor",
    }
    remarks: ClassVar[dict[str, str]] = {
        "orthogonal directions": "orthogonalised before the normalisation, which undoes it",
    }

    def _model(self, subject: Subject, module: nn.Module | None = None) -> package.Model:
        return package.Model(module or subject.model, loss_fn=lambda m, b: subject.loss(m(b[0]), b[1]))

    def surface(self, subject: Subject, directions: Sequence[Direction], axes: Axes) -> Picture:
        if not all(np.array_equal(axis, -axis[::-1]) for axis in axes) or len(axes[0]) != len(axes[1]):
            raise CannotAnswer("ranges around the network only, one for both axes")
        flat = [torch.cat([v.flatten() for v in d.values()]).double().numpy() for d in directions]
        surface = package.plane_slice_2d(
            self._model(subject), subject.whole, span=float(axes[0][-1]), steps=len(axes[0]), directions=flat
        )
        return Picture(surface.alphas, surface.betas, surface.losses.T)

    def line(self, subject: Subject, other: nn.Module, points: int) -> Path:
        models = self._model(subject), self._model(subject, other)
        curve = package.linear_interpolation(*models, subject.whole, steps=points)
        return Path(curve.alphas, curve.losses)

    def loss(self, subject: Subject) -> float:
        if len(subject.batches) > 1:
            raise CannotAnswer("takes all samples as one batch")
        return float(self._model(subject).loss(subject.whole))

    def directions(self, subject: Subject) -> tuple[Direction, Direction]:
        """As `plane_slice_2d` makes them, from the same public functions."""
        model = self._model(subject)
        flat = orthogonalize([random_direction(model, seed=seed) for seed in (0, 1)])
        first, second = (_pieces(subject, torch.from_numpy(filter_normalize(d, model))) for d in flat)
        return first, second

    def random_picture(self, subject: Subject, seed: int) -> np.ndarray:
        return np.asarray(package.plane_slice_2d(self._model(subject), subject.whole, steps=3, seed=seed).losses)

    def eigenvalues(self, subject: Subject, count: int) -> np.ndarray:
        if len(subject.batches) > 1:
            raise CannotAnswer("takes all samples as one batch")
        spectrum = package.power_iteration(self._model(subject), subject.whole, k=count, iters=2000, tol=1e-12, seed=0)
        return np.asarray(spectrum.eigenvalues)

    def trace(self, subject: Subject, seed: int) -> Estimate:
        value = package.hutchinson_trace(self._model(subject), subject.whole, n_samples=PROBES, seed=seed)
        return Estimate(value, probes=PROBES)

    def hessian_product(self, subject: Subject, vector: Tensor) -> Tensor:
        return torch.from_numpy(self._model(subject).hvp(subject.whole, vector.numpy()))


def _pieces(subject: Subject, flat: Tensor) -> Direction:
    shapes = {name: value.shape for name, value in subject.model.named_parameters()}
    pieces = flat.split([shape.numel() for shape in shapes.values()])
    return {name: piece.view(shape) for piece, (name, shape) in zip(pieces, shapes.items(), strict=True)}
