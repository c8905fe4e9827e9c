"""File names from outside, which must not lead out of their folder."""

import os
from pathlib import Path, PureWindowsPath

from landscape.errors import InputError

__all__ = ["path_inside"]


def path_inside(folder: str | Path, name: str) -> Path:
    """``folder / name``, which must lie below ``folder`` on every operating system, also after symbolic links.

    Example:
        >>> path_inside("runs", "seed=0/epoch_001.pth").as_posix()
        'runs/seed=0/epoch_001.pth'

    Raises:
        InputError: ``name`` is empty or absolute, has a drive, ``..`` or control characters, or is a link that leads
            elsewhere.
    """
    folder = Path(folder)
    if not isinstance(name, str) or not name.strip(" ./\\"):
        raise InputError(f"{name!r} is not the name of a file in {folder}; use a plain name")
    parts = PureWindowsPath(name)  # understands both kinds of slashes, and drives
    if parts.drive or parts.root or ".." in parts.parts or not _is_printable(name):
        raise InputError(f"{name!r} leads out of {folder}; use a plain name, without .., drive or control characters")
    path = folder / name
    try:
        inside = os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if not inside:
        raise InputError(f"{path} is a link that leads out of {folder}; remove it or use another name")
    return path


def _is_printable(name: str) -> bool:
    """Whether ``name`` has no control characters; under an ASCII locale others arrive as escaped bytes."""
    try:
        return name.isprintable() or os.fsencode(name).decode().isprintable()
    except UnicodeError:
        return False
