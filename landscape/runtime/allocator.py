"""Memory that was freed, but that the C library keeps for later."""

import contextlib
import ctypes
import sys

__all__ = ["return_free_memory"]


def return_free_memory() -> None:
    """Give freed memory back to the system, as far as the C library can (glibc, which keeps up to 64 MiB)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
