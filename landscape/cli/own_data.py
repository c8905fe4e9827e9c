"""Data of the user's own, which a function in a file of theirs returns, for the scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from landscape.datasets import Data
from landscape.datasets.base import checked_limit
from landscape.errors import InputError
from landscape.models.own import call_own, is_own, required_of
from landscape.objective.collecting import collect
from landscape.objective.losses import LOSSES, is_classification
from landscape.objective.samples import Samples, resident
from landscape.objective.trees import map_parts, rows_of, tensors_of
from landscape.presenting import plural
from landscape.training.predictions import predict

__all__ = [
    "OwnData",
    "SampleSet",
    "build_arguments",
    "check_targets",
    "images_of",
    "load_own_data",
    "predicted_classes",
]


@dataclass(frozen=True, eq=False)
class OwnData:
    """One split of the user's own data, or a selection from it, with those members of `Data` that the scripts use."""

    samples: Samples  # what an objective is made of
    name: str  # FILE.py:FUNCTION
    split: str  # "train" or "test"
    indices: Tensor = field(repr=False)  # [N] int64, position of each sample in the whole split

    def __len__(self) -> int:
        return self.samples.size

    def select(self, indices: Tensor | Sequence[int]) -> "OwnData":
        """The samples at positions ``indices`` [K], in that order.

        Raises:
            InputError: a position is outside the data, or they come in batches that cannot be divided.
        """
        indices = torch.as_tensor(indices, dtype=torch.int64)
        if self.samples.whole or self.samples.tensors is None:
            raise InputError(
                f"the {self.split} data of {self.name} come in batches that cannot be divided into samples (they hold "
                "more than tensors with one row a sample, or do not fit into memory); take all of them"
            )
        if len(wrong := indices[(indices < 0) | (indices >= len(self))]):
            raise InputError(f"no sample {int(wrong[0])}: {self.name} {self.split} has 0 to {len(self) - 1}")
        tensors = map_parts(lambda part: rows_of(part, indices), self.samples.tensors)
        chosen = resident(tensors, {"name": self.name, "split": self.split})
        return replace(self, samples=chosen, indices=self.indices[indices])

    def subset(self, n: int, seed: int) -> "OwnData":
        """``n`` random samples, drawn without replacement from ``seed``, ordered by their position.

        Raises:
            InputError: ``n`` is below 1 or above the number of samples, or they cannot be divided.
        """
        n = checked_limit(n, len(self), f"{self.name} {self.split}")
        if n == len(self):
            return self
        drawn = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:n]
        return self.select(drawn.sort().values)

    def minibatches(self, count: int, size: int, seed: int) -> list["OwnData"]:
        """``count`` disjoint mini-batches of ``size`` random samples, drawn without replacement from ``seed``.

        Raises:
            InputError: the data have too few samples, or cannot be divided.
        """
        if count * size > len(self):
            what = f"{self.name} {self.split} has {len(self)}"
            raise InputError(f"cannot draw {count} mini-batches of {size} samples: {what}")
        drawn = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return [self.select(batch) for batch in drawn[: count * size].split(size)]

    @property
    def description(self) -> dict[str, Any]:
        """The entry that identifies these data in the metadata of results."""
        return {"name": self.name, "split": self.split, "size": len(self), "fingerprint": self.fingerprint}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 digest (hexadecimal) of all samples."""
        return str(self.samples.description["fingerprint"])

    @property
    def pair(self) -> tuple[Tensor, Tensor] | None:
        """Inputs and targets [N, ...], if a sample is such a pair of tensors."""
        tensors = self.samples.tensors
        pair = isinstance(tensors, tuple | list) and len(tensors) == 2
        return tuple(tensors) if pair and all(isinstance(part, Tensor) for part in tensors) else None

    @property
    def labels(self) -> Tensor | None:
        """The class labels [N], if the targets are such labels."""
        return self.pair[1] if self.pair and is_classification(self.pair[1]) else None


SampleSet = Data | OwnData


def load_own_data(name: str) -> dict[str, OwnData]:
    """The data that the function ``name`` = "FILE.py:FUNCTION" returns: (training data, test data).

    Both are anything that `objective` takes. A DataLoader that shuffles is read in the order of its data set.

    Raises:
        InputError: the code raises an error or returns something else, or the data cannot be used.
    """
    returned = call_own(name, "data")
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        kind = plural(len(returned), "value") if isinstance(returned, tuple | list) else f"a {type(returned).__name__}"
        raise InputError(f"{name} returned {kind}; it must return a pair, (training data, test data)")
    return {split: _own(part, name, split) for split, part in zip(("train", "test"), returned, strict=True)}


def check_targets(data: OwnData, loss: str) -> None:
    """Raise InputError if the named ``loss`` needs targets and the ``data`` have none."""
    if loss not in LOSSES or data.pair or data.samples.tensors is None:
        return
    shapes = ", ".join(str(list(part.shape[1:])) for part in tensors_of(data.samples.tensors))
    raise InputError(
        f"the {data.split} data of {data.name} give no targets for the loss {loss}: a sample has tensors of shape "
        f"{shapes}; return pairs (inputs, targets), or name another loss (--loss)"
    )


def build_arguments(model: str, data: Mapping[str, OwnData]) -> dict[str, Any]:
    """``input_shape`` and ``classes`` of ``data``, if the network ``model`` cannot be built without them."""
    arguments: dict[str, Any] = {}
    pair, labels = data["train"].pair, [part.labels for part in data.values()]
    if pair:
        arguments["input_shape"] = tuple(pair[0].shape[1:])
    if known := [part for part in labels if part is not None]:
        arguments["classes"] = 1 + max(int(part.max()) for part in known)
    needed = required_of(model) if is_own(model) else arguments.keys()
    return {name: value for name, value in arguments.items() if name in needed}


def predicted_classes(model: nn.Module, data: SampleSet) -> list[dict[str, Any]]:
    """True class, predicted class and its probability for every sample; nothing if targets are no class labels."""
    if isinstance(data, Data):
        inputs, targets, classes = data.inputs, data.targets, data.classes
    elif data.pair and data.labels is not None:
        inputs, targets, classes = *data.pair, None
    else:
        return [{} for _ in range(len(data))]
    probabilities, predicted = predict(model, inputs).max(1)
    names = classes or [str(label) for label in range(1 + int(max(targets.max(), predicted.max())))]
    return [
        {"true_class": names[target], "predicted_class": names[label], "probability": probability}
        for target, label, probability in zip(targets.tolist(), predicted.tolist(), probabilities.tolist(), strict=True)
    ]


def images_of(data: SampleSet) -> list[np.ndarray | None]:
    """The samples as images before normalisation; None for what is no image or has an unknown normalisation."""
    return [data.image(i) if isinstance(data, Data) else None for i in range(len(data))]


def _own(data: Any, name: str, split: str) -> OwnData:
    try:
        samples = collect(_in_order(data, f"{name}, {split}"))
    except InputError as error:
        raise InputError(f"the {split} data of {name}: {error}") from error
    samples.description.update(name=name, split=split)
    if samples.tensors is not None and not samples.whole:
        description = {"name": name, "split": split}
        samples = resident(samples.tensors, description, samples.description["fingerprint"])
    return OwnData(samples, name, split, torch.arange(samples.size))


def _in_order(data: Any, name: str) -> Any:
    """``data``; in place of a DataLoader that draws each sample once at random, one in the order of its data set."""
    sampler = data.sampler if isinstance(data, DataLoader) else None
    if not isinstance(sampler, RandomSampler) or sampler.replacement or sampler.num_samples != len(sampler.data_source):
        return data
    if data.batch_size is None:
        return data
    print(f"{name}: the DataLoader shuffles; all samples are taken, in the order of its data set", flush=True)
    return DataLoader(
        data.dataset, data.batch_size, num_workers=data.num_workers, collate_fn=data.collate_fn,
        worker_init_fn=data.worker_init_fn, multiprocessing_context=data.multiprocessing_context,
    )  # fmt: skip
