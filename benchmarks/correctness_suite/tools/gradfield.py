"""gradfield behind the protocol."""

from collections.abc import Callable
from typing import ClassVar

import gradfield as package
import numpy as np
import torch
from torch import Tensor

from benchmarks.correctness_suite.protocol import CannotAnswer, Direction, Subject, Tool

__all__ = ["Adapter"]


class Adapter(Tool):
    says_orthogonal = True
    differs: ClassVar[dict[str, str]] = {"biases and BatchNorm": "moves them, by the norm of the tensor"}
    remarks: ClassVar[dict[str, str]] = {"orthogonal directions": "two independent Gaussian directions"}

    def _landscape(self, subject: Subject, seed: int) -> Callable[..., np.ndarray]:
        torch.manual_seed(seed)
        landscape: Callable[..., np.ndarray] = package.model_loss_fn(subject.model, subject.loss, *subject.whole)
        return landscape

    def loss(self, subject: Subject) -> float:
        if len(subject.batches) > 1:
            raise CannotAnswer("takes all samples as one batch")
        return float(self._landscape(subject, 0)(0.0, 0.0))

    def directions(self, subject: Subject) -> tuple[Direction, Direction]:
        """The differences of the weights at which it evaluates."""
        points: list[dict[str, Tensor]] = []
        subject.model.register_forward_pre_hook(
            lambda model, _: points.append({name: value.clone() for name, value in model.named_parameters()})
        )
        landscape = self._landscape(subject, 0)
        for at in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
            landscape(*at)
        first, second = ({name: point[name] - points[0][name] for name in point} for point in points[1:])
        return first, second

    def random_picture(self, subject: Subject, seed: int) -> np.ndarray:
        field = package.sample_grid(self._landscape(subject, seed), (-1.0, 1.0), (-1.0, 1.0), resolution=3)
        return np.asarray(field["Z"])
