"""Reading files, after a check that they are regular files of a possible size."""

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import psutil

from landscape.errors import InputError

__all__ = ["available_bytes", "file_content", "is_there", "opened"]


def available_bytes() -> int:
    """The free main memory in bytes."""
    return int(psutil.virtual_memory().available)


def is_there(path: Path) -> bool:
    """Whether something has this name, including broken links and things that are not files.

    Raises:
        InputError: the name cannot be looked up.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return True


@contextlib.contextmanager
def opened(path: Path, what: str, way_out: str) -> Iterator[BinaryIO]:
    """Open ``path`` for reading; ``what`` ("checkpoint", "surface") and the advice ``way_out`` are for messages.

    Raises:
        InputError: the file does not exist, is not a regular file, is empty, or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
            raise InputError(f"{path} is no {what}, or a damaged one: it is {kind}; {way_out}")
        if not status.st_size:
            raise InputError(f"{path} is no {what}, or a damaged one: it is empty; {way_out}")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise InputError(f"{what} {path} does not exist; {way_out}") from error
    except InputError:
        raise
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def file_content(path: Path, what: str, way_out: str) -> bytes:
    """All bytes of ``path``, see `opened`.

    Raises:
        InputError: as for `opened`, or the file is larger than the free memory.
    """
    with opened(path, what, way_out) as file:
        size = path.stat().st_size
        if size > available_bytes():
            raise InputError(f"{path} has {size / 2**30:.1f} GiB, more than the free memory; free some")
        return file.read()
