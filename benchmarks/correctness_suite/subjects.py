"""The networks, losses and data of the questions, with exact answers from numpy or dense derivatives."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.correctness_suite.protocol import Direction, Subject
from landscape.selftest.checks.quadratics import FACTORS, hessian
from landscape.selftest.models import Quadratic, batch_norm_network, classification, relu_network

__all__ = [
    "Logarithm",
    "classifier",
    "dense_matrices",
    "flat_directions",
    "quadratic",
    "quadratic_losses",
    "softmax_regression",
]

MEAN_FACTOR = float(FACTORS.mean())
SIZES = (4, 3)  # of the batches of a quadratic


class QuadraticNetwork(Quadratic):
    """A network whose outputs are f_n q(w) for the inputs f_n."""

    def forward(self, factors: Tensor) -> Tensor:
        return factors * self.value()


class Mean(nn.Module):
    """The mean of the outputs; the targets play no part."""

    reduction = "mean"

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.mean()


class Logarithm(Mean):
    """The mean logarithm of the outputs, which is NaN where they are negative; counts how often it is."""

    def __init__(self) -> None:
        super().__init__()
        self.gaps = 0

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        value = outputs.log().mean()
        self.gaps += int(value.isnan())
        return value


def quadratic(
    matrix: np.ndarray | None = None, *, dtype: torch.dtype = torch.float32, batches: Sequence[int] = (sum(SIZES),)
) -> Subject:
    """Samples f_n q(w), where q has the given Hessian; ``batches`` are the sizes of the batches."""
    matrix = hessian() if matrix is None else matrix
    model = QuadraticNetwork(matrix, rows=3).to(dtype).eval()
    factors = FACTORS.to(dtype)
    targets = torch.zeros(len(factors), dtype=torch.long)
    return Subject(model, Mean(), list(zip(factors.split(batches), targets.split(batches), strict=True)))


def flat_directions(subject: Subject) -> list[Direction]:
    """Two given directions of length 1 through a quadratic."""
    generator = torch.Generator().manual_seed(11)
    (name, weight), directions = next(iter(subject.model.named_parameters())), []
    for _ in range(2):
        drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        directions.append({name: (drawn / drawn.norm()).to(weight.dtype)})
    return directions


def quadratic_losses(subject: Subject, directions: Sequence[Direction], axes: Sequence[np.ndarray]) -> np.ndarray:
    """mean_n f_n q(w + a d_1 + b d_2) at every point of the grid [A, B], by numpy."""
    model = subject.model
    assert isinstance(model, Quadratic)
    flat = [value.detach().double().numpy().ravel() for value in (model.weight, *(d["weight"] for d in directions))]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    away = flat[0] + grid @ np.stack(flat[1:])
    values = np.einsum("...i,ij,...j->...", away, model.hessian.double().numpy(), away) / 2
    return np.asarray(values * MEAN_FACTOR)


def classifier(
    kind: str = "relu", *, samples: int = 23, batches: Sequence[int] | None = None, dtype: torch.dtype = torch.float32
) -> Subject:
    """A small network with three classes: "relu", "tanh", or "batch norm"."""
    if kind == "batch norm":
        model = batch_norm_network(3)
    else:
        model = relu_network(1, (6, 5, 3) if kind == "tanh" else (6, 9, 7, 3))
        if kind == "tanh":
            model = nn.Sequential(*(nn.Tanh() if isinstance(layer, nn.ReLU) else layer for layer in model))
    inputs, targets = classification(samples)
    inputs, batches = inputs.to(dtype), [samples] if batches is None else list(batches)
    pairs = list(zip(inputs.split(batches), targets.split(batches), strict=True))
    return Subject(model.to(dtype).eval(), nn.CrossEntropyLoss(), pairs)


def softmax_regression(classes: int = 3, features: int = 7) -> tuple[Subject, np.ndarray]:
    """Softmax regression at zero weights, and the eigenvalues l_i(S) / K, each K - 1 times, of its Hessian."""
    inputs, targets = classification(60, features=features, classes=classes)
    model = nn.Linear(features, classes, bias=False)
    nn.init.zeros_(model.weight)
    values = np.linalg.eigvalsh((inputs.T @ inputs / len(inputs)).numpy())[::-1]
    subject = Subject(model.eval(), nn.CrossEntropyLoss(), [(inputs.float(), targets)])
    return subject, np.repeat(values, classes - 1) / classes


def dense_matrices(subject: Subject) -> tuple[Tensor, Tensor]:
    """The Hessian and the Gauss-Newton matrix in float64, by dense automatic differentiation over all samples."""
    inputs, targets = subject.whole
    names = [name for name, _ in subject.model.named_parameters()]
    shapes = [value.shape for value in subject.model.parameters()]
    flat = torch.cat([value.detach().double().flatten() for value in subject.model.parameters()])

    def outputs(weights: Tensor) -> Tensor:
        pieces = weights.split([shape.numel() for shape in shapes])
        point = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        logits: Tensor = torch.func.functional_call(subject.model, point, (inputs.double(),))
        return logits

    def loss(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets)

    whole = torch.autograd.functional.hessian(lambda weights: loss(outputs(weights)), flat)
    jacobian = torch.autograd.functional.jacobian(outputs, flat).flatten(0, 1)
    logits = outputs(flat)
    inner = torch.autograd.functional.hessian(lambda z: loss(z.view_as(logits)), logits.flatten())
    return whole, jacobian.T @ inner @ jacobian
