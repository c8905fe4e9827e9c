"""Writing files completely or not at all: under a temporary name that is then renamed."""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from landscape.errors import InputError
from landscape.runtime import ranks

__all__ = ["make_folder", "plain_name", "remove_temporary", "written_whole"]

TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.part(\.\w+)?")
ABANDONED = 3600.0  # seconds: no file takes that long to write


def make_folder(path: str | Path) -> Path:
    """Create ``path`` with its parents if it is missing, and check that a file can be written in it.

    Temporary files that a killed process left in it an hour ago or earlier are removed.

    Raises:
        InputError: The folder cannot be created, or no file can be written in it.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / _temporary_name()
        probe.touch(exist_ok=False)
        probe.unlink()
        remove_temporary(path.iterdir(), age=ABANDONED)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot write into {path}: {reason}; choose another folder") from error
    return path


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix; on success rename it to ``path``, otherwise remove it.

    So readers see either the old file or the complete new one, also after Ctrl-C, a full disk or a loss of power. Of
    several ranks only the first one writes the file.
    """
    path = Path(path)
    temporary = path.with_name(_temporary_name(path.suffix))
    try:
        yield temporary
        if ranks.is_first_rank():
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # before the file gets its name
            os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_temporary(paths: Iterable[Path], *, age: float = 0.0) -> None:
    """Remove those of ``paths`` that are temporary files of `written_whole`, not written to for ``age`` seconds."""
    for path in paths:
        if TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime >= age:
                    path.unlink()


def _temporary_name(suffix: str = "") -> str:
    """A random hidden name; process ids would not be unique among machines and containers that share a folder."""
    return f".{secrets.token_hex(8)}.part{suffix}"


def plain_name(text: str) -> str:
    """``text`` as part of a file name: characters other than letters, digits, ``_``, ``.`` and ``-`` become one ``-``.

    Example:
        >>> plain_name("nets/mine.py:build")
        'nets-mine.py-build'
    """
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")
