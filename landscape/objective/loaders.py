"""Samples from a loader of batches: joined if they fit into memory together, else kept as batches."""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch

from landscape.errors import InputError
from landscape.objective import samples
from landscape.objective.trees import (
    batch_length,
    concatenate,
    map_tensors,
    select,
    tree_bytes,
    tree_fingerprint,
    values_of,
)
from landscape.objective.walks import walked

__all__ = ["from_loader"]

SPREAD_BATCHES = 3  # the number of random batches that are kept for trials if the samples are streamed


def from_loader(loader: Iterable[Any], whole: bool) -> samples.Samples:
    """The samples of ``loader``, which is iterated over twice; with ``whole`` they form one batch.

    Raises:
        InputError: there are no samples, the second pass returns other data, or ``whole`` is true and the batches
            cannot be joined into one.
    """
    description: dict[str, Any] = {"name": type(getattr(loader, "dataset", loader)).__name__}
    read = _Reading(loader, whole)
    if not read.count:
        raise InputError("the DataLoader gives no samples")
    if read.prints != [tree_fingerprint(batch) for batch in walked(loader)]:
        samples_alone = "loader.dataset" if hasattr(loader, "dataset") else "the Dataset"
        raise InputError(
            "the DataLoader gives other data on a second pass (shuffle=True, or random augmentation); "
            f"pass {samples_alone} itself, with fixed transforms, or a DataLoader with shuffle=False"
        )
    if whole and read.count == 1 and read.kept:
        return samples.resident(read.kept[0], description, whole=True)
    reason = "they do not fit into memory together"
    if read.kept:
        try:
            joined = _joined(read.kept)
        except (RuntimeError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
        else:
            return samples.resident(joined, description, whole=whole, own=True)
    if whole:
        raise InputError(f"whole_batch=True needs batches that can be joined to one: {reason}")
    description["fingerprint"] = hashlib.sha256("".join(read.prints).encode()).hexdigest()
    kept, own = [map_tensors(torch.clone, batch) for batch in read.kept], bool(read.kept)
    return samples.Samples(
        read.size, description, loader=kept or loader, some=tuple(read.some), shortest=read.shortest, own=own
    )


class _Reading:
    """The result of one pass over a loader: its batches, if they fit into memory, and some of them in any case."""

    def __init__(self, loader: Iterable[Any], whole: bool):
        self.size = self.count = volume = 0
        self.shortest: int | None = None
        self.prints: list[str] = []
        self.kept: list[Any] = []
        self.some: list[Any] = []
        limit = (
            samples.available_memory(torch.device("cpu")) // 4
        )  # the batches and their concatenation live side by side
        generator = torch.Generator().manual_seed(0)
        for batch in walked(loader):
            self.count += 1
            if not whole:
                length = batch_length(batch)
                self.size, self.shortest = self.size + length, min(length, self.shortest or length)
            volume += tree_bytes(batch)
            self.prints.append(tree_fingerprint(batch))
            if volume <= limit:
                self.kept.append(batch)
            else:
                self.kept.clear()
            self._sample(batch, generator)

    def _sample(self, batch: Any, generator: torch.Generator) -> None:
        """Keep ``batch`` with the probability that makes the kept batches a uniform sample (reservoir sampling)."""
        if len(self.some) < SPREAD_BATCHES:
            self.some.append(batch)
        elif (position := int(torch.randint(self.count, (), generator=generator))) < SPREAD_BATCHES:
            self.some[position] = batch


def _joined(batches: list[Any]) -> Any:
    """The samples of all ``batches`` in one tree, whose tensors are concatenated along the first axis.

    Raises:
        ValueError: values beside the tensors differ between batches, or belong to the samples of one batch.
    """
    first = tree_fingerprint(values_of(batches[0]))
    for batch in batches:
        if tree_fingerprint(values_of(batch)) != first:
            raise ValueError("values beside the tensors differ from batch to batch")
        length = batch_length(batch)
        longer = select(batch, torch.zeros(length + 1, dtype=torch.int64), length)
        if tree_fingerprint(values_of(longer)) != first:
            raise ValueError("values beside the tensors, such as a list or a count, belong to the samples of one batch")
    return concatenate(batches)
