"""The samples of an objective, divided into batches."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.objective.criteria import Criterion
from landscape.objective.language_loss import LanguageModelLoss
from landscape.objective.network import Network
from landscape.objective.own_loss import OwnLoss
from landscape.objective.samples import Samples
from landscape.objective.settings import BATCH, Settings
from landscape.objective.trees import batch_length, tensors_of

__all__ = ["Batches", "is_pair"]

FEW_TRIALS = 2  # number of batches that checks use if memory allows only small batches
FEW = 16  # largest number of samples in the first batch for checks
TRIED = 32  # largest number of samples in a batch that checks divide in several ways
TOKENS, MOST_TOKENS = (
    2**11,
    2**13,
)  # usual and largest number of tokens in a batch; every token has logits of the whole vocabulary
BATCH_BYTES = 2 * 2**20  # bytes of the inputs of a batch, which with its activations about fits into a cache


class Batches:
    """N = ``size`` samples in batches, by default of ``batch_size`` samples, on the device of the objective."""

    def __init__(self, samples: Samples, settings: Settings, network: Network):
        self.samples, self.device, self.dtype = samples, network.device, network.input_dtype
        self.size = samples.size
        self.by_batch = settings.batch_norm == "batch"
        sequences = isinstance(settings.loss, LanguageModelLoss | OwnLoss) and samples.tensors is not None
        self.most = self._in_tokens(MOST_TOKENS) if sequences else self.size  # largest size of a batch
        usual = self._in_tokens(TOKENS) if sequences else samples.count_in(BATCH_BYTES)
        self.batch_size = settings.batch_size or (BATCH if self.by_batch else usual)
        self.least = 2 if self.by_batch and network.has_batch_norm else 1  # smallest size of a batch
        self.trials: int | None = None  # largest number of batches that checks use; None: no limit
        self.indices = isinstance(settings.loss, str | Criterion)  # whether targets may be class labels
        if samples.whole:
            self.batch_size = self.size
        elif self.least > 1 and samples.shortest == 1:
            raise InputError(
                "batch_norm='batch': a batch of the DataLoader holds one sample, of which there are no statistics; "
                "use another batch_size, or drop_last=True"
            )

    @property
    def fixed(self) -> bool:
        """Whether the division into batches is fixed: by the BatchNorm policy, one whole batch, or the loader."""
        return self.by_batch or self.samples.whole or self.samples.tensors is None

    def __call__(self, batch_size: int | None = None) -> Iterator[tuple[int, Any]]:
        """Yield (index of the first sample, batch) over all samples; fixed batches ignore ``batch_size``."""
        size = self.batch_size if self.fixed else batch_size or self.batch_size
        for start, batch in self.samples.batches(size, self.device, self.dtype, self.least):
            yield start, self._with_indices(batch)

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Any]:
        """Batches over all samples in an order drawn from ``generator``."""
        return map(self._with_indices, self.samples.shuffled(batch_size, generator, self.device, self.dtype))

    def few(self) -> Any:
        """The first batch, for checks; unless batches are fixed, it has at most `FEW` samples."""
        return next(iter(self(min(self.batch_size, FEW))))[1]

    def spread(self) -> list[Any]:
        """Small batches for checks, of samples that are spread over the whole data."""
        count = min(TRIED, max(2, self.batch_size))
        batches = self.samples.spread(count, self.device, self.dtype)[: self.trials]
        return [self._with_indices(batch) for batch in batches]

    def targets(self) -> Iterator[Tensor]:
        """The targets of all samples, for data of pairs (inputs, targets)."""
        if self.samples.tensors is not None:
            yield self._with_indices(self.samples.tensors)[1]
        else:
            yield from (batch[1] for _, batch in self())

    def count(self, batch: Any) -> int:
        """Number of samples in a batch."""
        return self.size if self.samples.whole else batch_length(batch)

    def of(self, samples: Samples, size: int | None = None) -> "Batches":
        """Other ``samples`` in batches with the same settings; ``size`` is their number if they form one batch."""
        other = copy.copy(self)
        other.samples, other.size = samples, samples.size if size is None else size
        return other

    def of_few(self) -> "Batches":
        """The samples of `few` as one batch."""
        batch = self.few()
        count = self.count(batch)
        return self.of(Samples(count, self.samples.description, tensors=batch, whole=True))

    def subset(self, count: int, seed: int, skip: int = 0) -> "Batches":
        """``count`` random samples in batches; all samples if there are fewer or if they are streamed."""
        return self.of(self.samples.subset(count, seed, skip), self.size if self.samples.whole else None)

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "Batches":
        """The same batches with ``function`` applied to the tensors of resident samples; streamed ones stay."""
        return self if self.samples.tensors is None else self.of(self.samples.mapped(function), self.size)

    def at_most(self, batch_size: int) -> "Batches":
        """The same samples in batches of at most ``batch_size`` samples, unless batches are fixed."""
        other = copy.copy(self)
        other.batch_size = self.batch_size if self.fixed else min(self.batch_size, batch_size)
        return other

    def limit(self, most: int) -> None:
        """Limit batches that are not fixed to ``most`` samples; below `FEW`, checks also use fewer batches."""
        self.most = min(self.most, most)
        self.trials = FEW_TRIALS if most < FEW else None
        if not self.fixed:
            self.batch_size = min(self.batch_size, self.most)

    def declare(self, size: int) -> None:
        """Set the number of samples in the one batch of all data."""
        self.size = self.batch_size = size

    def _in_tokens(self, count: int) -> int:
        """The number of resident samples, at least 1, that together have about ``count`` tokens."""
        sequences = [t for t in tensors_of(self.samples.tensors) if t.ndim > 1 and not t.is_floating_point()]
        longest = max((tensor[0].numel() for tensor in sequences), default=1)
        return max(1, min(self.size, count // longest))

    def _with_indices(self, batch: Any) -> Any:
        """The batch with class labels of all integer types converted to int64, which torch accepts as indices."""
        if not self.indices or not is_pair(batch) or not isinstance(batch[1], Tensor):
            return batch
        inputs, targets = batch
        kept = targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool
        return inputs, targets if kept else targets.long()


def is_pair(batch: Any) -> bool:
    """Whether ``batch`` is a pair, as (inputs, targets) are."""
    return isinstance(batch, tuple | list) and len(batch) == 2
