"""losscape behind the protocol."""

import tempfile
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from losscape.compute_loss import compute_loss
from losscape.create_directions import create_random_directions
from losscape.create_landscape import create_2D_losscape, create_3D_losscape
from torch import nn

from benchmarks.correctness_suite.protocol import Axes, CannotAnswer, Direction, Path, Picture, Subject, Tool

__all__ = ["Adapter"]


class Adapter(Tool):
    remarks: ClassVar[dict[str, str]] = {
        "mean over samples": "the mean over batches",
        "filter norms": "says that it normalises as in Li et al. 2018, but scales whole tensors",
        "network unchanged": "evaluates in the mode of the network, and so updates its running statistics",
    }

    def surface(self, subject: Subject, directions: Sequence[Direction], axes: Axes) -> Picture:
        if len(axes[0]) != len(axes[1]):
            raise CannotAnswer("one number of points for both axes")
        (a, b), (c, d) = ((float(axis[0]), float(axis[-1])) for axis in axes)
        with tempfile.TemporaryDirectory() as folder:
            x, y, losses = create_3D_losscape(
                subject.model, subject.batches, directions=[list(way.values()) for way in directions],
                criterion=subject.loss, num_batches=len(subject.batches), save_only=True, output_path=folder,
                output_h5=False, x_min=a, x_max=b, y_min=c, y_max=d, num_points=len(axes[0]),
            )  # fmt: skip
        return Picture(x[0], y[:, 0], losses.T)

    def line(self, subject: Subject, other: nn.Module, points: int) -> Path:
        difference = [b.data - a.data for a, b in zip(subject.model.parameters(), other.parameters(), strict=True)]
        with tempfile.TemporaryDirectory() as folder:
            places, losses = create_2D_losscape(
                subject.model, subject.batches, direction=[difference], criterion=subject.loss, x_min=0.0, x_max=1.0,
                num_batches=len(subject.batches), save_only=True, output_path=folder, num_points=points,
            )  # fmt: skip
        return Path(places, np.array(losses))

    def loss(self, subject: Subject) -> float:
        batches = len(subject.batches)
        return float(compute_loss(subject.model, subject.batches, None, subject.loss, num_batches=batches))

    def directions(self, subject: Subject) -> tuple[Direction, Direction]:
        torch.manual_seed(0)
        names = [name for name, _ in subject.model.named_parameters()]
        first, second = (dict(zip(names, drawn, strict=True)) for drawn in create_random_directions(subject.model))
        return first, second

    def random_picture(self, subject: Subject, seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        with tempfile.TemporaryDirectory() as folder:
            *_, losses = create_3D_losscape(
                subject.model, subject.batches, criterion=subject.loss, num_batches=len(subject.batches),
                save_only=True, output_path=folder, output_h5=False, num_points=3,
            )  # fmt: skip
        return np.asarray(losses)
