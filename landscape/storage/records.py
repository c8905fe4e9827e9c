"""Records: JSON files that describe finished work by its recipe and its files, and are written after these files.

Work is finished if its record holds the requested recipe, and its files have the recorded digests. Work that was
interrupted, even by kill -9 or a full disk, has no record or an older one, and is done again.
"""

import contextlib
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.storage.caching import look_up
from landscape.storage.files import make_folder, remove_temporary
from landscape.storage.json_files import read_json, write_sealed
from landscape.storage.locks import locked
from landscape.storage.names import path_inside
from landscape.storage.recipe import difference, renamed

__all__ = [
    "EXACT",
    "clear_record",
    "file_hash",
    "is_recorded",
    "made_once",
    "own_folder",
    "plain",
    "read_record",
    "record_fault",
    "whole_record",
    "write_record",
]

DIGITS = 6  # significant digits of measured numbers; sums of float32 values have no more
Made = tuple[dict[str, Any], Iterable[Path]]  # content of a record, and the files that belong to it
FORM = {"recipe": dict, "files": {str: str}}
EXACT = 17  # significant digits that distinguish every float64 from its neighbours


def write_record(path: Path, recipe: dict[str, Any], content: dict[str, Any], files: Iterable[Path] = ()) -> Path:
    """Write a record of ``recipe``, ``content`` and the hashes of ``files``, which lie below the folder of ``path``."""
    hashes = {file.relative_to(path.parent).as_posix(): file_hash(file) for file in sorted(files)}
    return write_sealed(path, {"recipe": recipe, **content, "files": hashes})


def read_record(path: Path, form: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """The record at ``path``, which has ``form`` besides the form of all records.

    None if there is no record, or if it is damaged, edited, of another form, or names files outside its folder.
    """
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
        InputError: There is no record, or it is damaged.
    """
    if (record := read_record(path)) is None:
        raise InputError(f"{path} holds no record, or is damaged; make it again")
    return record


def record_fault(path: Path, recipe: dict[str, Any] | None = None) -> str | None:
    """The reason why the work recorded at ``path`` is not finished work with this ``recipe``; None if it is.

    Without a ``recipe`` any recipe is accepted.
    """
    record = read_record(path)
    if record is None:
        return "there is no record, or a damaged one"
    return (difference(record["recipe"], recipe) if recipe is not None else None) or _files_fault(path, record)


def is_recorded(path: Path, recipe: dict[str, Any], earlier_names: Mapping[str, str] | None = None) -> bool:
    """Whether work with this ``recipe`` is recorded at ``path`` and its files are unchanged; if not, prints the reason.

    ``earlier_names`` maps names of settings in earlier versions to the present names.
    """
    read, accept = partial(_read, earlier_names=earlier_names or {}), partial(_files_fault, path)
    return look_up(path, recipe, read=read, accept=accept, alone=True) is not None


def made_once(
    path: Path, recipe: dict[str, Any], make: Callable[[Path], Made], earlier_names: Mapping[str, str] | None = None
) -> bool:
    """Do the work of ``make`` unless it is recorded, see `is_recorded`.

    ``make`` is called with the folder of ``path``, ready for new work. It returns the content of the record and the
    files that it wrote. The record is written afterwards.

    Returns:
        Whether the work was done now.
    """
    if is_recorded(path, recipe, earlier_names):
        return False
    content, files = make(clear_record(path))
    write_record(path, recipe, content, files)
    return True


def _read(path: Path, earlier_names: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    record = read_record(path)
    return None if record is None else (record, renamed(record["recipe"], earlier_names))


def _files_fault(path: Path, record: dict[str, Any]) -> str | None:
    """The first file of a ``record`` that is missing or has changed, in words; None if there is none."""
    for name, expected in record["files"].items():
        file = path_inside(path.parent, name)
        if not file.is_file():
            return f"its file {name} is missing"
        if file_hash(file) != expected:
            return f"its file {name} was changed"
    return None


def clear_record(path: Path) -> Path:
    """Make the folder of ``path`` ready for new work: remove the record, its files, and temporary files.

    Raises:
        InputError: The folder cannot be written.
    """
    folder, record = make_folder(path.parent), read_record(path)
    old = [path_inside(folder, name) for name in (record["files"] if record else [])]
    try:
        for stale in (path, *old):
            stale.unlink(missing_ok=True)
        remove_temporary(folder.rglob(".*"))
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}") from error
    return folder


def own_folder(path: Path) -> contextlib.AbstractContextManager[None]:
    """A block in which no other process works on the record ``path`` and its files; it waits for one that does."""
    return locked(make_folder(path.parent))


def file_hash(path: Path) -> str:
    """The SHA-256 digest (hexadecimal) of the content of the file ``path``."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def plain(value: object, digits: int = DIGITS) -> Any:
    """``value`` as JSON types with few significant digits, so that equal results give equal texts.

    Numbers that are not finite become None.
    """
    if isinstance(value, dict):
        return {str(key): plain(entry, digits) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(entry, digits) for entry in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
