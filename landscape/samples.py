"""The samples an objective averages over: resident as one tensor where they fit, streamed otherwise."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from landscape.errors import InputError
from landscape.provenance import fingerprint

__all__ = ["Samples", "available_memory", "collect"]


class Samples:
    """N samples that can be walked through again and again, in the same order.

    ``size`` is N, ``description`` says which data they are, ``tensors`` is one tree of tensors [N, ...] when the
    samples are resident and None when they are streamed.
    """

    def __init__(self, size: int, description: dict, *, tensors: Any = None, loader: Iterable | None = None):
        self.size = size
        self.description = description
        self.tensors = tensors
        self._loader = loader

    def batches(self, batch_size: int, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[int, Any]]:
        """Yield (index of the first sample, batch), floating-point tensors as ``dtype`` on ``device``.

        Streamed samples come in the batches of their loader, whatever ``batch_size``.
        """
        move = _mover(device, dtype)
        if self.tensors is not None:
            for start in range(0, self.size, batch_size):
                stop = min(start + batch_size, self.size)
                yield start, map_tensors(lambda t, s=start, e=stop: move(t[s:e]), self.tensors)
            return
        start = 0
        for batch in self._loader:
            yield start, map_tensors(move, batch)
            start += batch_length(batch)

    def shuffled(
        self, batch_size: int, generator: torch.Generator, device: torch.device, dtype: torch.dtype
    ) -> Iterator[Any]:
        """Yield batches in random order, at most ``batch_size`` large and nearly equal; streamed ones as they come."""
        if self.tensors is None:
            yield from (batch for _, batch in self.batches(batch_size, device, dtype))
            return
        move, order = _mover(device, dtype), torch.randperm(self.size, generator=generator)
        for picked in order.tensor_split(-(-self.size // batch_size)):
            yield map_tensors(lambda t, p=picked: move(t[p.to(t.device)]), self.tensors)

    def count_in(self, volume: int) -> int:
        """How many samples take ``volume`` bytes, at least 16 and at most all; streamed batches are what they are."""
        if self.tensors is None:
            return self.size
        return min(self.size, max(16, volume * self.size // max(1, tree_bytes(self.tensors))))

    def subset(self, count: int, seed: int) -> "Samples":
        """``count`` resident samples drawn without replacement; these where there are no more, or where streamed."""
        if self.tensors is None or count >= self.size:
            return self
        drawn = torch.randperm(self.size, generator=torch.Generator().manual_seed(seed))[:count].sort().values
        tensors = map_tensors(lambda t: t[drawn.to(t.device)], self.tensors)
        return _resident(tensors, {**self.description, "subset": [count, seed]})

    def to(self, device: torch.device, dtype: torch.dtype) -> "Samples":
        """Resident samples on ``device`` when they take less than half of its free memory, else these."""
        if self.tensors is None or 2 * tree_bytes(self.tensors) > available_memory(device):
            return self
        moved = map_tensors(_mover(device, dtype), self.tensors)
        return Samples(self.size, self.description, tensors=moved)


def collect(data: Any) -> Samples:
    """Samples from a `Data`, a pair (inputs, targets), a Dataset or a DataLoader.

    A DataLoader is read twice: the passes must agree, else its surface would be of no data set in particular.

    Raises:
        InputError: no samples, lengths that differ, or other data on the second pass.
    """
    if hasattr(data, "inputs") and hasattr(data, "targets"):
        description = {key: getattr(data, key, None) for key in ("name", "split", "source")}
        return _resident((data.inputs, data.targets), description, getattr(data, "fingerprint", None))
    if isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        return _resident(tuple(data), {"name": "tensors"})
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        data = DataLoader(data, batch_size=256)
    if isinstance(data, DataLoader):
        return _from_loader(data)
    raise InputError(
        f"data must be a Data, a pair (inputs, targets), a Dataset or a DataLoader, not {type(data).__name__}"
    )


def _mover(device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """tensor -> the same on ``device``, in ``dtype`` if it is floating-point."""

    def move(tensor: Tensor) -> Tensor:
        moved = tensor.to(device, dtype if tensor.is_floating_point() else None, non_blocking=True)
        return moved.clone() if moved.is_inference() else moved  # made under torch.inference_mode: no derivatives

    return move


def _from_loader(loader: DataLoader) -> Samples:
    description = {"name": type(loader.dataset).__name__}
    first, size, volume = [], 0, 0
    limit = available_memory(torch.device("cpu")) // 4  # the batches and their concatenation live side by side
    for batch in loader:
        size, volume = size + batch_length(batch), volume + tree_bytes(batch)
        first = [*first, batch] if volume <= limit else []
    if not size:
        raise InputError("the DataLoader gives no samples")
    prints = [fingerprint(tensors_of(batch)) for batch in (first or loader)]
    if prints != [fingerprint(tensors_of(batch)) for batch in loader]:
        raise InputError(
            "the DataLoader gives other data on a second pass (shuffle=True, or random augmentation); "
            "pass one with shuffle=False, or the Dataset itself with fixed transforms"
        )
    if first:
        with contextlib.suppress(RuntimeError, TypeError):  # batches of unequal width cannot be one tensor
            return _resident(concatenate(first), description)
    description["fingerprint"] = hashlib.sha256("".join(prints).encode()).hexdigest()
    return Samples(size, description, loader=loader)


def _resident(tensors: Any, description: dict, known_fingerprint: str | None = None) -> Samples:
    size = batch_length(tensors)
    if size == 0:
        raise InputError("the data hold no samples")
    description["fingerprint"] = known_fingerprint or fingerprint(tensors_of(tensors))
    return Samples(size, description, tensors=tensors)


def batch_length(batch: Any) -> int:
    """Number of samples in a batch; all its tensors must agree."""
    lengths = {len(tensor) for tensor in tensors_of(batch) if tensor.ndim}
    if len(lengths) != 1:
        raise InputError(f"the tensors of a batch must have one length, not {sorted(lengths)}")
    return lengths.pop()


def tensors_of(tree: Any) -> list[Tensor]:
    """The tensors inside nested tuples, lists and dicts, in order."""
    found: list[Tensor] = []
    map_tensors(found.append, tree)
    return found


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Apply ``function`` to every tensor inside nested tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: map_tensors(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)([map_tensors(function, value) for value in tree])
    return tree


def concatenate(batches: list[Any]) -> Any:
    """One tree whose tensors are those of ``batches``, joined along the first axis."""
    pieces = iter([torch.cat(parts) for parts in zip(*map(tensors_of, batches), strict=True)])
    return map_tensors(lambda _: next(pieces), batches[0])


def tree_bytes(tree: Any) -> int:
    """Bytes that the tensors of ``tree`` take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(tree))


def available_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on ``device``."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
