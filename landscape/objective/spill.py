"""Tensors in a file instead of memory: written once, and then read through a memory map piece by piece."""

import mmap
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.errors import InputError

__all__ = ["SpillFile", "Spilled"]


class SpillFile:
    """A temporary file in ``folder``, which the system removes when the process ends, also if it is killed.

    Raises:
        InputError: nothing can be written to the folder.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            self._file: Any = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (open with this object)
        except OSError as error:
            raise self._refusal(error) from error

    def store(self, pieces: Iterable[Tensor], dtype: torch.dtype) -> "Spilled":
        """Write one vector of ``dtype``, given as consecutive ``pieces`` on the CPU, and return its memory map."""
        start = self.begin()
        count = sum(self.write(piece) for piece in pieces)
        return self.mapped(start, count, dtype)

    def begin(self) -> int:
        """Start a new vector, and return the position of its first byte, at which a memory map can begin."""
        start: int = -(-self._file.seek(0, 2) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        self._file.seek(start)
        return start

    def write(self, piece: Tensor) -> int:
        """Append the numbers of ``piece``, and return their count.

        Raises:
            InputError: the disk is full.
        """
        left = piece.contiguous().view(torch.uint8).numpy().reshape(-1).data
        try:
            while len(left):
                left = left[self._file.write(left) :]
        except OSError as error:
            raise self._refusal(error) from error
        return piece.numel()

    def mapped(self, start: int, count: int, dtype: torch.dtype) -> "Spilled":
        """A memory map of the ``count`` numbers of ``dtype`` that begin at byte ``start``."""
        return Spilled(self._file.fileno(), start, count, dtype)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def _refusal(self, error: OSError) -> InputError:
        return InputError(f"{self.folder} takes no more data ({error.strerror}); give a folder with room to write")


class Spilled:
    """A memory map of ``count`` numbers of ``dtype`` that begin at byte ``start`` of a file."""

    def __init__(self, descriptor: int, start: int, count: int, dtype: torch.dtype):
        self.count = count
        size = count * dtype.itemsize
        self._mapped = mmap.mmap(descriptor, size, offset=start, access=mmap.ACCESS_COPY)
        self._values = torch.frombuffer(self._mapped, dtype=dtype, count=count)

    def piece(self, start: int, stop: int) -> Tensor:
        """A view of the numbers from ``start`` to ``stop``."""
        return self._values[start:stop]

    def release(self) -> None:
        """Give back the memory of the pages that were read; the file keeps their content."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)
