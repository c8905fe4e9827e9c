"""Batches as trees: tensors and plain values inside nested tuples, lists, mappings and dataclasses."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from numbers import Number
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.storage.provenance import fingerprint

__all__ = [
    "arrays_as_tensors",
    "batch_length",
    "check_tree",
    "concatenate",
    "is_array",
    "is_plain_list",
    "leaf_names",
    "leaves",
    "map_leaves",
    "map_parts",
    "map_tensors",
    "rows_of",
    "select",
    "tensors_of",
    "tree_bytes",
    "tree_fingerprint",
    "values_of",
]

# Older versions of torch cannot index tensors of wide unsigned types, so their bits are indexed as signed integers.
SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
PLAIN = (Number, str, bytes, type(None), np.ndarray, np.generic, torch.dtype, torch.device)


def map_leaves(function: Callable[[Any], Any], tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """Apply ``function`` to every leaf of nested tuples, named tuples, lists, mappings and dataclasses.

    Nodes for which ``is_leaf`` is true are leaves as well.
    """
    if isinstance(tree, Tensor) or (
        is_leaf and is_leaf(tree)
    ):  # tensors first, for speed: this runs in every forward pass
        return function(tree)
    if isinstance(tree, Mapping):
        return _as_mapping(tree, {key: map_leaves(function, value, is_leaf) for key, value in tree.items()})
    if isinstance(tree, tuple | list):
        return _as_sequence(tree, [map_leaves(function, value, is_leaf) for value in tree])
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        mapped = copy.copy(tree)
        for field in dataclasses.fields(tree):
            object.__setattr__(mapped, field.name, map_leaves(function, getattr(tree, field.name), is_leaf))
        return mapped
    return function(tree)


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Apply ``function`` to every tensor of ``tree``."""
    return map_leaves(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, tree)


def map_parts(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Apply ``function`` to every tensor of ``tree`` that has axes, the first of which is that of the samples."""
    return map_leaves(lambda leaf: function(leaf) if _is_part(leaf) else leaf, tree)


def leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """Tensors and values of ``tree``, in order."""
    collected: list[Any] = []
    map_leaves(collected.append, tree, is_leaf)
    return collected


def leaf_names(tree: Any, is_leaf: Callable[[Any], bool] | None = None, name: str = "") -> list[str]:
    """Names of the `leaves` of ``tree``: their keys, fields and indices, joined by dots."""
    entries: Iterable[tuple[Any, Any]]
    if isinstance(tree, Tensor) or (is_leaf and is_leaf(tree)):
        return [name]
    if isinstance(tree, Mapping):
        entries = tree.items()
    elif isinstance(tree, tuple | list):
        entries = zip(getattr(tree, "_fields", range(len(tree))), tree, strict=True)
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        entries = [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    else:
        return [name]
    return [leaf for key, part in entries for leaf in leaf_names(part, is_leaf, f"{name}.{key}".lstrip("."))]


def is_array(leaf: Any) -> bool:
    """Whether ``leaf`` is a NumPy array or can be converted to one, such as a column of pandas."""
    return hasattr(leaf, "__array__") and not isinstance(leaf, Tensor | np.generic)


def is_plain_list(value: Any) -> bool:
    """Whether ``value`` is a list or tuple without tensors or arrays, which is one entry of a batch."""
    if not isinstance(value, list | tuple) or hasattr(value, "_fields"):
        return False
    return not any(isinstance(leaf, Tensor) or is_array(leaf) for leaf in leaves(value))


def arrays_as_tensors(tree: Any) -> Any:
    """``tree`` with arrays and lists of numbers converted to tensors.

    Raises:
        InputError: an array holds text or objects, or lists have unequal lengths; the message names the entry.
    """
    names = iter(leaf_names(tree, is_plain_list))
    return map_leaves(lambda leaf: _as_tensor(leaf, next(names)), tree, is_plain_list)


def _as_tensor(leaf: Any, name: str) -> Any:
    if not is_array(leaf) and not _holds_numbers(leaf):
        return leaf
    where = f"the data hold in {name!r}" if name else "the data hold"
    try:
        array = np.asarray(leaf)
        # A copy in the byte order of this machine, because arrays may be read-only or have negative strides.
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
    except TypeError as error:
        raise InputError(f"{where} an array of {array.dtype}; pass numbers") from error
    except ValueError as error:
        raise InputError(f"{where} lists of unequal lengths; pad them to one length, and make a tensor") from error


def _holds_numbers(value: Any) -> bool:
    """Whether ``value`` is a list, or a list of lists, that begins with a number."""
    first = value
    while isinstance(first, list) and first:
        first = first[0]
    return isinstance(value, list) and isinstance(first, Number)


def tensors_of(tree: Any) -> list[Tensor]:
    """The tensors of ``tree``, in order."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, Tensor)]


def values_of(tree: Any) -> list[Any]:
    """The leaves of ``tree`` that are not rows of samples: numbers, strings, arrays, None, tensors without axes."""
    return [leaf for leaf in leaves(tree) if not _is_part(leaf)]


def batch_length(batch: Any) -> int:
    """Number of samples in a batch: the common length of its tensors along the first axis.

    Raises:
        InputError: there are no tensors, or tensors of several lengths.
    """
    lengths = sorted({len(leaf) for leaf in leaves(batch) if _is_part(leaf)})
    if not lengths:
        raise InputError(
            f"a batch holds no tensor with one row a sample, only {_kinds(batch)}; pass a tensor, or tuples, lists, "
            "mappings or dataclasses of tensors"
        )
    if len(lengths) > 1:
        raise InputError(
            "the tensors of a batch must have one length along their first axis, that of the samples, not "
            f"{' and '.join(map(str, lengths))}; whole_batch=True takes such data as one batch, and a callable loss "
            "may use other tensors of its own"
        )
    return lengths[0]


def check_tree(batch: Any) -> Any:
    """``batch`` with detached, plain strided tensors.

    Raises:
        InputError: a tensor is of a kind that cannot be divided into samples, or a value of a kind that is unknown.
    """
    for name, leaf in zip(leaf_names(batch), leaves(batch), strict=True):
        if fault := _fault(leaf):
            raise InputError(fault + (f" (in {name!r})" if name else ""))
    return map_tensors(lambda tensor: tensor.detach().resolve_conj().resolve_neg(), batch)


def concatenate(batches: list[Any]) -> Any:
    """One tree with the rows of all ``batches``, joined along the first axis, and the other values of the first."""
    parts = [[leaf for leaf in leaves(batch) if _is_part(leaf)] for batch in batches]
    pieces = iter([torch.cat(rows) for rows in zip(*parts, strict=True)])
    return map_parts(lambda _: next(pieces), batches[0])


def rows_of(tensor: Tensor, rows: Tensor) -> Tensor:
    """``tensor[rows]``, of any dtype."""
    if tensor.dtype in SIGNED:
        return tensor.view(SIGNED[tensor.dtype])[rows.to(tensor.device)].view(tensor.dtype)
    return tensor[rows.to(tensor.device)]


def select(batch: Any, rows: Tensor, length: int) -> Any:
    """The samples ``rows`` of a batch of ``length`` samples.

    They are taken from tensors, and from lists and arrays of that length. A number equal to ``length`` is taken for the
    number of samples, and becomes the number of ``rows``.
    """
    if isinstance(batch, list | tuple) and len(batch) == length and not tensors_of(batch):
        return [batch[row] for row in rows.tolist()]
    if isinstance(batch, np.ndarray) and len(batch.shape) and len(batch) == length:
        return batch[rows.cpu().numpy()]
    if isinstance(batch, Mapping):
        return _as_mapping(batch, {key: select(value, rows, length) for key, value in batch.items()})
    if isinstance(batch, tuple | list):
        return _as_sequence(batch, [select(value, rows, length) for value in batch])

    def chosen(leaf: Any) -> Any:
        if _is_part(leaf):
            return rows_of(leaf, rows)
        if _counts(leaf, length):
            return torch.full_like(leaf, len(rows)) if isinstance(leaf, Tensor) else type(leaf)(len(rows))
        return leaf

    return map_leaves(chosen, batch)


def tree_bytes(tree: Any) -> int:
    """Bytes that the tensors of ``tree`` take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(tree))


def tree_fingerprint(tree: Any) -> str:
    """SHA-256 (hex) of the tensors of ``tree`` and, where it holds any, of its other values."""
    parts = leaves(tree)
    others = [leaf for leaf in parts if not isinstance(leaf, Tensor)]
    tensors = [leaf for leaf in parts if isinstance(leaf, Tensor)]
    text = "".join(f"{type(value).__name__} {_described(value)} " for value in others)
    return fingerprint([*tensors, torch.tensor([*text.encode()], dtype=torch.uint8)] if text else tensors)


def _described(value: Any) -> str:
    return f"{value.shape} {value.dtype} {value.tobytes().hex()}" if isinstance(value, np.ndarray) else repr(value)


def _is_part(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0


def _counts(leaf: Any, length: int) -> bool:
    number = isinstance(leaf, int) and not isinstance(leaf, bool)
    whole = isinstance(leaf, Tensor) and not leaf.is_complex() and leaf.dtype != torch.bool
    return (number or whole) and float(leaf) == length


def _fault(leaf: Any) -> str | None:
    """Why ``leaf`` cannot be divided into samples, and what to do; None if it can."""
    if not isinstance(leaf, Tensor):
        if isinstance(leaf, PLAIN) and not (isinstance(leaf, np.ndarray) and leaf.dtype.hasobject):
            return None
        kind = type(leaf)
        return (
            f"a batch holds a {kind.__module__}.{kind.__qualname__}, which cannot be divided into samples; pass "
            "tensors in tuples, lists, mappings or dataclasses, or pass the indices of the samples as data and a "
            "callable loss that looks up the rest"
        )
    kinds = {"nested": leaf.is_nested, "meta": leaf.is_meta, "quantized": leaf.is_quantized}
    kinds[str(leaf.layout).removeprefix("torch.")] = not leaf.is_nested and leaf.layout != torch.strided
    if not (wrong := [kind for kind, is_so in kinds.items() if is_so]):
        return None
    ways = {"nested": "torch.nested.to_padded_tensor", "meta": "tensors with values", "quantized": "dequantize()"}
    return f"the data hold a {wrong[0]} tensor; convert it first: {ways.get(wrong[0], 'to_dense()')}"


def _as_sequence(like: Any, values: list[Any]) -> Any:
    """``values`` in a tuple, named tuple or list of the type of ``like``."""
    return type(like)._make(values) if hasattr(like, "_fields") else type(like)(values)


def _as_mapping(like: Mapping[Any, Any], items: dict[Any, Any]) -> Mapping[Any, Any]:
    """``items`` in a mapping of the type of ``like``, or in a plain dict if that cannot be made from a dict."""
    if type(like) is dict:
        return items
    try:
        mapping = type(like)(items)  # type: ignore[call-arg]
    except (TypeError, ValueError):
        return items
    return mapping if list(mapping) == list(items) else items


def _kinds(tree: Any) -> str:
    kinds: Iterable[str] = dict.fromkeys(
        "a tensor without axes" if isinstance(leaf, Tensor) else type(leaf).__name__ for leaf in leaves(tree)
    )
    return ", ".join(kinds) or "nothing"
