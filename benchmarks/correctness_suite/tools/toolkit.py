"""This toolkit behind the protocol."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import landscape_lib as ll
from benchmarks.correctness_suite.protocol import Axes, Density, Direction, Estimate, Path, Picture, Subject, Tool

__all__ = ["Adapter"]

PROBES = 40


class Adapter(Tool):
    says_orthogonal = True

    def _objective(self, subject: Subject) -> Any:
        def loss(model: nn.Module, batch: Any) -> Any:
            return subject.loss(model(batch[0]), batch[1])

        size = max(len(targets) for _, targets in subject.batches)
        return ll.objective(subject.model, subject.whole, loss=loss, batch_size=size, device="cpu", dtype=subject.dtype)

    def surface(self, subject: Subject, directions: Sequence[Direction], axes: Axes) -> Picture:
        plane = ll.Plane(ll.parameters_of(subject.model), tuple(directions), networks=1)
        (a, b), sizes = ((axis[0], axis[-1]) for axis in axes), (len(axes[0]), len(axes[1]))
        surface = ll.evaluate(
            self._objective(subject), plane, alpha_range=a, beta_range=b, resolution=sizes, progress=False
        )
        assert surface.betas is not None
        return Picture(surface.alphas, surface.betas, surface.loss)

    def line(self, subject: Subject, other: nn.Module, points: int) -> Path:
        line = ll.interpolation_line(subject.model, other)
        surface = ll.evaluate(self._objective(subject), line, alpha_range=(0, 1), resolution=points, progress=False)
        return Path(surface.alphas, surface.loss)

    def loss(self, subject: Subject) -> float:
        return self._at_origin(self._objective(subject), subject)

    def _at_origin(self, objective: Any, subject: Subject) -> float:
        plane = ll.random_plane(subject.model, seed=0, normalize=None)
        return float(ll.evaluate(objective, plane, resolution=3, progress=False).loss[1, 1])

    def directions(self, subject: Subject) -> tuple[Direction, Direction]:
        first, second = ll.random_plane(subject.model, seed=0, orthogonal=True).directions
        return dict(first), dict(second)

    def random_picture(self, subject: Subject, seed: int) -> np.ndarray:
        plane = ll.random_plane(subject.model, seed=seed)
        return np.asarray(ll.evaluate(self._objective(subject), plane, resolution=3, progress=False).loss)

    def weighted_loss(self, subject: Subject, weights: Tensor) -> float:
        def loss(model: nn.Module, batch: Any) -> ll.Weighted:
            inputs, targets, own = batch
            return ll.Weighted(nn.functional.cross_entropy(model(inputs), targets, reduction="none"), own)

        size = max(len(targets) for _, targets in subject.batches)
        data = (*subject.whole, weights)
        objective = ll.objective(subject.model, data, loss=loss, batch_size=size, device="cpu")
        return self._at_origin(objective, subject)

    def _product(self, subject: Subject) -> Any:
        return ll.hessian_product(self._objective(subject), subject.model)

    def eigenvalues(self, subject: Subject, count: int) -> np.ndarray:
        return np.asarray(ll.top_eigenpairs(self._product(subject), k=count, progress=False).values)

    def trace(self, subject: Subject, seed: int) -> Estimate:
        estimate = ll.trace(self._product(subject), seed=seed, progress=False)
        return Estimate(estimate.value, error=estimate.standard_error)

    def density(self, subject: Subject, seed: int) -> Density:
        density = ll.spectral_density(self._product(subject), probes=PROBES, steps=12, seed=seed, progress=False)
        return Density(density.nodes, density.weights, len(density.nodes))

    def hessian_product(self, subject: Subject, vector: Tensor) -> Tensor:
        return torch.as_tensor(self._product(subject).matvec(vector.numpy()))

    def ggn_product(self, subject: Subject, vector: Tensor) -> Tensor:
        objective = ll.objective(subject.model, subject.whole, device="cpu", dtype=subject.dtype)
        return torch.as_tensor(ll.ggn_product(objective, subject.model).matvec(vector.numpy()))
