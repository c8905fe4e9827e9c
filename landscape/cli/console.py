"""Standard streams that never end a computation: closed ones, broken pipes, characters they cannot print."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

__all__ = ["sturdy_streams"]


@contextlib.contextmanager
def sturdy_streams() -> Iterator[None]:
    """Print inside the block whatever happens to standard output and standard error.

    A stream that was closed (``2>&-``), whose reader has gone (``| head``) or whose disk is full takes the rest
    without a word, as results are in files; a character that it cannot encode is written as its escape.
    """
    _open_closed_descriptors()
    with contextlib.redirect_stdout(_Sturdy(sys.stdout)), contextlib.redirect_stderr(_Sturdy(sys.stderr)):
        yield
        sys.stdout.flush()


class _Sturdy:
    """A text stream whose ``write`` and ``flush`` do not raise; all else is that of ``stream``."""

    def __init__(self, stream: TextIO | None):
        self._stream = _nowhere() if stream is None else stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError):  # a ValueError where Python itself has closed the stream
            self._abandon()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._abandon()

    def _abandon(self) -> None:
        """Send the rest nowhere, also what Python flushes when it ends."""
        lost, self._stream = self._stream, _nowhere()
        with contextlib.suppress(OSError, ValueError):
            os.dup2(self._stream.fileno(), lost.fileno())


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _open_closed_descriptors() -> None:
    """Occupy 0, 1 and 2, so that no file of results gets the number under which others print errors."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(opened, True)
