"""Reading one image file: upright, opaque, at its own bit depth; files that cannot be read exactly are refused."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from landscape.errors import InputError
from landscape.escaping import one_line

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

__all__ = ["SUFFIXES", "read_image"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # as in torchvision
TRANSPARENT = ("RGBA", "RGBa", "LA", "La", "PA")  # modes with an alpha channel
GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N")  # Pillow's names of the layouts of 16-bit grey images


def read_image(file: str) -> tuple[np.ndarray, bool]:
    """The pixels [H, W, 3] of ``file``, and whether parts of it are transparent; those are laid over white.

    The pixels are uint8, or uint16 for grey images of 16 bits. The image is turned upright by its EXIF orientation.

    Raises:
        InputError: the file is damaged, not an image, too large, has several frames, or has more bits than can be read
            exactly.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Opened as a stream: given a name, Pillow 13 decodes uncompressed TIFFs with an EXIF rotation wrongly.
            with open(file, "rb") as stream, Image.open(stream) as image:
                return _pixels(image, one_line(file))
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{one_line(file)} cannot be read: {error.strerror}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{one_line(file)} has more than {Image.MAX_IMAGE_PIXELS:,} pixels, which may be an attack; resize it, or "
            "set PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from error
    except Exception as error:  # decoders raise errors of many types for damaged files
        reason = one_line(str(error)) or type(error).__name__
        raise InputError(f"{one_line(file)} is a damaged image, or none: {reason}; replace or remove it") from error


def _pixels(opened: "ImageFile", name: str) -> tuple[np.ndarray, bool]:
    from PIL import Image, ImageOps

    # The first frame of an MPO photograph is the full picture, which viewers show.
    if opened.format != "MPO" and (frames := getattr(opened, "n_frames", 1)) > 1:
        raise InputError(f"{name} holds {frames} pictures; save the one to use in a separate file")
    deep = _is_deep(opened, name)
    image = ImageOps.exif_transpose(opened)
    if deep:
        return np.repeat(np.asarray(image).astype(np.uint16)[..., None], 3, axis=-1), False
    if image.mode not in TRANSPARENT and "transparency" not in image.info:
        return np.asarray(image.convert("RGB")), False
    image = image.convert("LA") if image.mode == "La" else image
    image = image.convert("RGBA")
    transparent = bool(np.asarray(image.getchannel("A")).min() < 255)
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image).convert("RGB")), transparent


def _is_deep(image: "ImageFile", name: str) -> bool:
    """Whether the image is a 16-bit grey image; others of more than 8 bits, which would lose bits, are refused."""
    storage = [tile[3] if isinstance(tile[3], tuple) else (tile[3],) for tile in image.tile]
    raw = str(storage[0][0]) if storage else image.mode
    highest = storage[0][1] if image.format == "PPM" and storage and len(storage[0]) == 2 else 0
    grey = image.mode.startswith("I")
    if not grey and image.mode != "F" and highest <= 255 and (";16" not in raw or raw.startswith("BGR")):
        return False
    exact = raw in GREY_16 or highest > 255
    white_is_zero = getattr(image, "tag_v2", {}).get(262) == 0  # TIFF photometry that Pillow inverts at 8 bits only
    if not grey or not exact or white_is_zero or "transparency" in image.info:
        raise InputError(
            f"{name} has more than 8 bits a channel and is not plain grey of 16 bits; convert it to 8 bits"
        )
    return True
