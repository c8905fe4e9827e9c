"""The loss around a point, in coordinates in which the neighbourhood is a plain ball or box."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.gradients import MeanLoss
from landscape.objective.objectives import Objective, check_objective
from landscape.points import Point, as_point, check_match, flatten, unflatten
from landscape.slices.chosen import chosen_parameters, entries_of

__all__ = ["Neighbourhood", "NonFinite"]


class NonFinite(Exception):
    """A loss near the point is NaN or infinite; its only argument is that loss."""


class Neighbourhood:
    """y -> L(theta + T y) with a diagonal matrix T (at first the identity), all vectors flat, in float64, on the CPU.

    Made once for a point, it serves all measures there, each with a T of its own. Where ``parameters`` are chosen, y
    holds only those; the others stay where they are. ``moved`` is the point as far as y moves it.

    Raises:
        InputError: a point of another network, or one whose own loss is not finite.
    """

    def __init__(self, objective: Objective, point: nn.Module | Point, parameters: str | Sequence[str] | None = None):
        check_objective(objective, "Neighbourhood(objective, model)")
        self.point = as_point(point)
        check_match(self.point, dict(objective.model.named_parameters()))
        self.parameters = None if parameters is None else entries_of(parameters)
        names = self.point if parameters is None else chosen_parameters(point, parameters)
        self.moved = {name: self.point[name] for name in names}
        self.mean_loss = MeanLoss(objective, self.moved)
        self.origin = flatten(self.moved)
        self.rescale({name: torch.ones_like(value) for name, value in self.moved.items()})
        self.loss = self.mean_loss(self.point)
        if not math.isfinite(self.loss):
            raise InputError(
                f"the loss at the point is {self.loss}, so nothing can rise from it; is the model trained?"
            )

    def rescale(self, scale: Point) -> None:
        """Take another T; parameters of integers stay as they are."""
        self.scale = flatten({name: value * self.moved[name].is_floating_point() for name, value in scale.items()})

    @property
    def description(self) -> dict[str, Any]:
        """Which data, which loss and which parameters, where these were chosen; JSON types only."""
        objective = self.mean_loss.objective
        data = {**objective.samples.description, "size": objective.size}
        chosen = {} if self.parameters is None else {"parameters": self.parameters}
        return {"data": data, "objective": objective.description, **chosen}

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
        return {**self.point, **unflatten(self.origin + self.scale * y, self.moved)}
