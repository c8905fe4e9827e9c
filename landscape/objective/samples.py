"""The samples of an objective: in memory as one tree of tensors, or streamed batch by batch."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psutil
import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.objective.trees import (
    batch_length,
    map_parts,
    map_tensors,
    rows_of,
    select,
    tensors_of,
    tree_bytes,
    tree_fingerprint,
)
from landscape.objective.walks import walked

__all__ = ["Samples", "available_memory", "mover", "resident"]

FEWEST = 16  # the least number of samples of a trial


class Samples:
    """N samples that can be iterated over several times in the same order.

    ``size`` is N and ``description`` the metadata of the data. ``tensors`` is one tree of tensors [N, ...] if the
    samples are resident; it is None if they have fixed batches, because they are streamed or have further values
    beside their tensors. ``whole`` means that the samples always form one batch. ``own`` means that no one else uses
    their memory, so that passes may write into it.
    """

    def __init__(
        self,
        size: int,
        description: dict[str, Any],
        *,
        tensors: Any = None,
        loader: Iterable[Any] = (),
        whole: bool = False,
        some: tuple[Any, ...] = (),
        shortest: int | None = None,
        own: bool = False,
    ):
        self.size = size
        self.description = description
        self.tensors = tensors
        self.whole = whole
        self.own = own
        self._loader = loader
        self._some = some  # some batches of the loader, for trials
        self.shortest = shortest  # number of samples in the smallest batch of the loader
        self._borrowed = _Borrowed(())

    def batches(
        self, batch_size: int, device: torch.device, dtype: torch.dtype, least: int = 1
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index of the first sample, batch) on ``device``, with floating-point tensors in ``dtype``.

        A last batch of fewer than ``least`` samples joins the one before it. Samples with fixed batches are yielded in
        these, independent of ``batch_size``.
        """
        self._check_unchanged()
        move = mover(device, dtype)
        if self.whole:
            yield 0, map_tensors(move, self.tensors)
        elif self.tensors is not None:
            starts = [*range(0, self.size, batch_size)]
            if len(starts) > 1 and self.size - starts[-1] < least:
                del starts[-1]
            for start, stop in zip(starts, [*starts[1:], self.size], strict=True):
                yield start, self._moved(slice(start, stop), move)
        else:
            start = 0
            for batch in walked(self._loader):
                yield start, map_tensors(move, batch)
                start += batch_length(batch)

    def shuffled(
        self, batch_size: int, generator: torch.Generator, device: torch.device, dtype: torch.dtype
    ) -> Iterator[Any]:
        """Yield random batches of nearly equal size, at most ``batch_size``; fixed batches in their own order."""
        if self.whole or self.tensors is None:
            yield from (batch for _, batch in self.batches(batch_size, device, dtype))
            return
        self._check_unchanged()
        move, order = mover(device, dtype), torch.randperm(self.size, generator=generator)
        for positions in order.tensor_split(-(-self.size // batch_size)):
            yield self._moved(positions, move)

    def spread(self, count: int, device: torch.device, dtype: torch.dtype) -> list[Any]:
        """Batches of at most ``count`` samples that are drawn at random, for trials.

        Of samples with fixed batches they are random parts of some of these. Of others they are drawn from all, and
        the samples with the smallest and the largest sum of entries are included, because they often have unusual
        padding or labels.
        """
        move = mover(device, dtype)
        if self.tensors is None:
            generator, parts = torch.Generator().manual_seed(0), []
            for batch in self._some:
                length = batch_length(batch)
                drawn = torch.randperm(length, generator=generator)[:count]
                parts.append(map_tensors(move, select(batch, drawn, length)))
            return parts
        rows = _spread_over(self.tensors, self.size, max(count, FEWEST))
        return [self._moved(rows[start : start + count], move) for start in range(0, len(rows), count)]

    def count_in(self, volume: int) -> int:
        """The number of samples that take ``volume`` bytes, at least 16 and at most all; all if batches are fixed."""
        if self.whole or self.tensors is None:
            return self.size
        return min(self.size, max(16, volume * self.size // max(1, tree_bytes(self.tensors))))

    def subset(self, count: int, seed: int, skip: int = 0) -> "Samples":
        """``count`` samples drawn without replacement; all samples if there are no more or if batches are fixed.

        With ``skip`` they are others than the first ``skip`` samples that are drawn from ``seed``.
        """
        if self.whole or self.tensors is None or count >= self.size:
            return self
        drawn = torch.randperm(self.size, generator=torch.Generator().manual_seed(seed))
        drawn = drawn[skip : skip + count].sort().values
        tensors = map_parts(lambda t: rows_of(t, drawn), self.tensors)
        return resident(tensors, {**self.description, "subset": [count, seed, *([skip] if skip else [])]}, own=True)

    def to(self, device: torch.device, dtype: torch.dtype, copy: bool = True) -> "Samples":
        """Resident samples moved to ``device`` if they take at most half of its free memory; otherwise unchanged.

        With ``copy`` their memory is used by no one else, so that passes may write into it. Without ``copy`` they may
        be the caller's tensors, and an error is raised if these are changed later.
        """
        if self.tensors is None or 2 * tree_bytes(self.tensors) > available_memory(device):
            return self
        moved = self.mapped(mover(device, dtype, copy=copy and not self.own))
        moved.own = copy or self.own
        if not moved.own:
            moved._borrowed = _Borrowed(tensors_of(moved.tensors))
        return moved

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "Samples":
        """Resident samples with ``function`` applied to all their tensors."""
        tensors = map_tensors(function, self.tensors)
        return Samples(self.size, self.description, tensors=tensors, whole=self.whole, own=self.own)

    def _check_unchanged(self) -> None:
        if self._borrowed.changed():
            raise InputError(
                "the tensors of the data were changed after the objective was made from them; make it again, "
                "or make it from copies (tensor.clone())"
            )

    def _moved(self, rows: slice | Tensor, move: Callable[[Tensor], Tensor]) -> Any:
        """The batch of ``rows``."""
        cut = map_parts(lambda t: t[rows] if isinstance(rows, slice) else rows_of(t, rows), self.tensors)
        return map_tensors(move, cut)


class _Borrowed:
    """Tensors of the caller, in which changes by operations of torch are detected."""

    def __init__(self, tensors: Iterable[Tensor]):
        self.versions = [(tensor, tensor._version) for tensor in tensors]

    def __deepcopy__(self, memo: Any) -> "_Borrowed":
        return _Borrowed(())  # copies do not belong to the caller

    def changed(self) -> bool:
        """Whether one of the tensors has been written into."""
        return any(tensor._version != version for tensor, version in self.versions)


def mover(device: torch.device, dtype: torch.dtype, copy: bool = False) -> Callable[[Tensor], Tensor]:
    """A function that moves a tensor to ``device`` and, unless it holds integers, to the precision of ``dtype``.

    With ``copy`` the result never shares memory with the tensor.
    """
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64

    def move(tensor: Tensor) -> Tensor:
        kind = dtype if tensor.is_floating_point() else complex_dtype if tensor.is_complex() else None
        moved = tensor.to(device, kind, non_blocking=True, copy=copy)
        return moved.clone() if moved.is_inference() else moved  # tensors of torch.inference_mode allow no derivatives

    return move


def _spread_over(tensors: Any, size: int, count: int) -> Tensor:
    """At most ``count`` rows in random order, among them those with the smallest and largest sums of entries."""
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    if count >= size:
        return order
    ends: list[int] = []
    for tensor in tensors_of(tensors):
        if tensor.ndim and tensor.numel() and len(ends) < count // 2:
            rows = tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None]
            sums = (rows.abs() if rows.is_complex() else rows).sum(1, dtype=torch.float32).nan_to_num()
            ends += [int(sums.argmin()), int(sums.argmax())]
    drawn = [row for row in order[:count].tolist() if row not in ends]
    chosen = torch.tensor([*dict.fromkeys(ends), *drawn][:count])
    return chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(1))]


def resident(
    tensors: Any,
    description: dict[str, Any],
    known_fingerprint: str | None = None,
    whole: bool = False,
    own: bool = False,
) -> Samples:
    """Samples in memory; unless they are one ``whole`` batch, all tensors have one length along their first axis.

    Raises:
        InputError: there are no samples, or the lengths differ.
    """
    lengths = {len(tensor) for tensor in tensors_of(tensors) if tensor.ndim}
    size = 1 if whole and len(lengths) != 1 else batch_length(tensors)
    if size == 0 or 0 in lengths:
        raise InputError("the data hold no samples")
    description["fingerprint"] = known_fingerprint or tree_fingerprint(tensors)
    return Samples(size, description, tensors=tensors, whole=whole, own=own)


def available_memory(device: torch.device) -> int:
    """The number of free bytes on ``device``."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)
