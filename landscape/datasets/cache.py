"""A cache on disk for decoded images, whose decoding is slow; arrays in .npz files without pickle."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.storage import cached
from landscape.storage.arrays import Array, read_arrays, write_arrays
from landscape.storage.files import make_folder
from landscape.storage.json_files import parsed

__all__ = ["cached_arrays"]

FORMS = {
    "pixels": Array("N H W C", kinds="u", high=2**16 - 1),
    "targets": Array("N", kinds="iu", low=0),
    "transparent": Array("", kinds="iu", low=0),
}
RECIPE = "recipe"  # name of the text among the arrays that tells what they are of
WHAT, WAY_OUT = "cache of decoded images", "they are decoded again"
Arrays = dict[str, np.ndarray]


def cached_arrays(path: Path, names: tuple[str, ...], recipe: dict[str, Any], decode: Callable[[], Arrays]) -> Arrays:
    """The arrays ``names`` (keys of `FORMS`) of the file ``path``, or of ``decode()`` where it is missing or damaged.

    ``recipe`` says what they are of. The results of ``decode`` are stored in ``path``. If that fails, a warning says so
    and the arrays are returned.
    """
    forms = {**{name: FORMS[name] for name in names}, RECIPE: Array("", kinds="U", optional=True)}

    def read(place: Path) -> tuple[Arrays, dict[str, Any]] | None:
        try:
            stored = read_arrays(place, forms, WHAT, WAY_OUT)
            # Caches of an earlier version hold no recipe; their names identify them.
            recorded = parsed(str(stored[RECIPE]), f"{place}: its recipe", WAY_OUT) if RECIPE in stored else recipe
        except InputError as error:
            warnings.warn(str(error), stacklevel=5)
            return None
        return {name: stored[name] for name in names}, recorded if isinstance(recorded, dict) else {}

    def write(place: Path, arrays: Arrays) -> None:
        try:
            make_folder(place.parent)
            write_arrays(place, {**arrays, RECIPE: json.dumps(recipe)}, compressed=False)
            print(f"Wrote {place} (decoded images, reused next time)")
        except InputError as error:
            warnings.warn(f"decoded images are not kept: {error}", stacklevel=5)

    return cached(path, recipe, decode, read=read, write=write, alone=True)
