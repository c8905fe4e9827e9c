"""Data sets by name: ``load_dataset("mnist")`` returns normalised inputs with their labels."""

import warnings
from pathlib import Path

import torch

from landscape.checks import check_choice, check_folder, check_type, is_whole
from landscape.datasets.base import SPLITS, Data, Split, checked_limit
from landscape.datasets.cifar import load_cifar10
from landscape.datasets.digits import load_digits
from landscape.datasets.folder import load_folder
from landscape.datasets.mnist import load_fashion_mnist, load_mnist, load_mnist_5k
from landscape.datasets.synthetic import KINDS, load_points
from landscape.errors import InputError
from landscape.runtime import own_torch_state

__all__ = ["DATASETS", "SPLITS", "Data", "Split", "load_dataset"]

DATASETS = {
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "mnist-5k": load_mnist_5k,
    "digits": load_digits,
}


@own_torch_state()
def load_dataset(name: str, split: Split = "train", data_dir: str | Path = "data", limit: int | None = None) -> Data:
    """Load the ``split`` ("train" or "test") of the data set ``name``, downloading it into ``data_dir`` when needed.

    ``name`` is a key of ``DATASETS``; "folder:PATH" for a folder of images in the layout of torchvision's ImageFolder;
    points in the plane (moons, circles, gaussians or xor, with settings such as "moons:train=500,noise=0.1", see
    `PointRecipe`); or "auto", which means all of MNIST or, if that is neither stored nor downloadable, the 5,000 digits
    of "mnist-5k", with a warning. ``limit`` keeps only the first samples of the split.

    Example:
        >>> load_dataset("digits", split="test", limit=100).inputs.shape
        torch.Size([100, 1, 8, 8])

    Raises:
        InputError: the name or split is unknown, the files are missing and cannot be downloaded, a file is damaged, or
            ``limit`` is out of range.
    """
    check_choice("split", split, SPLITS)
    if limit is not None and not (is_whole(limit) and limit >= 1):
        raise InputError(f"limit is {limit}; take at least 1 sample")
    check_folder("data_dir", data_dir)
    check_type(name, str, "load_dataset(name)", "the name of a data set, such as 'mnist-5k'")
    kind, _, path = name.partition(":")
    if kind == "folder" and path:
        return load_folder(path, split, Path(data_dir), limit)
    if kind in KINDS:
        return load_points(name, split, limit)
    if name == "auto":
        return _load_auto(split, Path(data_dir), limit)
    if name not in DATASETS:
        known = ", ".join([*DATASETS, *KINDS])
        raise InputError(f"unknown dataset {name!r}; use one of auto, {known}, folder:PATH")
    return DATASETS[name](split, Path(data_dir), limit)


def _load_auto(split: str, data_dir: Path, limit: int | None) -> Data:
    try:
        data = load_mnist(split, data_dir, None)
    except InputError as error:
        warnings.warn(f"USING ONLY mnist-5k (5,000 DIGITS) INSTEAD OF ALL OF MNIST: {error}", stacklevel=3)
        return load_mnist_5k(split, data_dir, limit)
    return data.select(torch.arange(checked_limit(limit, len(data), f"mnist {split}"))) if limit else data
