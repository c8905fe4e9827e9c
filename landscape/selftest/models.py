"""The small networks and losses of the checks."""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Quadratic", "Two", "batch_norm_network", "classification", "relu_network", "scaled_quadratic"]


class Quadratic(nn.Module):
    """A network whose only parameter is the argument w [rows, columns] of a quadratic function."""

    hessian: Tensor
    minimum: Tensor

    def __init__(self, hessian: np.ndarray, rows: int, centre: float = 0.0):
        super().__init__()
        size = len(hessian)
        generator = torch.Generator().manual_seed(5)
        self.weight = nn.Parameter(torch.randn(rows, size // rows, generator=generator, dtype=torch.float64))
        self.register_buffer("hessian", torch.as_tensor(hessian))
        self.register_buffer("minimum", torch.full((size,), centre, dtype=torch.float64))

    def value(self) -> Tensor:
        """(w - c)^T H (w - c) / 2."""
        away = self.weight.flatten() - self.minimum
        return away @ self.hessian @ away / 2


class Two(Quadratic):
    """The same function of two parameters [rows, columns]: the first and the second half of w."""

    def __init__(self, hessian: np.ndarray, rows: int):
        super().__init__(hessian, rows)
        self.weight, self.other = map(nn.Parameter, self.weight.detach().clone().flatten().reshape(2, rows, -1))

    def value(self) -> Tensor:
        away = torch.cat([self.weight.flatten(), self.other.flatten()]) - self.minimum
        return away @ self.hessian @ away / 2


def scaled_quadratic(model: nn.Module, batch: Any) -> Tensor:
    """Losses f_n q(w) of samples that are numbers f_n."""
    assert isinstance(model, Quadratic)
    (factors,) = batch
    losses: Tensor = factors * model.value()
    return losses


def relu_network(seed: int, widths: tuple[int, ...] = (6, 9, 7, 3)) -> nn.Sequential:
    """Fully connected layers with ReLU in between, all parameters random."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return _filled(nn.Sequential(*layers[:-1]), seed)


def batch_norm_network(seed: int) -> nn.Sequential:
    """Two linear layers with BatchNorm in between, whose statistics belong to other data."""
    return _filled(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)), seed)


def classification(samples: int, features: int = 6, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gaussian inputs and random labels."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, features, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(0, classes, (samples,), generator=generator)


def _filled(model: nn.Sequential, seed: int) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(1, parameter.shape[-1]) ** 0.5)
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + ("var" in name))
    return model.double().eval()
