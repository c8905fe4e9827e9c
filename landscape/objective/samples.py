"""The samples an objective averages over: resident as one tree of tensors where they fit, else batch by batch."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from landscape.errors import InputError
from landscape.objective.trees import (
    batch_length,
    check_tree,
    concatenate,
    leaves,
    map_leaves,
    map_parts,
    map_tensors,
    rows_of,
    select,
    tensors_of,
    tree_bytes,
    tree_fingerprint,
    values_of,
)

__all__ = ["Samples", "available_memory", "collect"]

LOADED = 256  # samples of a batch that is made of a Dataset
FEWEST = 16  # samples that are tried, where batches are small
SPREAD_BATCHES = 3  # batches of streamed samples that are kept for trials


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
            for batch in _walk(self._loader):
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
        return _resident(tensors, {**self.description, "subset": [count, seed]}, own=True)

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


def collect(data: Any, whole_batch: bool = False) -> Samples:
    """Samples from a `Data`, tensors (bare, or in tuples, mappings, dataclasses), a Dataset or a DataLoader.

    A DataLoader is read twice: the passes must agree, else its surface would be of no data set in particular.

    Args:
        data: the samples.
        whole_batch: all of them are one batch, whose tensors may then have several lengths.

    Raises:
        InputError: no samples, lengths that differ, or other data on the second pass; ``whole_batch`` of batches that
            cannot be joined.
    """
    if isinstance(data, Samples):
        return data
    if _has_fields(data):
        description = {key: getattr(data, key, None) for key in ("name", "split", "source")}
        known = getattr(data, "fingerprint", None)
        return _resident(_as_tensors((data.inputs, data.targets)), description, known, whole_batch)
    if _is_tree_of_tensors(data):
        return _resident(_as_tensors(data), {"name": "tensors"}, None, whole_batch)
    if hasattr(data, "with_format"):  # of the datasets library
        data = data.with_format("torch")
    iterable = isinstance(data, IterableDataset)
    if iterable or isinstance(data, Dataset) or (_is_sequence(data) and len(data)):
        _refuse_batches(data)
        data = DataLoader(data, batch_size=LOADED)
    if isinstance(data, DataLoader):
        return _from_loader(data, whole_batch)
    kind = type(data)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if tensors_of(data):
        others = ", ".join({type(leaf).__name__: 0 for leaf in leaves(data) if not isinstance(leaf, Tensor)})
        raise InputError(
            f"the data hold {others} beside tensors: leave these out, or pass DataLoader([data], batch_size=None), "
            "which gives all data as one batch with such values in it"
        )
    raise InputError(
        "data must be a Data, a tensor or a tuple, mapping or dataclass of tensors with one row a sample, a "
        f"torch.utils.data.Dataset or a DataLoader, not {'an empty ' if _is_sequence(data) else ''}{name}; a loss that "
        "needs no data takes torch.zeros(1, 1)"
    )


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


def _has_fields(data: Any) -> bool:
    """Whether ``data`` is a `Data`, or holds inputs and targets like one and is not read item by item."""
    items = isinstance(data, Dataset) or hasattr(data, "__getitem__")
    return hasattr(data, "inputs") and hasattr(data, "targets") and not items


def _is_sequence(data: Any) -> bool:
    """Whether ``data`` is read item by item: what has a length and items, other than text and mappings."""
    plain = isinstance(data, str | bytes | Mapping | Tensor | np.ndarray)
    return hasattr(data, "__getitem__") and hasattr(data, "__len__") and not plain


def _is_tree_of_tensors(data: Any) -> bool:
    """Whether ``data`` is a tensor or array, or a tuple, pair, mapping or dataclass of these: not a list of samples."""
    if isinstance(data, list):
        return len(data) == 2 and all(isinstance(part, Tensor | np.ndarray) and part.ndim for part in data)
    if isinstance(data, Dataset | DataLoader | str | bytes | torch.nn.Module) or type(data) is type:
        return False
    if isinstance(data, tuple) and data and all(type(item) in (tuple, list) for item in data):
        return False
    found = leaves(data)
    arrays = [isinstance(leaf, Tensor | np.ndarray) for leaf in found]
    return any(arrays) and all(array or leaf is None for array, leaf in zip(arrays, found, strict=True))


def _as_tensors(tree: Any) -> Any:
    """``tree`` with its arrays as tensors.

    Raises:
        InputError: arrays of text or objects, and what `check_tree` refuses.
    """

    def tensor(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        try:
            # A copy in the byte order of this machine: arrays may be read-only, or run backwards.
            return torch.from_numpy(np.array(leaf, dtype=leaf.dtype.newbyteorder("=")))
        except TypeError as error:
            raise InputError(f"the data hold an array of {leaf.dtype}; give numbers") from error

    return check_tree(map_leaves(tensor, tree))


def _refuse_batches(data: Any) -> None:
    """Raise InputError for a list of what may be batches as well as samples."""
    if not isinstance(data, list | tuple) or not tensors_of(data[0]):
        return
    lengths = {len(tensor) if tensor.ndim else None for tensor in tensors_of(data[0])}
    if len(lengths) == 1 and None not in lengths and len(tensors_of(data[0])) > 1:
        raise InputError(
            f"each item of this {type(data).__name__} may be a sample or a batch of {lengths.pop()}; say which by "
            "DataLoader(data, batch_size=256) or DataLoader(data, batch_size=None)"
        )


def _from_loader(loader: DataLoader[Any], whole: bool) -> Samples:
    description: dict[str, Any] = {"name": type(loader.dataset).__name__}
    read = _Reading(loader, whole)
    if not read.count:
        raise InputError("the DataLoader gives no samples")
    if read.prints != [tree_fingerprint(batch) for batch in _walk(loader)]:
        raise InputError(
            "the DataLoader gives other data on a second pass (shuffle=True, or random augmentation); "
            "pass one with shuffle=False, or the Dataset itself with fixed transforms"
        )
    if whole and read.count == 1 and read.kept:
        return _resident(read.kept[0], description, whole=True)
    reason = "they do not fit into memory together"
    if read.kept:
        try:
            joined = _joined(read.kept)
        except (RuntimeError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
        else:
            return _resident(joined, description, whole=whole, own=True)
    if whole:
        raise InputError(f"whole_batch=True needs batches that can be joined to one: {reason}")
    description["fingerprint"] = hashlib.sha256("".join(read.prints).encode()).hexdigest()
    kept, own = [map_tensors(torch.clone, batch) for batch in read.kept], bool(read.kept)
    return Samples(
        read.size, description, loader=kept or loader, some=tuple(read.some), shortest=read.shortest, own=own
    )


class _Reading:
    """One walk through a loader: the batches as long as they fit into memory, some of them in any case."""

    def __init__(self, loader: DataLoader[Any], whole: bool):
        self.size = self.count = volume = 0
        self.shortest: int | None = None
        self.prints: list[str] = []
        self.kept: list[Any] = []
        self.some: list[Any] = []
        limit = available_memory(torch.device("cpu")) // 4  # the batches and their concatenation live side by side
        generator = torch.Generator().manual_seed(0)
        for batch in _walk(loader):
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
        """Keep ``batch`` with the chance that makes the kept ones spread evenly over the walk."""
        if len(self.some) < SPREAD_BATCHES:
            self.some.append(batch)
        elif (place := int(torch.randint(self.count, (), generator=generator))) < SPREAD_BATCHES:
            self.some[place] = batch


def _walk(loader: Iterable[Any]) -> Iterator[Any]:
    """The batches of ``loader`` that hold samples, checked.

    Raises:
        InputError: its Dataset or its collate_fn fails.
    """
    try:
        for batch in loader:
            parts = [tensor for tensor in tensors_of(check_tree(batch)) if tensor.ndim]
            if not parts or any(map(len, parts)):
                yield check_tree(batch)
    except (RuntimeError, TypeError, ValueError, LookupError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"the samples cannot be made into batches ({reason}); pass a DataLoader whose collate_fn makes batches of "
            "tensors, padded where their lengths differ"
        ) from error


def _joined(batches: list[Any]) -> Any:
    """One tree of all samples.

    Raises:
        ValueError: values beside the tensors that belong to single batches.
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


def _resident(
    tensors: Any,
    description: dict[str, Any],
    known_fingerprint: str | None = None,
    whole: bool = False,
    own: bool = False,
) -> Samples:
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
