"""Sums over samples, point by point, in float64."""

import numpy as np
import torch
from torch import Tensor

from landscape.parameters import as_float64

__all__ = ["Statistics"]


class Statistics:
    """Mean, standard error, accuracy and (on request) every loss of K points, from batches in any order.

    Sums instead of running means: an infinite loss stays infinite and NaN stays NaN. Squares are taken about the
    mean of the first batch, so that a small spread about a large loss survives the arithmetic.
    """

    def __init__(self, points: int, samples: int, *, per_sample: bool, dtype: torch.dtype):
        self.samples = samples
        self.done = torch.zeros(points, dtype=torch.bool)
        self.total = torch.zeros(points, dtype=torch.float64)
        self.reference = torch.zeros(points, dtype=torch.float64)
        self.squares = torch.zeros(points, dtype=torch.float64)
        self.hits = torch.zeros(points, dtype=torch.float64)
        self.per_sample = torch.zeros(points, samples, dtype=dtype) if per_sample else None

    def update(self, block: Tensor, start: int, losses: Tensor, hits: Tensor | None) -> None:
        """Add ``losses`` [K, n] of the samples from ``start`` on, and the count of ``hits`` [K], at ``block`` [K].

        The memory of ``losses`` is used up.
        """
        if self.per_sample is not None:
            self.per_sample[block, start : start + losses.shape[1]] = losses.to("cpu", self.per_sample.dtype)
        # torch sums a batch by cascade, to a few units in the last place; across batches the sums are float64.
        sums = losses.sum(1)
        if not (sums.abs() < 1e18).all():  # whose squares leave float32
            losses = as_float64(losses)
            sums = losses.sum(1)
        if start == 0:
            self.reference[block] = (sums / losses.shape[1]).nan_to_num(0.0, 0.0, 0.0).cpu().double()
        about = self.reference[block].to(losses)[:, None]
        self.total[block] += sums.cpu().double()
        self.squares[block] += losses.sub_(about).square_().sum(1).cpu().double()
        if hits is not None:
            self.hits[block] += as_float64(hits).cpu()

    @property
    def mean(self) -> np.ndarray:
        return (self.total / self.samples).numpy()

    @property
    def standard_error(self) -> np.ndarray:
        """Sample standard deviation / sqrt(N); NaN for a single sample."""
        shift = self.total / self.samples - self.reference
        if self.samples < 2:
            return np.full(len(self.total), np.nan)
        variance = (self.squares / self.samples - shift.square()).clamp(min=0) / (self.samples - 1)
        return variance.sqrt().numpy()

    @property
    def accuracy(self) -> np.ndarray:
        return (self.hits / self.samples).numpy()

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, for a resume file."""
        names = ("done", "total", "reference", "squares", "hits", "per_sample")
        return {name: getattr(self, name).numpy() for name in names if getattr(self, name) is not None}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """The inverse of `arrays`."""
        for name, array in arrays.items():
            getattr(self, name).copy_(torch.from_numpy(array))
