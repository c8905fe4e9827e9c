"""CIFAR-10 through torchvision."""

from pathlib import Path

import numpy as np

from landscape.datasets.base import Data, checked_limit, from_pixels
from landscape.datasets.download import downloaded

__all__ = ["load_cifar10"]

MEAN = (0.4914, 0.4822, 0.4465)  # of the 50,000 training images, per channel
STD = (0.2470, 0.2435, 0.2616)


def load_cifar10(split: str, data_dir: Path, limit: int | None) -> Data:
    """CIFAR-10: 50,000 / 10,000 colour images, inputs [N, 3, 32, 32]; torchvision checks every file's MD5."""
    dataset = downloaded("CIFAR10", data_dir, train=split == "train")
    limit = checked_limit(limit, len(dataset.targets), f"cifar10 {split}")
    return from_pixels(
        dataset.data[:limit],
        np.asarray(dataset.targets[:limit]),
        mean=MEAN,
        std=STD,
        classes=tuple(dataset.classes),
        name="cifar10",
        split=split,
        source="CIFAR-10, checked files of its python version",
    )
