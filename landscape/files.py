"""Whole files or none: write to a temporary name beside the target, then rename."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from landscape import ranks
from landscape.errors import InputError

__all__ = ["make_folder", "plain_name", "written_whole"]


def make_folder(path: str | Path) -> Path:
    """Create ``path`` with its parents where it is missing, and prove that a file can be written in it."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{os.getpid()}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write into {path}: {error.strerror}; choose another folder") from error
    return path


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix; on success rename it to ``path``, else remove it.

    A reader therefore sees the old file or the new one, never half of one, also after Ctrl-C or a full disk. Of
    several ranks only the first one leaves a file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        if ranks.is_first_rank():
            os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def plain_name(text: str) -> str:
    """``text`` as part of a file name: all but letters, digits, ``_``, ``.`` and ``-`` becomes one ``-``.

    Example:
        >>> plain_name("nets/mine.py:build")
        'nets-mine.py-build'
    """
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")
