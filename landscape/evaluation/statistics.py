"""Sums over samples, point by point, across batches in float64."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from landscape.objective.terms import REGULARIZER
from landscape.points import as_float64

__all__ = ["EVERY", "Statistics", "Sums"]

EVERY = slice(None)  # point


class Sums:
    """Sums over some of the samples at K points, which the first losses count.

    With weights u_n of mean 1 over all samples, ``total`` is sum u l, and about the mean r of the first batch
    ``squares`` is sum u^2 (l - r)^2, ``cross`` sum u^2 (l - r) and ``weight_squares`` sum u^2, so that a small spread
    about a large loss survives the arithmetic. Sums instead of running means: an infinite loss stays infinite and NaN
    stays NaN.
    """

    def __init__(self) -> None:
        self.count, self.weight_squares = 0, 0.0
        self.quantities: dict[str, Tensor] = {}  # sums [K] of each, by name
        self.total = self.squares = self.cross = self.reference = self.hits = torch.zeros((), dtype=torch.float64)

    @classmethod
    def merged(cls, shares: list["Sums"]) -> "Sums":
        """The sums over all samples, which are spread over ``shares``."""
        whole, *others = shares
        for other in others:
            whole.merge(other)
        return whole

    @property
    def moments(self) -> Tensor:
        """Mean and variance [2, K] of the losses, the variance about the mean and without correction for the count.

        The variance of a weighted mean m is that of u (l - m), by linearisation (Cochran 1977, "Sampling Techniques",
        section 6.3).
        """
        mean = self.total / self.count
        shift = mean - self.reference
        variance = (self.squares - shift * (2 * self.cross - shift * self.weight_squares)) / self.count
        return torch.stack([mean, variance.clamp(min=0)])

    def at_other_points(self, moments: np.ndarray) -> "Sums":
        """Sums over the same samples, with the same hits, where the losses have other ``moments`` [2, L]."""
        sums = Sums()
        sums.count, sums.hits, sums.weight_squares = self.count, self.hits, self.weight_squares
        sums.reference = torch.from_numpy(moments[0])
        sums.total, sums.squares = torch.from_numpy(moments) * self.count
        return sums

    def add_quantities(self, quantities: Mapping[str, Tensor]) -> None:
        """Add the values [K, n] of n more samples, by name."""
        for name, values in quantities.items():
            total = as_float64(values).sum(1).cpu()
            self.quantities[name] = self.quantities[name] + total if name in self.quantities else total

    def add(self, losses: Tensor, hits: Tensor | None, weights: Tensor | None = None) -> None:
        """Add ``losses`` [K, n] of n more samples, whose memory is used up, their ``weights`` [n] and ``hits`` [K]."""
        if weights is not None:
            self._add_weighted(as_float64(losses), weights)
            return
        # torch sums a batch by cascade, to a few units in the last place; across batches the sums are float64.
        sums = losses.sum(1)
        if not (sums.abs() < 1e18).all():  # whose squares leave float32
            losses = as_float64(losses)
            sums = losses.sum(1)
        if self.count == 0:
            self.reference = (sums / losses.shape[1]).nan_to_num(0.0, 0.0, 0.0).cpu().double()
        self.total = self.total + sums.cpu().double()
        self.cross = self.cross + (sums.cpu().double() - losses.shape[1] * self.reference)
        self.weight_squares += losses.shape[1]
        self.squares = self.squares + losses.sub_(self.reference.to(losses)[:, None]).square_().sum(1).cpu().double()
        self.count += losses.shape[1]
        if hits is not None:
            self.hits = self.hits + as_float64(hits).cpu()

    def _add_weighted(self, losses: Tensor, weights: Tensor) -> None:
        """The same with ``weights`` [n]; samples of weight 0 do not count, whatever their losses."""
        weights = weights.to(losses)
        losses = torch.where(weights > 0, losses, 0)
        if self.count == 0:
            first = (losses @ weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)).cpu()
            self.reference = first.nan_to_num(0.0, 0.0, 0.0)
        about = weights * (losses - self.reference.to(losses)[:, None])
        self.total = self.total + (losses @ weights).cpu()
        self.squares = self.squares + about.square().sum(1).cpu()
        self.cross = self.cross + (about @ weights).cpu()
        self.weight_squares += float(weights.square().sum())
        self.count += len(weights)

    def merge(self, other: "Sums") -> None:
        """Add the samples of ``other``, at the same points."""
        shift = other.reference - self.reference
        about = other.squares + shift * (2 * other.cross + shift * other.weight_squares)
        self.squares = self.squares + about
        self.cross = self.cross + other.cross + shift * other.weight_squares
        self.weight_squares += other.weight_squares
        self.total = self.total + other.total
        self.hits = self.hits + other.hits
        self.count += other.count
        for name, total in other.quantities.items():
            self.quantities[name] = self.quantities[name] + total if name in self.quantities else total


class Statistics:
    """Mean, standard error, accuracy, quantities ``names`` and (on request) every loss, at all points of a grid."""

    def __init__(self, points: int, samples: int, *, per_sample: bool, dtype: torch.dtype, names: Sequence[str] = ()):
        self.samples, self.names = samples, tuple(names)
        self.done = torch.zeros(points, dtype=torch.bool)
        self.total, self.spread, self.hits = torch.zeros(3, points, dtype=torch.float64)
        self.per_sample = torch.zeros(points, samples, dtype=dtype) if per_sample else None
        self.further = torch.zeros(points, len(names), dtype=torch.float64) if names else None  # sums of the quantities

    def keep(self, block: Tensor, start: int, losses: Tensor) -> None:
        """Keep ``losses`` [K, n] of the samples from ``start`` on, where every loss was asked for."""
        if self.per_sample is not None:
            self.per_sample[block, start : start + losses.shape[1]] = losses.to("cpu", self.per_sample.dtype)

    def finish(self, block: Tensor, sums: Sums, constant: Tensor | None = None) -> None:
        """Store the sums over all samples at the points ``block`` [K], with a ``constant`` [K] added to every loss."""
        self.total[block], self.hits[block], self.spread[block] = sums.total, sums.hits, sums.moments[1] * sums.count
        quantities = dict(sums.quantities)
        if constant is not None:
            self.total[block] += constant * sums.count
            quantities[REGULARIZER] = constant * sums.count
            if self.per_sample is not None:
                self.per_sample[block] += constant[:, None].to(self.per_sample)
        if self.further is not None:
            self.further[block] = torch.stack([quantities[name] for name in self.names], dim=1)
        self.done[block] = True

    @property
    def mean(self) -> np.ndarray:
        values: np.ndarray = (self.total / self.samples).numpy()
        return values

    @property
    def standard_error(self) -> np.ndarray:
        """Sample standard deviation / sqrt(N); NaN for a single sample."""
        if self.samples < 2:
            return np.full(len(self.total), np.nan)
        error: np.ndarray = (self.spread / (self.samples - 1) / self.samples).sqrt().numpy()
        return error

    @property
    def accuracy(self) -> np.ndarray:
        values: np.ndarray = (self.hits / self.samples).numpy()
        return values

    @property
    def quantities(self) -> dict[str, np.ndarray]:
        """Means over samples [points] of every quantity."""
        if self.further is None:
            return {}
        return dict(zip(self.names, (self.further / self.samples).T.numpy(), strict=True))

    @property
    def losses(self) -> np.ndarray | None:
        """Losses [points, samples] of single samples, where they were asked for."""
        return None if self.per_sample is None else self.per_sample.numpy()

    def values(self, points: np.ndarray | slice) -> np.ndarray:
        """Mean loss and, where they were asked for, the losses of all samples: [K, 1] or [K, 1 + N], float64."""
        mean = self.mean[points, None]
        return mean if self.per_sample is None else np.hstack([mean, self.per_sample[points].double().numpy()])

    def arrays(self, block: Tensor | slice = EVERY) -> dict[str, np.ndarray]:
        """Everything known of the points ``block``, for a resume file or another process."""
        names = ("done", "total", "spread", "hits", "per_sample", "further")
        return {name: getattr(self, name)[block].numpy() for name in names if getattr(self, name) is not None}

    def restore(self, arrays: dict[str, np.ndarray], block: Tensor | slice = EVERY) -> None:
        """The inverse of `arrays`."""
        for name, array in arrays.items():
            getattr(self, name)[block] = torch.from_numpy(array)
