"""Tensors in a file instead of memory: written once, then mapped piece by piece."""

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
    """A nameless file in ``folder``, which the system removes with the process, however that ends.

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
        """Write the ``pieces`` of one vector of numbers of ``dtype``, which are on the CPU."""
        start = self.begin()
        count = sum(self.write(piece) for piece in pieces)
        return self.mapped(start, count, dtype)

    def begin(self) -> int:
        """The byte at which what is written next begins."""
        start: int = -(-self._file.seek(0, 2) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        self._file.seek(start)
        return start

    def write(self, piece: Tensor) -> int:
        """Append the numbers of ``piece``, and return how many these are.

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
        """The ``count`` numbers of ``dtype`` that were written from byte ``start`` on."""
        return Spilled(self._file.fileno(), start, count, dtype)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def _refusal(self, error: OSError) -> InputError:
        return InputError(f"{self.folder} takes no more data ({error.strerror}); give a folder with room to write")


class Spilled:
    """``count`` numbers of ``dtype`` in a file, from byte ``start`` on."""

    def __init__(self, descriptor: int, start: int, count: int, dtype: torch.dtype):
        self.count = count
        size = count * dtype.itemsize
        self._mapped = mmap.mmap(descriptor, size, offset=start, access=mmap.ACCESS_COPY)
        self._values = torch.frombuffer(self._mapped, dtype=dtype, count=count)

    def piece(self, start: int, stop: int) -> Tensor:
        """The numbers from ``start`` to ``stop``, a view."""
        return self._values[start:stop]

    def release(self) -> None:
        """Give back the memory of the pages that were read; the file keeps their content."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)
