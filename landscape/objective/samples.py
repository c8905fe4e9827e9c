"""The samples an objective averages over: resident as one tree of tensors where they fit, else batch by batch."""

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

FEWEST = 16  # samples that are tried, where batches are small


class Samples:
    """N samples that can be walked through again and again, in the same order.

    ``size`` is N, ``description`` says which data they are. ``tensors`` is one tree of tensors [N, ...] when the
    samples are resident, and None when they come in batches of their own: streamed, or with values beside their
    tensors. ``whole`` samples come as one batch, whatever its parts. ``own`` samples lie in memory that nobody else
    reads.
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
        self._some = some  # batches of the loader, for trials
        self.shortest = shortest  # samples of the smallest batch of the loader
        self._borrowed = _Borrowed(())

    def batches(
        self, batch_size: int, device: torch.device, dtype: torch.dtype, least: int = 1
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index of the first sample, batch), floating-point tensors as ``dtype`` on ``device``.

        A last batch of fewer than ``least`` samples joins the one before it. Samples that have batches of their own
        come in these, whatever ``batch_size``.
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
        """Yield batches in random order, at most ``batch_size`` large and nearly equal; fixed ones as they come."""
        if self.whole or self.tensors is None:
            yield from (batch for _, batch in self.batches(batch_size, device, dtype))
            return
        self._check_unchanged()
        move, order = mover(device, dtype), torch.randperm(self.size, generator=generator)
        for picked in order.tensor_split(-(-self.size // batch_size)):
            yield self._moved(picked, move)

    def spread(self, count: int, device: torch.device, dtype: torch.dtype) -> list[Any]:
        """Batches of at most ``count`` samples that are spread over all, or are parts of those that samples come in.

        Samples are drawn at random; those whose entries add up to the least and the most are among them, so that
        rare padding and rare labels are.
        """
        move = mover(device, dtype)
        if self.tensors is None:
            generator, found = torch.Generator().manual_seed(0), []
            for batch in self._some:
                length = batch_length(batch)
                drawn = torch.randperm(length, generator=generator)[:count]
                found.append(map_tensors(move, select(batch, drawn, length)))
            return found
        rows = _spread_over(self.tensors, self.size, max(count, FEWEST))
        return [self._moved(rows[start : start + count], move) for start in range(0, len(rows), count)]

    def count_in(self, volume: int) -> int:
        """How many samples take ``volume`` bytes, at least 16 and at most all; fixed batches are what they are."""
        if self.whole or self.tensors is None:
            return self.size
        return min(self.size, max(16, volume * self.size // max(1, tree_bytes(self.tensors))))

    def subset(self, count: int, seed: int) -> "Samples":
        """``count`` resident samples drawn without replacement; these where there are no more, or batches are fixed."""
        if self.whole or self.tensors is None or count >= self.size:
            return self
        drawn = torch.randperm(self.size, generator=torch.Generator().manual_seed(seed))[:count].sort().values
        tensors = map_parts(lambda t: rows_of(t, drawn), self.tensors)
        return resident(tensors, {**self.description, "subset": [count, seed]}, own=True)

    def to(self, device: torch.device, dtype: torch.dtype, copy: bool = True) -> "Samples":
        """Resident samples on ``device`` when they take less than half of its free memory, else these.

        With ``copy`` they lie in memory that nobody else reads, so that passes may write into them. Without it they may
        be the caller's own tensors, whose later changes are refused.
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
                "the tensors of the data were written into after the objective was made from them; make the objective "
                "anew, or from copies (tensor.clone())"
            )

    def _moved(self, rows: slice | Tensor, move: Callable[[Tensor], Tensor]) -> Any:
        """The batch of ``rows``."""
        cut = map_parts(lambda t: t[rows] if isinstance(rows, slice) else rows_of(t, rows), self.tensors)
        return map_tensors(move, cut)


class _Borrowed:
    """Tensors that belong to the caller, whose changes by torch are noticed."""

    def __init__(self, tensors: Iterable[Tensor]):
        self.versions = [(tensor, tensor._version) for tensor in tensors]

    def __deepcopy__(self, memo: Any) -> "_Borrowed":
        return _Borrowed(())  # copies belong to nobody else

    def changed(self) -> bool:
        """Whether someone has written into one of them."""
        return any(tensor._version != version for tensor, version in self.versions)


def mover(device: torch.device, dtype: torch.dtype, copy: bool = False) -> Callable[[Tensor], Tensor]:
    """tensor -> the same on ``device``, in ``dtype`` if it is floating-point, in that precision if it is complex.

    With ``copy`` always in other memory.
    """
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64

    def move(tensor: Tensor) -> Tensor:
        wanted = dtype if tensor.is_floating_point() else complex_dtype if tensor.is_complex() else None
        moved = tensor.to(device, wanted, non_blocking=True, copy=copy)
        return moved.clone() if moved.is_inference() else moved  # made under torch.inference_mode: no derivatives

    return move


def _spread_over(tensors: Any, size: int, count: int) -> Tensor:
    """Rows [at most ``count``], in random order."""
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
    """Samples in memory, all of one length along their first axis unless they are one ``whole`` batch."""
    lengths = {len(tensor) for tensor in tensors_of(tensors) if tensor.ndim}
    size = 1 if whole and len(lengths) != 1 else batch_length(tensors)
    if size == 0 or 0 in lengths:
        raise InputError("the data hold no samples")
    description["fingerprint"] = known_fingerprint or tree_fingerprint(tensors)
    return Samples(size, description, tensors=tensors, whole=whole, own=own)


def available_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on ``device``."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)
