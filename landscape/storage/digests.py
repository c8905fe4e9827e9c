"""Digests of the content of files, which are stored in them and verified when they are read."""

import hashlib
import json
from collections.abc import Callable

import numpy as np

from landscape.storage.numbers import plain_number

__all__ = ["DIGEST", "array_digest", "digest_of"]

DIGEST = "digest"  # the name of the entry in every file


def digest_of(content: object, leaf: Callable[[object], object] = plain_number) -> str:
    """SHA-256 digest of ``content`` as JSON; ``leaf`` converts values that JSON does not know."""
    return hashlib.sha256(json.dumps(content, default=leaf).encode()).hexdigest()


def array_digest(array: object) -> str:
    """Type, shape and SHA-256 digest of a numpy array, independent of its memory layout."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"a {type(array).__name__} has no digest")
    plain = np.ascontiguousarray(array)
    return f"{array.dtype.str} {array.shape} {hashlib.sha256(plain.reshape(-1).view(np.uint8).data).hexdigest()}"
