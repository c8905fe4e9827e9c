"""The functions of the tool of Li et al. (2018), written anew as that tool defines them."""

import copy
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.correctness_suite.protocol import Axes, Direction, Path, Picture, Subject, Tool

__all__ = ["Adapter"]


@torch.no_grad()
def eval_loss(model: nn.Module, loss: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The mean over samples, in evaluation mode, in which the network is left."""
    model.eval()
    total, samples = 0.0, 0
    for inputs, targets in batches:
        total += loss(model(inputs), targets).item() * len(targets)
        samples += len(targets)
    return total / samples


def set_weights(model: nn.Module, weights: list[Tensor], directions: list[list[Tensor]], step: np.ndarray) -> None:
    """Directions are kept in float32."""
    for number, (parameter, weight) in enumerate(zip(model.parameters(), weights, strict=True)):
        change = torch.zeros_like(weight, dtype=torch.float32)
        for direction, length in zip(directions, step, strict=True):
            change += direction[number].float() * float(length)
        parameter.data = weight + change.to(weight.dtype)


def crunch(
    model: nn.Module, subject: Subject, directions: list[list[Tensor]], axes: Sequence[np.ndarray]
) -> np.ndarray:
    """Entry k of the flat array of shape [X, Y] belongs to point k of numpy's meshgrid, whose shape is [Y, X]."""
    weights = [value.data for value in model.parameters()]
    losses = -np.ones(tuple(len(axis) for axis in axes))
    points = np.stack([grid.ravel() for grid in np.meshgrid(*axes)], 1)
    for number, point in enumerate(points):
        set_weights(model, weights, directions, point)
        losses.ravel()[number] = eval_loss(model, subject.loss, subject.batches)
    return losses


def create_random_direction(model: nn.Module) -> list[Tensor]:
    """Gaussian, filter by filter as long as the weights; zero for parameters of one dimension ("biasbn")."""
    direction = [torch.randn(value.shape) for value in model.parameters()]
    for drawn, weight in zip(direction, model.parameters(), strict=True):
        if drawn.dim() <= 1:
            drawn.zero_()
            continue
        for row, filter_ in zip(drawn, weight.data, strict=True):
            row.mul_(filter_.norm() / (row.norm() + 1e-10))
    return direction


class Adapter(Tool):
    differs: ClassVar[dict[str, str]] = {
        "network unchanged": "a script, which ends with its own network at the last point"
    }
    remarks: ClassVar[dict[str, str]] = {
        "grid not square": "the array has the shape of the axes, but is filled in the order of a transposed grid",
        "float64": "directions are kept in float32",
    }

    def surface(self, subject: Subject, directions: Sequence[Direction], axes: Axes) -> Picture:
        losses = crunch(copy.deepcopy(subject.model), subject, [list(d.values()) for d in directions], axes)
        # It draws a square array over numpy's meshgrid, the first axis to the right: its columns belong to that axis.
        return Picture(*axes, losses.T if losses.shape[0] == losses.shape[1] else losses)

    def line(self, subject: Subject, other: nn.Module, points: int) -> Path:
        difference = [b.data - a.data for a, b in zip(subject.model.parameters(), other.parameters(), strict=True)]
        places = np.linspace(0, 1, points)
        return Path(places, crunch(copy.deepcopy(subject.model), subject, [difference], [places]))

    def loss(self, subject: Subject) -> float:
        return eval_loss(subject.model, subject.loss, subject.batches)

    def directions(self, subject: Subject) -> tuple[Direction, Direction]:
        names = [name for name, _ in subject.model.named_parameters()]
        first, second = (dict(zip(names, create_random_direction(subject.model), strict=True)) for _ in range(2))
        return first, second

    def random_picture(self, subject: Subject, seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        directions = [create_random_direction(subject.model) for _ in range(2)]
        return crunch(subject.model, subject, directions, (np.linspace(-1, 1, 3),) * 2)
