"""The loss around a point, in coordinates in which the neighbourhood is a plain ball or box."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.gradients import MeanLoss
from landscape.objective.objectives import Objective, check_objective
from landscape.points import Point, as_point, check_match, flatten, unflatten

__all__ = ["Neighbourhood", "NonFinite"]


class NonFinite(Exception):
    """A loss near the point is NaN or infinite; its only argument is that loss."""


class Neighbourhood:
    """y -> L(theta + T y) with a diagonal matrix T (at first the identity), all vectors flat, in float64, on the CPU.

    Made once for a point, it serves all measures there, each with a T of its own.

    Raises:
        InputError: a point of another network, or one whose own loss is not finite.
    """

    def __init__(self, objective: Objective, point: nn.Module | Point):
        check_objective(objective, "Neighbourhood(objective, model)")
        self.mean_loss, self.point = MeanLoss(objective), as_point(point)
        check_match(self.point, dict(self.mean_loss.objective.model.named_parameters()))
        self.origin = flatten(self.point)
        self.rescale({name: torch.ones_like(value) for name, value in self.point.items()})
        self.loss = self.mean_loss(self.point)
        if not math.isfinite(self.loss):
            raise InputError(
                f"the loss at the point is {self.loss}, so nothing can rise from it; is the model trained?"
            )

    def rescale(self, scale: Point) -> None:
        """Take another T; parameters of integers stay as they are."""
        self.scale = flatten({name: value * self.point[name].is_floating_point() for name, value in scale.items()})

    @property
    def description(self) -> dict[str, Any]:
        """Which data and which loss; JSON types only."""
        objective = self.mean_loss.objective
        data = {**objective.samples.description, "size": objective.size}
        return {"data": data, "objective": objective.description}

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return len(self.origin)

    def loss_at(self, y: Tensor) -> float:
        """L(theta + T y), finite or not."""
        return self.mean_loss(self._moved(y))

    def slope_at(self, y: Tensor) -> tuple[float, Tensor]:
        """L(theta + T y) and its gradient in y.

        Raises:
            NonFinite: that loss is NaN or infinite.
        """
        loss, gradient = self.mean_loss.with_gradient(self._moved(y))
        if not math.isfinite(loss):
            raise NonFinite(loss)
        return loss, self.scale * flatten(gradient)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Independent N(0, 1) for every coordinate, in ``named_parameters`` order, from float32."""
        return torch.randn(self.size, generator=generator, dtype=torch.float32).double()

    def _moved(self, y: Tensor) -> Point:
        return unflatten(self.origin + self.scale * y, self.point)
