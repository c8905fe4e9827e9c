"""What a tool can be asked: one method for each kind of question."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Axes", "CannotAnswer", "Density", "Direction", "Estimate", "Path", "Picture", "Subject", "Tool"]

Direction = dict[str, Tensor]  # keyed like named_parameters()
Axes = tuple[np.ndarray, np.ndarray]  # coordinates [A] along the first direction and [B] along the second


class CannotAnswer(Exception):
    """A tool has no way to express the question."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, its loss and its data."""

    model: nn.Module
    loss: nn.Module  # (outputs, targets) -> mean over the samples of the batch
    batches: Sequence[tuple[Tensor, Tensor]]

    @property
    def whole(self) -> tuple[Tensor, Tensor]:
        """All samples as one batch."""
        inputs, targets = zip(*self.batches, strict=True)
        return torch.cat(inputs), torch.cat(targets)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype


@dataclass(frozen=True, eq=False)
class Picture:
    """Losses on a grid; the coordinates are those that the tool documents for its values."""

    alphas: np.ndarray  # [A] along the first direction
    betas: np.ndarray  # [B] along the second
    loss: np.ndarray  # [A, B]


@dataclass(frozen=True, eq=False)
class Path:
    """Losses between two networks, at the places that the tool documents: 0 is the first, 1 the second."""

    places: np.ndarray  # [P]
    loss: np.ndarray  # [P]


@dataclass(frozen=True)
class Estimate:
    """A value with the error that the tool was asked for or reports, or else the number of its probes."""

    value: float
    error: float | None = None
    probes: int = 1


@dataclass(frozen=True, eq=False)
class Density:
    """Nodes and weights of a spectral density."""

    nodes: np.ndarray  # [P, M], a row for each probe, or one for their average
    weights: np.ndarray  # [P, M]
    probes: int
    smoothed: bool = False  # by a kernel, whose width is part of the mean square


class Tool:
    """A tool behind the protocol: what it has no way to express raises `CannotAnswer`.

    An adapter calls what the documentation of its tool recommends, with the settings most favourable to it.
    """

    says_orthogonal = False  # of its two random directions
    differs: ClassVar[dict[str, str]] = {}  # question -> definition of the tool's own; a deviation there does not count
    remarks: ClassVar[dict[str, str]] = {}  # question -> cause of a deviation

    def surface(self, subject: Subject, directions: Sequence[Direction], axes: Axes) -> Picture:
        """The losses along two given directions, at the given coordinates (evenly spaced)."""
        raise CannotAnswer("draws its own directions")

    def line(self, subject: Subject, other: nn.Module, points: int) -> Path:
        """The losses at evenly spaced points between two networks."""
        raise CannotAnswer("no lines between networks")

    def loss(self, subject: Subject) -> float:
        """The loss of the network itself, on all batches."""
        raise CannotAnswer("draws no loss")

    def directions(self, subject: Subject) -> tuple[Direction, Direction]:
        """Two random directions, normalised as the tool recommends."""
        raise CannotAnswer("draws no directions")

    def random_picture(self, subject: Subject, seed: int) -> np.ndarray:
        """The losses of a small grid on a random plane of the tool's own."""
        raise CannotAnswer("draws no pictures")

    def weighted_loss(self, subject: Subject, weights: Tensor) -> float:
        """sum_n w_n l_n / sum_n w_n over the samples of all batches, at the network itself."""
        raise CannotAnswer("no place for weights")

    def eigenvalues(self, subject: Subject, count: int) -> np.ndarray:
        """The ``count`` Hessian eigenvalues of largest magnitude."""
        raise CannotAnswer("no eigenvalues")

    def trace(self, subject: Subject, seed: int) -> Estimate:
        """The trace of the Hessian."""
        raise CannotAnswer("no trace")

    def density(self, subject: Subject, seed: int) -> Density:
        """The density of the Hessian eigenvalues."""
        raise CannotAnswer("no spectral density")

    def hessian_product(self, subject: Subject, vector: Tensor) -> Tensor:
        """H v, flat."""
        raise CannotAnswer("no products")

    def ggn_product(self, subject: Subject, vector: Tensor) -> Tensor:
        """G v with the generalised Gauss-Newton matrix G, flat."""
        raise CannotAnswer("no Gauss-Newton matrix")
