"""The directions of large slices: drawn once, and then read from a file as long as the network is lent."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from landscape.errors import InputError
from landscape.objective.samples import available_memory
from landscape.objective.spill import Spilled, SpillFile
from landscape.runtime.allocator import return_free_memory
from landscape.slices.drawn import Rows
from landscape.slices.planes import Slice

__all__ = ["Steps"]

SHARE = 0.25  # largest size of a file for which the user named no folder, relative to the free memory and the free disk


@dataclass(eq=False)
class _Stored:
    """The directions of one slice in a file.

    Each parameter is divided into pieces, runs of entries; for every piece the file holds its values in all directions.
    """

    file: SpillFile | None  # None: they are drawn anew whenever they are needed
    values: dict[str, Spilled] = field(default_factory=dict)
    ends: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # first and last entry of every piece


class Steps:
    """Gives the directions of slices at one parameter after the other.

    Random directions that a slice does not keep in memory would be drawn again at each point. They are written into a
    temporary file when they are drawn for the first time. It lies in the folder ``spill``; without one it lies in the
    system's folder for temporary files, if its size is at most `SHARE` of the free memory and of the free disk, so that
    the system can keep it in memory as long as no other process needs that.
    """

    def __init__(self, spill: Path | None):
        self.spill = spill
        self._stored: dict[Slice, _Stored] = {}

    def rows(self, slice_: Slice, name: str) -> Iterator[Rows]:
        """Yield all directions of ``slice_`` at the parameter ``name``, some of its entries at a time."""
        if slice_.draws is None:
            return slice_.rows(name)
        if slice_ not in self._stored:
            self._stored[slice_] = _Stored(self._file_for(slice_))
        stored = self._stored[slice_]
        if stored.file is None:
            return slice_.rows(name)
        return _read(stored, name) if name in stored.values else self._written(slice_, stored, stored.file, name)

    def close(self) -> None:
        """Remove the files."""
        for stored in self._stored.values():
            if stored.file:
                stored.file.close()
        self._stored = {}

    def _written(self, slice_: Slice, stored: _Stored, file: SpillFile, name: str) -> Iterator[Rows]:
        """Yield the directions at the parameter ``name``, drawn anew, and write them into the file."""
        start, ends, dtype = file.begin(), list[tuple[int, int]](), torch.float32
        for rows in slice_.rows(name):
            yield rows
            ends.append((rows.start, rows.stop))
            if stored.file:
                dtype = rows.steps[0].dtype
                self._write(stored, file, rows)
        if stored.file and ends:
            stored.values[name] = file.mapped(start, ends[-1][1] * len(slice_.directions), dtype)
            stored.ends[name] = ends
        return_free_memory()  # memory in use lies between freed parts, which the allocator would keep

    def _write(self, stored: _Stored, file: SpillFile, rows: Rows) -> None:
        try:
            for step in rows.steps:
                file.write(step)
        except InputError:
            if self.spill:
                raise
            stored.file = None  # no error, because the user did not ask for a file in this folder
            file.close()

    def _file_for(self, slice_: Slice) -> SpillFile | None:
        if self.spill:
            return SpillFile(self.spill)
        numbers = sum(slice_.origin[name].numel() for name in slice_.moved)
        size = numbers * len(slice_.directions) * torch.float32.itemsize
        folder = Path(tempfile.gettempdir())
        if size > SHARE * min(available_memory(torch.device("cpu")), shutil.disk_usage(folder).free):
            return None
        try:
            return SpillFile(folder)
        except InputError:
            return None


def _read(stored: _Stored, name: str) -> Iterator[Rows]:
    values, ends = stored.values[name], stored.ends[name]
    count = values.count // ends[-1][1]
    for start, stop in ends:
        size = stop - start
        places = [count * start + number * size for number in range(count)]
        yield Rows(start, stop, [values.piece(place, place + size) for place in places])
        values.release()
