"""loss-landscape-3d behind the protocol."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from loss_landscape_3d import LossLandscapeCalculator, generate_hessian_directions, generate_random_directions
from loss_landscape_3d.directions import compute_hvp
from torch import Tensor, nn

from benchmarks.correctness_suite.protocol import Axes, CannotAnswer, Direction, Path, Picture, Subject, Tool

__all__ = ["Adapter"]


class Adapter(Tool):
    differs: ClassVar[dict[str, str]] = {
        "biases and BatchNorm": "moves them, by the norm of the tensor",
        "unequal batches": "says that products are averaged over batches",
    }
    remarks: ClassVar[dict[str, str]] = {
        "BatchNorm statistics": "directions lead through running means and variances, which become negative",
        "network unchanged": "left in evaluation mode",
    }

    def _calculator(self, subject: Subject) -> LossLandscapeCalculator:
        return LossLandscapeCalculator(subject.model, subject.batches, subject.loss)

    def surface(self, subject: Subject, directions: Sequence[Direction], axes: Axes) -> Picture:
        state = {name: value.clone() for name, value in subject.model.state_dict().items()}
        return Picture(*axes, self._calculator(subject).calculate(*axes, *directions, center_state=state))

    def line(self, subject: Subject, other: nn.Module, points: int) -> Path:
        states = ({n: v.clone() for n, v in model.state_dict().items()} for model in (subject.model, other))
        places = np.linspace(0, 1, points)
        return Path(places, self._calculator(subject).calculate_1d_path(places, *states))

    def loss(self, subject: Subject) -> float:
        zero = {name: torch.zeros_like(value) for name, value in subject.model.named_parameters()}
        return float(self.surface(subject, (zero, zero), (np.zeros(1), np.zeros(1))).loss[0, 0])

    def directions(self, subject: Subject) -> tuple[Direction, Direction]:
        torch.manual_seed(0)
        first, second = generate_random_directions(subject.model, normalize=True)
        return first, second

    def random_picture(self, subject: Subject, seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        directions = generate_random_directions(subject.model, normalize=True)
        return self.surface(subject, directions, (np.linspace(-1, 1, 3),) * 2).loss

    def eigenvalues(self, subject: Subject, count: int) -> np.ndarray:
        """Rayleigh quotients of the two eigenvectors that it gives as directions."""
        if count > 2:
            raise CannotAnswer("two eigenvectors at most")
        torch.manual_seed(0)
        vectors = generate_hessian_directions(
            subject.model, subject.batches, subject.loss, max_batches=None, max_iter=2000, tol=1e-9
        )[:count]
        products = [self._product(subject, vector) for vector in vectors]
        return np.array([sum(float((h[n] * v[n]).sum()) for n in h) for v, h in zip(vectors, products, strict=True)])

    def _product(self, subject: Subject, vector: Direction) -> Direction:
        product: Direction = compute_hvp(subject.model, subject.batches, subject.loss, vector, "cpu", max_batches=None)
        return product

    def hessian_product(self, subject: Subject, vector: Tensor) -> Tensor:
        shapes = {name: value.shape for name, value in subject.model.named_parameters()}
        pieces = vector.split([shape.numel() for shape in shapes.values()])
        direction = {name: piece.view(shapes[name]) for name, piece in zip(shapes, pieces, strict=True)}
        return torch.cat([value.flatten() for value in self._product(subject, direction).values()])
