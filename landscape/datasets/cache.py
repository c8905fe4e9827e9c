"""Decoded pixels kept on disk, where decoding is slow; uint8 arrays in .npz, no pickle."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from landscape.errors import InputError
from landscape.files import make_folder
from landscape.storage.arrays import Array, read_arrays, write_arrays
from landscape.storage.reading import is_there

__all__ = ["cached_arrays"]

FORMS = {
    "pixels": Array("N H W C", kinds="u", high=255),
    "targets": Array("N", kinds="iu", low=0, optional=True),
}


def cached_arrays(path: Path, decode: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays in ``path`` (pixels, targets); when it is missing or damaged, those of ``decode()``, kept there then.

    A folder that cannot be written costs a warning and the time to decode again, never the data.
    """
    try:
        if is_there(path):
            found = read_arrays(path, FORMS, "cache of decoded images", "they are decoded again")
            return {name: found[name] for name in FORMS if name in found}
    except InputError as error:
        warnings.warn(str(error), stacklevel=2)
    arrays = decode()
    try:
        make_folder(path.parent)
        write_arrays(path, arrays, compressed=False)
        print(f"Wrote {path} (decoded images, reused next time)")
    except InputError as error:
        warnings.warn(f"decoded images are not kept: {error}", stacklevel=2)
    return arrays
