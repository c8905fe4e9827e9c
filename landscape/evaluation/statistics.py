"""Sums of losses over samples at each point, accumulated over batches in float64."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from landscape.objective.terms import REGULARIZER
from landscape.points import as_float64

__all__ = ["EVERY", "Statistics", "Sums"]

EVERY = slice(None)  # all points


class Sums:
    """Sums over some of the samples at K points; the first losses that are added determine K.

    For losses l_n with weights u_n of mean 1 over all samples, ``total`` is sum u l. With the mean loss r of the first
    batch, ``squares`` is sum u^2 (l - r)^2, ``cross`` is sum u^2 (l - r), and ``weight_squares`` is sum u^2.
    Subtracting r keeps a small spread about a large loss accurate. Sums are kept instead of running means, so that an
    infinite loss stays infinite and NaN stays NaN. Sums on an accelerator stay there until
    `on_host` is called, so that no batch waits for the one before it.
    """

    def __init__(self) -> None:
        self.count, self.weight_squares = 0, 0.0
        self.quantities: dict[str, Tensor] = {}  # sums [K] of each quantity, by name
        self.total = self.squares = self.cross = self.reference = self.hits = torch.zeros((), dtype=torch.float64)

    @classmethod
    def merged(cls, shares: list["Sums"]) -> "Sums":
        """The sums over all samples of ``shares``, which hold disjoint sets of samples."""
        whole, *others = shares
        for other in others:
            whole.merge(other)
        return whole.on_host()

    @property
    def moments(self) -> Tensor:
        """Mean m = sum u l / N and variance sum u^2 (l - m)^2 / N of the losses, [2, K], with N samples.

        The variance is that of u (l - m), the linearisation of a weighted mean (Cochran 1977, "Sampling Techniques",
        section 6.3).
        """
        mean = self.total / self.count
        shift = mean - self.reference
        variance = (self.squares - shift * (2 * self.cross - shift * self.weight_squares)) / self.count
        return torch.stack([mean, variance.clamp(min=0)])

    def at_other_points(self, moments: np.ndarray) -> "Sums":
        """Sums over the same samples at L other points where the losses have the ``moments`` [2, L].

        The sums of hits are taken over as they are.
        """
        sums = Sums()
        sums.count, sums.hits, sums.weight_squares = self.count, self.hits, self.weight_squares
        sums.reference = torch.from_numpy(moments[0])
        sums.total, sums.squares = torch.from_numpy(moments) * self.count
        return sums

    def add_quantities(self, quantities: Mapping[str, Tensor]) -> None:
        """Add the values [K, n] of n more samples, by name."""
        for name, values in quantities.items():
            total = as_float64(values).sum(1)
            self.quantities[name] = self.quantities[name] + total if name in self.quantities else total

    def add(self, losses: Tensor, hits: Tensor | None, weights: Tensor | None = None) -> None:
        """Add ``losses`` [K, n] of n more samples, their ``weights`` [n] and sums of ``hits`` [K].

        ``losses`` is overwritten.
        """
        if weights is not None:
            self._add_weighted(as_float64(losses), weights)
            return
        # torch sums a batch pairwise, to a few units in the last place; across batches the sums are in float64.
        sums = losses.sum(1)
        if _may_exceed_float32(sums):
            losses = as_float64(losses)
            sums = losses.sum(1)
        if self.count == 0:
            self.reference = as_float64((sums / losses.shape[1]).nan_to_num(0.0, 0.0, 0.0))
        self.total = self.total + as_float64(sums)
        self.cross = self.cross + (as_float64(sums) - losses.shape[1] * self.reference)
        self.weight_squares += losses.shape[1]
        self.squares = self.squares + as_float64(losses.sub_(self.reference.to(losses)[:, None]).square_().sum(1))
        self.count += losses.shape[1]
        if hits is not None:
            self.hits = self.hits + as_float64(hits)

    def _add_weighted(self, losses: Tensor, weights: Tensor) -> None:
        """`add` with ``weights`` [n]; samples of weight 0 do not count, even if their losses are not finite."""
        self.weight_squares += float(as_float64(weights).square().sum())
        weights = weights.to(losses)
        losses = torch.where(weights > 0, losses, 0)
        if self.count == 0:
            first = losses @ weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)
            self.reference = first.nan_to_num(0.0, 0.0, 0.0)
        about = weights * (losses - self.reference[:, None])
        self.total = self.total + losses @ weights
        self.squares = self.squares + about.square().sum(1)
        self.cross = self.cross + about @ weights
        self.count += len(weights)

    def on_host(self) -> "Sums":
        """These sums in the memory of the host, to which they go in two transfers at most."""
        if self.total.device.type != "cpu":
            rows = torch.stack([self.total, self.squares, self.cross, self.reference, *self.quantities.values()]).cpu()
            self.total, self.squares, self.cross, self.reference = rows[:4]
            self.quantities = dict(zip(self.quantities, rows[4:], strict=True))
            self.hits = self.hits.cpu()
        return self

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


def _may_exceed_float32(sums: Tensor) -> bool:
    """Whether the squares of losses with these ``sums`` could exceed the range of float32.

    On an accelerator that has float64 this is always assumed, because looking at the sums would wait for every batch.
    """
    return sums.device.type not in ("cpu", "mps") or not bool((sums.abs() < 1e18).all())


class Statistics:
    """Mean, standard error, accuracy, quantities ``names`` and (on request) every loss, at all points of a grid."""

    def __init__(self, points: int, samples: int, *, per_sample: bool, dtype: torch.dtype, names: Sequence[str] = ()):
        self.samples, self.names = samples, tuple(names)
        self.finished = torch.zeros(points, dtype=torch.bool)
        self.total, self.spread, self.hits = torch.zeros(3, points, dtype=torch.float64)
        self.per_sample = torch.zeros(points, samples, dtype=dtype) if per_sample else None
        self.further = torch.zeros(points, len(names), dtype=torch.float64) if names else None  # sums of quantities

    def keep(self, block: Tensor, start: int, losses: Tensor) -> None:
        """Store the ``losses`` [K, n] of the samples from ``start`` on, if ``per_sample`` losses were requested."""
        if self.per_sample is not None:
            self.per_sample[block, start : start + losses.shape[1]] = losses.to("cpu", self.per_sample.dtype)

    def finish(self, block: Tensor, sums: Sums, constant: Tensor | None = None) -> None:
        """Store the sums over all samples at the points ``block`` [K], and mark these points as finished.

        A ``constant`` [K], the value of a regularizer, is added to the loss of every sample.
        """
        self.total[block], self.hits[block], self.spread[block] = sums.total, sums.hits, sums.moments[1] * sums.count
        quantities = dict(sums.quantities)
        if constant is not None:
            self.total[block] += constant * sums.count
            quantities[REGULARIZER] = constant * sums.count
            if self.per_sample is not None:
                self.per_sample[block] += constant[:, None].to(self.per_sample)
        if self.further is not None:
            self.further[block] = torch.stack([quantities[name] for name in self.names], dim=1)
        self.finished[block] = True

    @property
    def mean(self) -> np.ndarray:
        """Mean loss [points] over the samples."""
        values: np.ndarray = (self.total / self.samples).numpy()
        return values

    @property
    def standard_error(self) -> np.ndarray:
        """Standard error [points] of the mean loss: sample standard deviation / sqrt(N); NaN for a single sample."""
        if self.samples < 2:
            return np.full(len(self.total), np.nan)
        error: np.ndarray = (self.spread / (self.samples - 1) / self.samples).sqrt().numpy()
        return error

    @property
    def accuracy(self) -> np.ndarray:
        """Share [points] of the samples that are classified correctly."""
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
        """Losses [points, samples] of single samples; None unless they were requested."""
        return None if self.per_sample is None else self.per_sample.numpy()

    def values(self, points: np.ndarray | slice) -> np.ndarray:
        """Mean loss and, if they were requested, the losses of all samples: [K, 1] or [K, 1 + N], float64."""
        mean = self.mean[points, None]
        return mean if self.per_sample is None else np.hstack([mean, self.per_sample[points].double().numpy()])

    def arrays(self, block: Tensor | slice = EVERY) -> dict[str, np.ndarray]:
        """All sums at the points ``block`` by name, for a resume file or another process."""
        return {name: tensor[block].numpy() for name, tensor in self._tensors.items()}

    def restore(self, arrays: dict[str, np.ndarray], block: Tensor | slice = EVERY) -> None:
        """Set the sums at the points ``block`` to ``arrays``, the result of `arrays`."""
        for name, array in arrays.items():
            self._tensors[name][block] = torch.from_numpy(array)

    @property
    def _tensors(self) -> dict[str, Tensor]:
        """All sums, by their names in resume files."""
        tensors = {
            "done": self.finished,
            "total": self.total,
            "spread": self.spread,
            "hits": self.hits,
            "per_sample": self.per_sample,
            "further": self.further,
        }
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}
