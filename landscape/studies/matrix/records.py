"""Records: JSON files that say what was made, from what and into which files, written after all of these.

Work is done when its record holds the recipe asked for and the files have the content it tells. Whatever ended before,
by kill -9 or a full disk, left no record or an older one, and is done again.
"""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.storage.files import make_folder
from landscape.storage.json_files import read_json, write_sealed
from landscape.storage.locks import locked
from landscape.storage.names import path_inside

__all__ = [
    "EXACT",
    "clear_record",
    "file_hash",
    "is_current",
    "own_folder",
    "plain",
    "read_record",
    "whole_record",
    "write_record",
]

DIGITS = 6  # of measured numbers: sums of float32 values have no more
FORM = {"recipe": dict, "files": {str: str}}
EXACT = 17  # digits that tell every float64 from its neighbours


def write_record(path: Path, recipe: dict[str, Any], content: dict[str, Any], files: Iterable[Path] = ()) -> Path:
    """Write ``recipe``, ``content`` and the hashes of ``files``, all of them below the folder of ``path``."""
    hashes = {file.relative_to(path.parent).as_posix(): file_hash(file) for file in sorted(files)}
    return write_sealed(path, {"recipe": recipe, **content, "files": hashes})


def read_record(path: Path, form: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """The record at ``path``, of this ``form`` in addition to that of all; None where there is none, a damaged or
    edited one, one that names files outside its folder, or something else."""
    with contextlib.suppress(InputError):
        record = read_json(path, FORM | (form or {}), "record", "make it again")
        for name, content in record["files"].items():
            path_inside(path.parent, name)
            if not re.fullmatch("[0-9a-f]{64}", content):
                return None
        return record
    return None


def whole_record(path: Path) -> dict[str, Any]:
    """The record at ``path``.

    Raises:
        InputError: there is none, or a damaged one.
    """
    if (record := read_record(path)) is None:
        raise InputError(f"{path} holds no record, or is damaged; make it again")
    return record


def is_current(path: Path, recipe: dict[str, Any] | None = None) -> bool:
    """Whether ``path`` records ``recipe`` (None: any), and all its files are there with the content it tells."""
    record = read_record(path)
    if record is None or (recipe is not None and record["recipe"] != json.loads(json.dumps(recipe))):
        return False
    files = {path_inside(path.parent, name): expected for name, expected in record["files"].items()}
    return all(file.is_file() and file_hash(file) == expected for file, expected in files.items())


def clear_record(path: Path) -> Path:
    """Make the folder of ``path`` ready for new work: without the record, its files, and what a kill left half-written.

    Raises:
        InputError: the folder cannot be written.
    """
    folder, record = make_folder(path.parent), read_record(path)
    old = [path_inside(folder, name) for name in (record["files"] if record else [])]
    try:
        for stale in (path, *old, *folder.rglob(".*.part*")):
            stale.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}") from error
    return folder


def own_folder(path: Path) -> contextlib.AbstractContextManager[None]:
    """Inside it, no other process works on the record ``path`` and its files; it waits for one that does."""
    return locked(make_folder(path.parent))


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of the content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def plain(value: object, digits: int = DIGITS) -> Any:
    """``value`` as JSON types with few digits, so that equal results are equal texts; None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(entry, digits) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(entry, digits) for entry in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
