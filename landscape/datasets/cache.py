"""Decoded pixels kept on disk, where decoding is slow; uint8 arrays in .npz, no pickle."""

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from landscape.errors import InputError
from landscape.files import make_folder, written_whole

__all__ = ["cached_arrays"]


def cached_arrays(path: Path, decode: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays in ``path``; when it is missing or damaged, those of ``decode()``, which it then keeps.

    A folder that cannot be written costs a warning and the time to decode again, never the data.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        arrays = decode()
    try:
        make_folder(path.parent)
        with written_whole(path) as temporary:
            np.savez(temporary, **arrays)
        print(f"Wrote {path} (decoded images, reused next time)")
    except InputError as error:
        warnings.warn(f"decoded images are not kept: {error}", stacklevel=2)
    return arrays
