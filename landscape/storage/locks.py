"""Locks of files and folders, which the operating system releases when the process ends for any reason."""

import contextlib
import os
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from landscape.errors import InputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Lock", "claimed", "locked"]

PATIENCE = 5.0  # seconds of waiting before a message is printed
PAUSE = 0.05  # seconds between two attempts


class Lock:
    """A lock that this process holds as long as the object lives."""

    def __init__(self, descriptor: int, path: Path | None):
        self._release = weakref.finalize(self, _freed, descriptor, path)


_ours: weakref.WeakValueDictionary[str, Lock] = weakref.WeakValueDictionary()  # a process does not wait for itself


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """A block that only one process at a time can enter for the same ``path``, to read a file and write it again.

    Raises:
        InputError: the folder cannot be written.
    """
    began, announced = time.monotonic(), False
    while (lock := _attempted(path)) is None:
        if not announced and time.monotonic() > began + PATIENCE:
            print(f"Waiting for another process that works on {path}", flush=True)
            announced = True
        time.sleep(PAUSE)
    try:
        yield
    finally:
        del lock


def claimed(folder: Path, what: str) -> Lock:
    """The lock of ``folder``, for as long as the returned object lives.

    Raises:
        InputError: another process holds it.
    """
    if (lock := _attempted(folder)) is None:
        advice = "wait for it, or choose another name"
        raise InputError(f"another process is writing {what} in {folder}; {advice}")
    return lock


def _attempted(path: Path) -> Lock | None:
    """The lock of a file or folder; None while another process holds it."""
    key = os.path.realpath(path)
    if lock := _ours.get(key):
        return lock
    try:
        lock = _of_folder(path) if path.is_dir() else _of_file(path.with_name(f".{path.name}.lock"))
    except OSError as error:
        raise InputError(f"cannot lock {path}: {error.strerror or error}; choose another folder") from error
    if lock is not None:
        _ours[key] = lock
    return lock


def _of_folder(path: Path) -> Lock | None:
    """The lock of the folder itself, which leaves no file, if the system supports that; else of a file in it."""
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Lock(descriptor, None)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:  # NFS locks only files that can be written
            os.close(descriptor)
    return _of_file(path / ".lock")


def _of_file(path: Path) -> Lock | None:
    """The lock of the file ``path``, which is created for it and removed with it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return Lock(descriptor, path)
        os.close(descriptor)  # the previous holder has removed the file, so it is created again


def _freed(descriptor: int, path: Path | None) -> None:
    with contextlib.suppress(OSError):
        if path and sys.platform != "win32":
            path.unlink()
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # releases the lock also if a forked process holds the descriptor
    os.close(descriptor)
    with contextlib.suppress(OSError):
        if path and sys.platform == "win32":  # Windows cannot remove open files
            path.unlink()
