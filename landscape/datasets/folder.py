"""Any folder of images in torchvision's ImageFolder layout: PATH/train/<class>/*, PATH/test/<class>/*."""

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
import psutil

from landscape.datasets.base import Data, checked_limit, from_pixels, round_robin
from landscape.datasets.cache import cached_arrays
from landscape.datasets.images import read_image
from landscape.datasets.listing import list_images
from landscape.errors import InputError
from landscape.escaping import is_text, one_line
from landscape.runtime.progress import progress_bar

__all__ = ["load_folder"]

# Mean, standard deviation, image size and the choice of grey or colour come from the first images of the training
# split, one of each class in turn: so they are the same for both splits and every limit, and the rest is not decoded.
STATISTICS_IMAGES = 5000
DECODING = b"upright, over white, up to 16 bits\n"  # version of the decoding; part of the name of the cache file


def load_folder(path: str, split: str, data_dir: Path, limit: int | None) -> Data:
    """Images [N, C, H, W] of ``path``/``split``, one sample of each class in turn, normalised per channel.

    C is 1 if all images are grey, else 3. Images are turned upright by their EXIF orientation; transparent parts are
    laid over white, with a warning; grey images of 16 bits keep their depth. The decoded images are cached in
    ``data_dir``/cache.

    Raises:
        InputError: a folder is missing or empty, the splits have different classes, an image is damaged, has another
            size or is in colour where the training images are grey, or ``limit`` exceeds the number of images.
    """
    if not is_text(path):
        raise InputError(
            f"the name of the folder {one_line(path)} cannot be decoded as text; rename it, or set PYTHONUTF8=1"
        )
    root, name = Path(path), f"folder:{path}"
    training, _, classes = _listed(_split_folder(root, "train"))
    files, targets, split_classes = _listed(_split_folder(root, split))
    if split_classes != classes:
        raise InputError(f"{root}: train has the classes {list(classes)}, {split} has {list(split_classes)}")
    count = checked_limit(limit, len(files), f"{name} {split}")
    sample, _ = _pixels(training[:STATISTICS_IMAGES], data_dir, training[0], "Measuring mean and std")
    pixels, transparent = _pixels(files[:count], data_dir, training[0], f"Decoding {split} images")
    source = f"image folder {path}, {count} of {len(files)} images, classes in turn"
    if transparent:
        source += f", transparent parts of {transparent} laid over white"
        warnings.warn(f"{name} {split}: transparent parts of {transparent} images are laid over white", stacklevel=3)
    if not _colour(sample).any():
        if (colour := _colour(pixels)).any():
            raise InputError(f"{files[int(colour.argmax())]} is in colour, the training images are grey; convert it")
        sample, pixels = sample[..., :1], pixels[..., :1]
    mean, std = _statistics(sample)
    scale = np.iinfo(pixels.dtype).max
    if pixels.dtype == np.uint16:
        pixels = pixels.astype(np.float32)  # torch has few operations on uint16
    return from_pixels(
        pixels, targets[:count], mean=mean, std=std, scale=scale, classes=classes, name=name, split=split, source=source
    )


def _split_folder(root: Path, split: str) -> Path:
    names = ("train",) if split == "train" else ("test", "val")
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise InputError(f"{root} has no folder {' or '.join(names)}; expected {root / names[0]}/<class>/<image>")


def _listed(folder: Path) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    """Files, class numbers [N] and class names; the files are ordered by `round_robin`."""
    files, targets, classes = list_images(folder)
    order = round_robin(targets)
    return [files[i] for i in order], np.asarray(targets)[order], classes


def _pixels(files: list[str], data_dir: Path, first: str, what: str) -> tuple[np.ndarray, int]:
    """Decoded ``files`` [N, H, W, 3], all of the size of ``first``, and how many are partly transparent; cached."""
    key = hashlib.sha256(DECODING)
    for file in (first, *files):
        status = os.stat(file)
        key.update(os.fsencode(file) + f" {status.st_size} {status.st_mtime_ns}\n".encode())
    cache = data_dir / "cache" / f"folder-{key.hexdigest()[:16]}.npz"
    recipe = {"images": key.hexdigest()}
    arrays = cached_arrays(cache, ("pixels", "transparent"), recipe, lambda: _decoded(files, first, what))
    return arrays["pixels"], int(arrays["transparent"])


def _decoded(files: list[str], first: str, what: str) -> dict[str, np.ndarray]:
    """``pixels`` (uint16 if any image has 16 bits, else uint8) and the number of ``transparent`` images."""
    example, _ = read_image(first)
    _check_memory(len(files), example)
    pixels, transparent = np.empty((len(files), *example.shape), example.dtype), 0
    with progress_bar(True, what, len(files), unit="images") as bar:
        for k, file in enumerate(files):
            image, is_transparent = read_image(file)
            if image.shape != example.shape:
                (h, w, _), (height, width, _) = example.shape, image.shape
                names = one_line(first), one_line(file)
                raise InputError(
                    f"{names[0]} is {w} x {h} pixels, {names[1]} is {width} x {height}; resize to one size"
                )
            if image.dtype != pixels.dtype:
                pixels, image = _deepened(pixels), _deepened(image)
            pixels[k] = image
            transparent += is_transparent
            bar.update()
    return {"pixels": pixels, "transparent": np.array(transparent)}


def _deepened(pixels: np.ndarray) -> np.ndarray:
    """``pixels`` in 16 bits: 255 becomes 65,535."""
    return pixels if pixels.dtype == np.uint16 else pixels.astype(np.uint16) * np.uint16(257)


def _check_memory(count: int, example: np.ndarray) -> None:
    """Raise InputError if the images do not fit into memory, both decoded and in float32."""
    needed, free = count * (example.nbytes + 4 * example.size), psutil.virtual_memory().available
    if needed > free:
        height, width, _ = example.shape
        raise InputError(
            f"{count:,} images of {width} x {height} pixels take {needed / 2**30:.3g} GiB of memory, "
            f"{free / 2**30:.3g} GiB are free; resize them, or take fewer with a limit"
        )


def _colour(pixels: np.ndarray) -> np.ndarray:
    """Mask [N] of the images whose three channels differ in any pixel."""
    red = pixels[..., :1]
    coloured: np.ndarray = (pixels[..., 1:] != red).any(axis=(1, 2, 3))
    return coloured


def _statistics(pixels: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels in [0, 1], computed exactly from a histogram of all levels."""
    top = np.iinfo(pixels.dtype).max
    levels = np.arange(top + 1) / top
    mean, std = [], []
    for channel in range(pixels.shape[-1]):
        counts = np.zeros(top + 1, dtype=np.int64)
        for image in pixels:
            counts += np.bincount(image[..., channel].ravel(), minlength=top + 1)
        share = counts / counts.sum()
        mean.append(float(share @ levels))
        std.append(float(np.sqrt(share @ (levels - mean[-1]) ** 2)))
    if min(std) == 0:
        raise InputError("the training images are all of one colour and cannot be normalised")
    return tuple(mean), tuple(std)
