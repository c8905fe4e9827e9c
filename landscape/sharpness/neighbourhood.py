"""The loss around a point, in coordinates in which the neighbourhood is a ball or a cube."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.gradients import MeanLoss
from landscape.objective.objectives import Objective, check_objective
from landscape.objective.settling import check_source
from landscape.points import Point, as_point, check_match, flatten, unflatten
from landscape.slices.chosen import chosen_parameters, entries_of

__all__ = ["Neighbourhood", "NonFinite"]


class NonFinite(Exception):
    """A loss near the point is NaN or infinite; its only argument is that loss."""


class Neighbourhood:
    """The map y -> L(theta + T y) with a diagonal matrix T; vectors are flat, in float64, on the CPU.

    T is the identity at first; `rescale` changes it. One neighbourhood serves all measures at a point. With
    ``parameters``, y holds only those, and the others stay fixed. The attribute ``moved`` holds the parameters of y.

    Raises:
        InputError: the point belongs to another network, or its loss is not finite.
    """

    def __init__(self, objective: Objective, point: nn.Module | Point, parameters: str | Sequence[str] | None = None):
        check_objective(objective, "Neighbourhood(objective, model)")
        self.point = as_point(point)
        check_match(self.point, dict(objective.model.named_parameters()))
        check_source(objective.network, point)
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
        """Set the diagonal of T; it is zero for integer parameters, which therefore do not move."""
        self.scale = flatten({name: value * self.moved[name].is_floating_point() for name, value in scale.items()})

    @property
    def description(self) -> dict[str, Any]:
        """The data, the objective and, if they were chosen, the parameters, as metadata of JSON types."""
        objective = self.mean_loss.objective
        data = {**objective.samples.description, "size": objective.size}
        chosen = {} if self.parameters is None else {"parameters": self.parameters}
        return {"data": data, "objective": objective.description, **chosen}

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return len(self.origin)

    def loss_at(self, y: Tensor) -> float:
        """L(theta + T y), which may be NaN or infinite."""
        return self.mean_loss(self._moved(y))

    def slope_at(self, y: Tensor, batch: Any = None) -> tuple[float, Tensor]:
        """L(theta + T y) and its gradient with respect to y, over all samples or those of one ``batch``.

        Raises:
            NonFinite: the loss is NaN or infinite.
        """
        loss, gradient = self.mean_loss.with_gradient(self._moved(y), batch)
        if not math.isfinite(loss):
            raise NonFinite(loss)
        return loss, self.scale * flatten(gradient)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Independent N(0, 1) numbers for all coordinates, drawn in float32."""
        return torch.randn(self.size, generator=generator, dtype=torch.float32).double()

    def _moved(self, y: Tensor) -> Point:
        return {**self.point, **unflatten(self.origin + self.scale * y, self.moved)}
