"""Files and folders that one process has to itself; the operating system frees them when it ends, however it ends."""

from pathlib import Path

from filelock import FileLock, Timeout

from landscape.errors import InputError

__all__ = ["claimed", "locked"]


def locked(path: Path) -> FileLock:
    """A context manager that waits until no other process holds ``path``: for reading a file and writing it again."""
    return FileLock(_beside(path))


def claimed(folder: Path, what: str) -> FileLock:
    """The lock of ``folder``, held as long as the returned object lives; a process may claim it again.

    Raises:
        InputError: another process holds it.
    """
    lock = FileLock(_beside(folder / "folder"), is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"another process is writing {what} in {folder}; wait for it, or choose another name"
        ) from error
    return lock


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")
