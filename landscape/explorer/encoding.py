"""Encoding of arrays and pictures for a page."""

import base64
import io
from typing import Any

import numpy as np

from landscape.errors import InputError

__all__ = ["array_content", "numbers", "picture_uri"]


def array_content(array: np.ndarray) -> dict[str, Any]:
    """Shape and values, in base64 of little-endian float64, which preserves NaN and infinities."""
    array = np.ascontiguousarray(array, "<f8")
    return {"shape": list(array.shape), "base64": base64.b64encode(array.tobytes()).decode()}


def numbers(values: np.ndarray) -> list[float | None]:
    """``values`` [N] for JSON; those that are not finite become None."""
    return [value if np.isfinite(value) else None for value in np.asarray(values).tolist()]


def picture_uri(picture: np.ndarray) -> str:
    """``picture`` [H, W] or [H, W, 3], uint8 or floats in [0, 1], as a data URI of a PNG file."""
    from matplotlib.image import imsave

    pixels = np.asarray(picture)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or 0 in pixels.shape:
        raise InputError(f"a picture must have shape [H, W] or [H, W, 3], not {list(pixels.shape)}")
    share = pixels / 255 if pixels.dtype == np.uint8 else pixels.astype(np.float64)
    file = io.BytesIO()
    imsave(file, np.nan_to_num(share).clip(0, 1), cmap="gray", vmin=0, vmax=1, format="png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
