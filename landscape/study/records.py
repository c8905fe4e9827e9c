"""Records: JSON files that say what was made, from what and into which files, written after all of these.

Work is done when its record holds the recipe asked for and the files have the content it tells. Whatever ended before,
by kill -9 or a full disk, left no record or an older one, and is done again.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from landscape.errors import InputError
from landscape.files import make_folder
from landscape.logs import write_json

__all__ = ["EXACT", "clear_record", "file_hash", "is_current", "plain", "read_record", "write_record"]

DIGITS = 6  # of measured numbers: sums of float32 values have no more
EXACT = 17  # digits that tell every float64 from its neighbours


def write_record(path: Path, recipe: dict, content: dict, files: Iterable[Path] = ()) -> Path:
    """Write ``recipe``, ``content`` and the hashes of ``files``, all of them below the folder of ``path``."""
    hashes = {file.relative_to(path.parent).as_posix(): file_hash(file) for file in sorted(files)}
    return write_json(path, {"recipe": recipe, **content, "files": hashes})


def read_record(path: Path) -> dict | None:
    """The record at ``path``; None where there is none, half of one, or something else."""
    with contextlib.suppress(OSError, ValueError):
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, dict) and all(isinstance(record.get(key), dict) for key in ("recipe", "files")):
            return record
    return None


def is_current(path: Path, recipe: dict | None = None) -> bool:
    """Whether ``path`` records ``recipe`` (None: any), and all its files are there with the content it tells."""
    record = read_record(path)
    if record is None or (recipe is not None and record["recipe"] != json.loads(json.dumps(recipe))):
        return False
    files = {path.parent / name: expected for name, expected in record["files"].items()}
    return all(file.is_file() and file_hash(file) == expected for file, expected in files.items())


def clear_record(path: Path) -> Path:
    """Make the folder of ``path`` ready for new work: without the record, its files, and what a kill left half-written.

    Raises:
        InputError: the folder cannot be written.
    """
    folder, record = make_folder(path.parent), read_record(path)
    old = [folder / name for name in (record["files"] if record else [])]
    try:
        for stale in (path, *old, *folder.rglob(".*.part*")):
            stale.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}") from error
    return folder


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of the content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def plain(value: object, digits: int = DIGITS) -> object:
    """``value`` as JSON types with few digits, so that equal results are equal texts; None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(entry, digits) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(entry, digits) for entry in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
