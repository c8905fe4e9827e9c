"""Any folder of images in torchvision's ImageFolder layout: PATH/train/<class>/*, PATH/test/<class>/*."""

import hashlib
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from landscape.datasets.base import Data, checked_limit, from_pixels, round_robin
from landscape.datasets.cache import cached_arrays
from landscape.errors import InputError

__all__ = ["load_folder"]

# Mean, std, size and grey or colour come from the first training images (all, if fewer), dealt round robin
# over the classes: the same numbers for both splits and every limit, without decoding the rest.
STATISTICS_IMAGES = 5000


def load_folder(path: str, split: str, data_dir: Path, limit: int | None) -> Data:
    """Images [N, C, H, W] of ``path``/``split``, one sample of each class in turn, normalised per channel.

    C is 1 when all images are grey, else 3. Decoded once and kept below ``data_dir``/cache.

    Raises:
        InputError: a folder is missing or empty, the splits have other classes, an image is damaged, has
            another size or colour in a grey set, or ``limit`` exceeds the number of images.
    """
    root, name = Path(path), f"folder:{path}"
    training, _, classes = _listed(_split_folder(root, "train"))
    files, targets, found = _listed(_split_folder(root, split))
    if found != classes:
        raise InputError(f"{root}: train has the classes {list(classes)}, {split} has {list(found)}")
    count = checked_limit(limit, len(files), f"{name} {split}")
    sample = _pixels(training[:STATISTICS_IMAGES], data_dir, training[0], "Measuring mean and std")
    pixels = _pixels(files[:count], data_dir, training[0], f"Decoding {split} images")
    if not _colour(sample).any():
        if (colour := _colour(pixels)).any():
            raise InputError(f"{files[int(colour.argmax())]} is in colour, the training images are grey; convert it")
        sample, pixels = sample[..., :1], pixels[..., :1]
    mean, std = _statistics(sample)
    return from_pixels(
        pixels,
        targets[:count],
        mean=mean,
        std=std,
        classes=classes,
        name=name,
        split=split,
        source=f"image folder {path}, {count} of {len(files)} images, classes in turn",
    )


def _split_folder(root: Path, split: str) -> Path:
    names = ("train",) if split == "train" else ("test", "val")
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise InputError(f"{root} has no folder {' or '.join(names)}; expected {root / names[0]}/<class>/<image>")


def _listed(folder: Path) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    """Files, class numbers [N] and class names, dealt round robin over the classes."""
    from torchvision.datasets import ImageFolder  # seconds to import, needed only here

    try:
        listing = ImageFolder(folder.absolute())
    except FileNotFoundError as error:
        raise InputError(f"{folder} is no image folder: {error}") from error
    order = round_robin(listing.targets)
    files = [listing.samples[i][0] for i in order]
    return files, np.asarray(listing.targets)[order], tuple(listing.classes)


def _pixels(files: list[str], data_dir: Path, first: str, what: str) -> np.ndarray:
    """Decoded ``files`` [N, H, W, 3] uint8, all of the size of ``first``, from the cache if it has them."""
    key = hashlib.sha256()
    for file in (first, *files):
        status = os.stat(file)
        key.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    cache = data_dir / "cache" / f"folder-{key.hexdigest()[:16]}.npz"
    return cached_arrays(cache, lambda: {"pixels": _decoded(files, first, what)})["pixels"]


def _decoded(files: list[str], first: str, what: str) -> np.ndarray:
    example = _image(first)
    pixels = np.empty((len(files), *example.shape), np.uint8)
    for slot, file in zip(pixels, tqdm(files, desc=what, disable=None), strict=True):
        image = _image(file)
        if image.shape != example.shape:
            (h, w, _), (height, width, _) = example.shape, image.shape
            raise InputError(f"{first} is {w} x {h} pixels, {file} is {width} x {height}; resize to one size")
        slot[:] = image
    return pixels


def _image(file: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise InputError(f"{file} has more than 8 bits a channel; convert it to 8")
            return np.asarray(image.convert("RGB"))
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{file} is a damaged image, or none: {error}") from error


def _colour(pixels: np.ndarray) -> np.ndarray:
    """Mask [N] of the images whose three channels differ anywhere."""
    red = pixels[..., :1]
    return (pixels[..., 1:] != red).any(axis=(1, 2, 3))


def _statistics(pixels: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels in [0, 1], exact from counts of the 256 levels."""
    levels = np.arange(256) / 255
    mean, std = [], []
    for channel in range(pixels.shape[-1]):
        counts = sum(np.bincount(image[..., channel].ravel(), minlength=256) for image in pixels)
        share = counts / counts.sum()
        mean.append(float(share @ levels))
        std.append(float(np.sqrt(share @ (levels - mean[-1]) ** 2)))
    if min(std) == 0:
        raise InputError("the training images are all of one colour and cannot be normalised")
    return tuple(mean), tuple(std)
