"""Downloads by torchvision, whose many kinds of failure become one InputError."""

import contextlib
import socket
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from landscape.errors import InputError

__all__ = ["downloaded"]

PATIENCE = 30.0  # seconds without a byte; torchvision itself sets no limit


def downloaded(dataset: str, data_dir: Path, train: bool = True) -> Any:
    """The torchvision data set of the class ``dataset``, downloaded if its files in ``data_dir`` are not complete.

    Raises:
        InputError: the machine is offline, the download is refused or breaks off, a file has a wrong checksum, or
            ``data_dir`` cannot be written.
    """
    from torchvision import datasets  # seconds to import, needed only here

    try:
        with _patience(PATIENCE):
            return getattr(datasets, dataset)(data_dir, train=train, download=True)
    except (RuntimeError, OSError, EOFError, ValueError, AssertionError, HTTPException) as error:
        reason = " ".join(str(error).split()).rpartition("got: ")[2]  # the error of the last of torchvision's mirrors
        raise InputError(
            f"{dataset} is not complete in {data_dir} and cannot be downloaded ({reason}); "
            "go online, or put its files there (see data/README.md)"
        ) from error


@contextlib.contextmanager
def _patience(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
