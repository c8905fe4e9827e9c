"""loss-landscapes behind the protocol."""

import copy
from collections.abc import Sequence
from typing import ClassVar

import loss_landscapes as package
import numpy as np
import torch
from loss_landscapes.metrics import Loss
from torch import Tensor, nn

from benchmarks.correctness_suite.protocol import Axes, CannotAnswer, Direction, Path, Picture, Subject, Tool

__all__ = ["Adapter"]

STEPS = 3  # of a small picture


class Adapter(Tool):
    differs: ClassVar[dict[str, str]] = {
        "biases and BatchNorm": "moves them, every entry by its own size",
    }
    remarks: ClassVar[dict[str, str]] = {
        "given directions": "every other row is shifted by one point, wherever the axis may begin",
        "ranges": "every other row is shifted by one point, wherever the axis may begin",
        "line between networks": "its examples draw value i at i / steps, but it belongs to (i + 1) / steps",
    }

    def surface(self, subject: Subject, directions: Sequence[Direction], axes: Axes) -> Picture:
        steps = len(axes[0])
        if len(axes[1]) != steps:
            raise CannotAnswer("one number of points for both axes")
        # Point (i, j) is documented as start + i (end_1 - start) / steps + j (end_2 - start) / steps.
        start = {name: value.detach().clone() for name, value in subject.model.named_parameters()}
        for axis, direction in zip(axes, directions, strict=True):
            start = {name: value + float(axis[0]) * direction[name] for name, value in start.items()}
        ends = [
            {name: start[name] + steps * float(axis[1] - axis[0]) * direction[name] for name in start}
            for axis, direction in zip(axes, directions, strict=True)
        ]
        corners = [_at(subject.model, point) for point in (start, *ends)]
        metric = Loss(subject.loss, *subject.whole)
        return Picture(*axes, package.planar_interpolation(*corners, metric, steps=steps, deepcopy_model=True))

    def line(self, subject: Subject, other: nn.Module, points: int) -> Path:
        metric = Loss(subject.loss, *subject.whole)
        losses = package.linear_interpolation(subject.model, other, metric, steps=points, deepcopy_model=True)
        return Path(np.arange(points) / points, losses)  # the axis of its examples

    def loss(self, subject: Subject) -> float:
        if len(subject.batches) > 1:
            raise CannotAnswer("takes all samples as one batch")
        return float(package.point(subject.model, Loss(subject.loss, *subject.whole)))

    def directions(self, subject: Subject) -> tuple[Direction, Direction]:
        """The differences of the weights at which `random_plane` evaluates."""
        points: list[dict[str, Tensor]] = []
        subject.model.register_forward_pre_hook(
            lambda model, _: points.append({name: value.clone() for name, value in model.named_parameters()})
        )
        self.random_picture(subject, seed=0)
        # The first row leads along the second direction, the second row back, one step further along the first.
        second = {name: points[1][name] - points[0][name] for name in points[0]}
        first = {name: points[STEPS][name] - points[STEPS - 2][name] for name in points[0]}
        return first, second

    def random_picture(self, subject: Subject, seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        metric = Loss(subject.loss, *subject.whole)
        return np.asarray(package.random_plane(subject.model, metric, steps=STEPS, deepcopy_model=True))


def _at(model: nn.Module, point: dict[str, Tensor]) -> nn.Module:
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, value in other.named_parameters():
            value.copy_(point[name])
    return other
