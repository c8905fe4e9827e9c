"""A loaded data set: normalised inputs and labels in memory, with their origin."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.presenting import Presented
from landscape.runtime import own_torch_state
from landscape.storage.provenance import fingerprint

__all__ = ["SPLITS", "Data", "Split", "checked_limit", "from_pixels", "round_robin", "stratified_split"]

Split = Literal["train", "test"]  # of the data sets that `load_dataset` knows
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, eq=False, repr=False)
class Data(Presented):
    """One split of a data set (or a selection from it), decoded, normalised and resident in memory."""

    inputs: Tensor  # [N, ...] float32; images are [N, C, H, W], normalised: (pixel in [0, 1] - mean) / std
    targets: Tensor  # [N] int64, index into classes
    classes: tuple[str, ...]
    name: str  # the name for load_dataset, never "auto": "mnist", "folder:PATH", "moons:noise=0.1"
    split: str  # "train" or "test"
    source: str  # a sentence on the origin of the samples, for logs
    mean: tuple[float, ...]  # per channel, of pixels in [0, 1]; per coordinate of points
    std: tuple[float, ...]  # likewise
    indices: Tensor  # [N] int64, position of each sample in the full split

    @property
    def facts(self) -> dict[str, str]:
        return {
            "name": self.name,
            "split": self.split,
            "samples": f"{len(self):,}",
            "shape": " x ".join(map(str, self.inputs.shape[1:])),
            "classes": f"{len(self.classes):,}",
            "source": self.source,
        }

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """Input and target of sample ``i``, so that a DataLoader takes the data as they are."""
        return self.inputs[i], self.targets[i]

    @own_torch_state()
    def select(self, indices: Tensor | Sequence[int]) -> "Data":
        """The samples at positions ``indices`` [K], in that order.

        Raises:
            InputError: a position is outside the data.
        """
        indices = torch.as_tensor(indices, dtype=torch.int64)
        if len(wrong := indices[(indices < 0) | (indices >= len(self))]):
            raise InputError(f"no sample {int(wrong[0])}: {self.name} {self.split} has 0 to {len(self) - 1}")
        return replace(self, inputs=self.inputs[indices], targets=self.targets[indices], indices=self.indices[indices])

    def subset(self, n: int, seed: int) -> "Data":
        """``n`` random samples, drawn without replacement from ``seed``, ordered by their position.

        Raises:
            InputError: ``n`` is below 1 or above the number of samples.
        """
        n = checked_limit(n, len(self), f"{self.name} {self.split}")
        drawn = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:n]
        return self.select(drawn.sort().values)

    def divided(self, share: float, seed: int) -> tuple["Data", "Data"]:
        """A random division into training and validation data; ``share`` of every class becomes validation data.

        Raises:
            InputError: one of the two parts would be empty.
        """
        parts = stratified_split(self.targets.numpy(), test_share=share, seed=seed)
        if not all(map(len, parts.values())):
            raise InputError(f"a share of {share} of {len(self)} samples leaves one part empty; take more samples")
        train, test = (self.select(torch.from_numpy(np.sort(positions))) for positions in parts.values())
        return train, test

    def minibatches(self, count: int, size: int, seed: int) -> list["Data"]:
        """``count`` disjoint mini-batches of ``size`` random samples, drawn without replacement from ``seed``.

        Raises:
            InputError: ``count`` or ``size`` is below 1, or the data have too few samples.
        """
        if count < 1 or size < 1 or count * size > len(self):
            raise InputError(
                f"cannot draw {count} mini-batches of {size} samples: {self.name} {self.split} has {len(self)}"
            )
        drawn = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return [self.select(batch) for batch in drawn[: count * size].split(size)]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 digest (hexadecimal) of shape, type and bytes of inputs and targets."""
        return fingerprint((self.inputs, self.targets))

    @property
    def description(self) -> dict[str, Any]:
        """The entry that identifies these data in the metadata of results: name, split, size and fingerprint."""
        return {"name": self.name, "split": self.split, "size": len(self), "fingerprint": self.fingerprint}

    def image(self, i: int) -> np.ndarray | None:
        """Sample ``i`` before normalisation, [H, W] or [H, W, 3] in [0, 1]; None if it is not an image."""
        sample = self.inputs[i]
        if sample.ndim != 3 or len(sample) not in (1, 3) or len(self.mean) != len(sample):
            return None
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        pixels = (sample.cpu() * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()
        return pixels[..., 0] if len(sample) == 1 else pixels


def from_pixels(
    pixels: np.ndarray,
    targets: np.ndarray,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    scale: float = 255,
    **fields: Any,
) -> Data:
    """Data with inputs (pixels / scale - mean) / std from ``pixels`` [N, H, W, C]; makes one copy, in float32."""
    inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    inputs = inputs.to(torch.float32, memory_format=torch.contiguous_format, copy=True).div_(scale)
    inputs.sub_(torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None])
    labels = torch.from_numpy(np.asarray(targets, dtype=np.int64))
    fields.setdefault("indices", torch.arange(len(labels)))
    return Data(inputs=inputs, targets=labels, mean=tuple(mean), std=tuple(std), **fields)


def checked_limit(limit: int | None, available: int, name: str) -> int:
    """``limit``, which must lie from 1 to ``available``; ``available`` if it is None.

    Raises:
        InputError: ``limit`` is out of range.
    """
    if limit is None:
        return available
    if not 1 <= limit <= available:
        raise InputError(f"cannot take {limit} samples: {name} has {available}, choose from 1 to {available}")
    return limit


def round_robin(targets: np.ndarray | Sequence[int]) -> np.ndarray:
    """Positions [N] that take one sample of each class in turn, so that the first n samples are balanced for all n."""
    targets = np.asarray(targets)
    turn = np.empty(len(targets), dtype=np.int64)
    for label in np.unique(targets):
        members = np.flatnonzero(targets == label)
        turn[members] = np.arange(len(members))
    return np.lexsort((targets, turn))


def stratified_split(targets: np.ndarray, *, test_share: float, seed: int) -> dict[str, np.ndarray]:
    """Positions of a random "train" and "test" split with ``test_share`` of every class, ordered by `round_robin`."""
    targets = np.asarray(targets)
    generator = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for label in np.unique(targets):
        members = generator.permutation(np.flatnonzero(targets == label))
        count = round(test_share * len(members))
        parts["test"].append(members[:count])
        parts["train"].append(members[count:])
    chosen = {split: np.concatenate(members) for split, members in parts.items()}
    return {split: members[round_robin(targets[members])] for split, members in chosen.items()}
