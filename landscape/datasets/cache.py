"""A cache on disk for decoded images, whose decoding is slow; arrays in .npz files without pickle."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from landscape.errors import InputError
from landscape.storage.arrays import Array, read_arrays, write_arrays
from landscape.storage.files import make_folder
from landscape.storage.reading import is_there

__all__ = ["cached_arrays"]

FORMS = {
    "pixels": Array("N H W C", kinds="u", high=2**16 - 1),
    "targets": Array("N", kinds="iu", low=0),
    "transparent": Array("", kinds="iu", low=0),
}


def cached_arrays(
    path: Path, names: Sequence[str], decode: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays ``names`` (keys of `FORMS`) from the file ``path``, or from ``decode()`` if it is missing or damaged.

    The results of ``decode`` are stored in ``path``. If that fails, a warning says so and the arrays are returned.
    """
    try:
        if is_there(path):
            forms = {name: FORMS[name] for name in names}
            stored = read_arrays(path, forms, "cache of decoded images", "they are decoded again")
            return {name: stored[name] for name in names}
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
