"""Conversion of the caller's data to samples."""

import copy
import dataclasses
import warnings
from collections.abc import Iterable, Iterator, Mapping
from numbers import Number
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from landscape.datasets import Data
from landscape.errors import InputError
from landscape.objective.loaders import from_loader
from landscape.objective.samples import Samples, resident
from landscape.objective.trees import (
    arrays_as_tensors,
    check_tree,
    is_array,
    is_plain_list,
    leaf_names,
    leaves,
    tensors_of,
)

__all__ = ["collect"]

LOADED = 256  # number of samples in each batch in which a Dataset is read


def collect(data: Any, whole_batch: bool = False) -> Samples:
    """Samples from a `Data`, tensors (bare, or in tuples, mappings, dataclasses), a Dataset or a DataLoader.

    Arrays, columns of pandas and lists of numbers are converted to tensors. A DataLoader, or another loader that can be
    iterated over again, is read twice, and both passes must agree: otherwise different points of a surface would be
    evaluated on different data.

    Args:
        data: The samples.
        whole_batch: Take all samples as one batch, whose tensors may have different lengths.

    Raises:
        InputError: ``data`` is none of these, there are no samples, lengths differ, the second pass returns other
            data, or batches cannot be joined although ``whole_batch`` is requested.
    """
    if isinstance(data, Samples):
        return data
    if _has_fields(data):
        description = {key: getattr(data, key, None) for key in ("name", "split", "source")}
        known = getattr(data, "fingerprint", None)
        tree = (data.inputs, data.targets) if hasattr(data, "targets") else data.inputs
        return resident(check_tree(arrays_as_tensors(tree)), description, known, whole_batch)
    if _is_tree(data):
        return resident(_tensors(data), {"name": "tensors"}, None, whole_batch)
    if hasattr(data, "with_format") and not isinstance(data, Mapping):  # a data set of Hugging Face's datasets library
        data = _formatted(data)
    if isinstance(data, Dataset | IterableDataset) or (_is_sequence(data) and len(data)):
        _refuse_batches(data)
        data = DataLoader(data, batch_size=LOADED, collate_fn=_collate)
    if isinstance(data, DataLoader) or _can_be_walked_again(data):
        samples = from_loader(data, whole_batch)
        _warn_of_dropped(data, samples)
        return samples
    raise InputError(_why_not(data))


def _has_fields(data: Any) -> bool:
    """Whether ``data`` is a `Data` or a `Text`, or has inputs and targets like one and is not indexed by samples."""
    if isinstance(data, Data):  # which is indexed by samples too, for DataLoaders
        return True
    items = isinstance(data, Dataset) or hasattr(data, "__getitem__")
    return hasattr(data, "inputs") and (hasattr(data, "targets") or hasattr(data, "fingerprint")) and not items


def _is_sequence(data: Any) -> bool:
    """Whether ``data`` is indexed by samples: it has a length and items, and is not text, an array or a mapping."""
    plain = isinstance(data, str | bytes | Mapping | Tensor) or is_array(data)
    return hasattr(data, "__getitem__") and hasattr(data, "__len__") and not plain


def _can_be_walked_again(data: Any) -> bool:
    """Whether ``data`` is a loader of another kind: an iterable that is not an iterator."""
    plain = isinstance(data, str | bytes | Mapping | Tensor | nn.Module | type | list | tuple) or is_array(data)
    return isinstance(data, Iterable) and not isinstance(data, Iterator) and not plain


def _is_tree(data: Any) -> bool:
    """Whether ``data`` is a tensor or array, or a tuple, pair, mapping or dataclass with tensors or arrays."""
    if isinstance(data, list):
        return len(data) == 2 and all((isinstance(part, Tensor) or is_array(part)) and part.ndim for part in data)
    if isinstance(data, Dataset | DataLoader | str | bytes | nn.Module) or type(data) is type:
        return False
    if isinstance(data, tuple) and data and all(type(item) in (tuple, list) for item in data):
        return False
    parts = leaves(data, is_plain_list)
    if any(isinstance(part, Dataset | DataLoader) for part in parts):
        return False
    held = [isinstance(part, Tensor) or is_array(part) for part in parts]
    return any(held) or (isinstance(data, Mapping) and any(isinstance(part, list) and part for part in parts))


def _tensors(data: Any) -> Any:
    """``data`` as a tree of tensors and of values that are the same for all samples: numbers, text, None.

    Raises:
        InputError: an entry belongs to single samples, but is not a tensor; the message names it.
    """
    tree = check_tree(arrays_as_tensors(data))
    lengths = {len(tensor) for tensor in tensors_of(tree) if tensor.ndim}
    for name, leaf in zip(leaf_names(tree, is_plain_list), leaves(tree, is_plain_list), strict=True):
        same = leaf is None or isinstance(leaf, Tensor | str | bytes | bool | np.generic | Number)
        if not same or (isinstance(leaf, int) and not isinstance(leaf, bool) and leaf in lengths):
            kind = f"a {type(leaf).__name__} of {len(leaf)}" if isinstance(leaf, list | tuple) else repr(leaf)[:60]
            raise InputError(
                f"the data hold {name!r}, {kind}, beside tensors: leave it out, or pass DataLoader([data], "
                "batch_size=None), which gives all data as one batch with such values in it"
            )
    return tree


def _formatted(data: Any) -> Any:
    """``data`` of the datasets library, set to return tensors unless it has a format or a transform already."""
    own = getattr(data, "format", None) or getattr(data, "_formatting", None)
    kind = own.get("type") if isinstance(own, Mapping) else own
    return data if kind else data.with_format("torch")


def _collate(samples: list[Any]) -> Any:
    """One batch of ``samples``; lists of numbers become tensors, and dataclasses are batched field by field."""
    samples = [arrays_as_tensors(sample) for sample in samples]
    first = samples[0]
    if not dataclasses.is_dataclass(first) or isinstance(first, type | Mapping):
        return default_collate(samples)
    batch = copy.copy(first)
    for field in dataclasses.fields(first):
        object.__setattr__(batch, field.name, default_collate([getattr(sample, field.name) for sample in samples]))
    return batch


def _refuse_batches(data: Any) -> None:
    """Raise InputError for a list if its first item could be a sample as well as a batch."""
    if not isinstance(data, list | tuple) or not tensors_of(data[0]) or _is_text_sample(data[0]):
        return
    lengths = {len(tensor) if tensor.ndim else None for tensor in tensors_of(data[0])}
    if len(lengths) == 1 and None not in lengths and len(tensors_of(data[0])) > 1:
        raise InputError(
            f"each item of this {type(data).__name__} may be a sample or a batch of {lengths.pop()}; say which by "
            "DataLoader(data, batch_size=256) or DataLoader(data, batch_size=None)"
        )


def _is_text_sample(item: Any) -> bool:
    """Whether ``item`` is one encoded text: its tokens have shape [T], those of a batch [batch, T]."""
    tokens = item.get("input_ids") if isinstance(item, Mapping) else None
    return isinstance(tokens, Tensor) and tokens.ndim == 1


def _warn_of_dropped(loader: Any, samples: Samples) -> None:
    if getattr(loader, "drop_last", False) and not isinstance(loader.dataset, IterableDataset):
        total = len(loader.sampler)
        if samples.size < total and not samples.whole:
            warnings.warn(
                f"the DataLoader leaves out {total - samples.size} of {total} samples (drop_last=True): the loss is "
                "the mean over the others",
                stacklevel=5,
            )


def _why_not(data: Any) -> str:
    """The message that says why ``data`` cannot be used, and what to pass instead."""
    kind = type(data)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(data, Iterator):
        return f"a {name} can be iterated over only once; pass a list, a Dataset or a DataLoader of its samples"
    parts = [*data.values()] if isinstance(data, Mapping) else []
    if parts and all(isinstance(part, Dataset) or _is_sequence(part) for part in parts):
        first, names = next(iter(data)), ", ".join(map(str, data))
        return f"the data are several data sets ({names}); pass one of them, such as data[{first!r}]"
    return (
        "data must be a Data, a tensor or a tuple, mapping or dataclass of tensors with one row a sample, a "
        f"torch.utils.data.Dataset or a DataLoader, not {'an empty ' if _is_sequence(data) else ''}{name}; a loss that "
        "needs no data takes torch.zeros(1, 1)"
    )
