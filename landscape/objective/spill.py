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
    """A nameless file in ``folder``, which the system removes with the process, however that ends."""

    def __init__(self, folder: Path):
        try:
            self._file: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open as long as this object)
        except OSError as error:
            raise InputError(f"nothing can be written to {folder} ({error.strerror}); give another folder") from error
        self.folder = folder

    def store(self, pieces: Iterable[Tensor], dtype: torch.dtype) -> "Spilled":
        """Write the ``pieces`` of one vector of numbers of ``dtype``, which are on the CPU.

        Raises:
            InputError: the disk is full.
        """
        start = -(-self._file.seek(0, 2) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        self._file.seek(start)
        count = 0
        try:
            for piece in pieces:
                self._file.write(piece.contiguous().view(torch.uint8).numpy().data)
                count += piece.numel()
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self.folder} takes no more data ({error.strerror}); give a folder with room") from error
        return Spilled(self._file.fileno(), start, count, dtype)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


class Spilled:
    """``count`` numbers of ``dtype`` in a file, from byte ``start`` on."""

    def __init__(self, descriptor: int, start: int, count: int, dtype: torch.dtype):
        size = count * torch.empty((), dtype=dtype).element_size()
        self._mapped = mmap.mmap(descriptor, size, offset=start, access=mmap.ACCESS_COPY)
        self._values = torch.frombuffer(self._mapped, dtype=dtype, count=count)

    def piece(self, start: int, stop: int) -> Tensor:
        """The numbers from ``start`` to ``stop``, a view."""
        return self._values[start:stop]

    def release(self) -> None:
        """Give back the memory of the pages that were read; the file keeps their content."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)
