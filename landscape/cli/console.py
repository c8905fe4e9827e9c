"""Standard streams that never end a computation, even if they are closed, break, or cannot print a character."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

__all__ = ["sturdy_streams"]


@contextlib.contextmanager
def sturdy_streams() -> Iterator[None]:
    """Make standard output and standard error raise no errors inside the block.

    If a stream is closed (``2>&-``), its reader has ended (``| head``) or its disk is full, further output is dropped
    silently, because results are in files. A character that the stream cannot encode is written as an escape sequence.
    """
    _open_closed_descriptors()
    with contextlib.redirect_stdout(_Sturdy(sys.stdout)), contextlib.redirect_stderr(_Sturdy(sys.stderr)):
        yield
        sys.stdout.flush()


class _Sturdy:
    """A text stream whose ``write`` and ``flush`` do not raise; everything else is delegated to ``stream``."""

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
        except (OSError, ValueError):  # a ValueError if Python itself has closed the stream
            self._abandon()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._abandon()

    def _abandon(self) -> None:
        """Drop further output, including what Python flushes at its end."""
        broken, self._stream = self._stream, _nowhere()
        with contextlib.suppress(OSError, ValueError):
            os.dup2(self._stream.fileno(), broken.fileno())


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _open_closed_descriptors() -> None:
    """Open the descriptors 0, 1 and 2 if they are closed, so that no file of results gets one of these numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(opened, True)
