"""Arrays with their metadata in one .npz file, without pickle."""

import json
import zipfile
from pathlib import Path

import numpy as np

from landscape.errors import InputError
from landscape.files import written_whole

__all__ = ["read_archive", "write_archive"]


def write_archive(path: str | Path, metadata: dict, arrays: dict[str, np.ndarray | None]) -> Path:
    """Write ``arrays`` (those that are not None) and ``metadata`` (JSON types) to ``path``, whole or not at all."""
    path = Path(path)
    stored = {name: value for name, value in arrays.items() if value is not None}
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, metadata=np.array(json.dumps(metadata)), **stored)
    return path


def read_archive(
    path: str | Path, what: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> tuple[dict, dict[str, np.ndarray | None]]:
    """(metadata, arrays by name, None where an optional one is missing) that `write_archive` wrote.

    Raises:
        InputError: the file is missing, damaged, or holds no ``what``.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; compute the {what} first, or give another file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in required}
            arrays |= {name: file[name] if name in file.files else None for name in optional}
            return json.loads(str(file["metadata"])), arrays
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError, OSError) as error:
        reason = "it holds no plain arrays" if "pickle" in str(error) else error  # whose advice is to load it unsafely
        raise InputError(f"{path} is no {what} file, or a damaged one: {reason}") from error
