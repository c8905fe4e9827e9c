"""The points of recorded runs, read from their files one at a time."""

import hashlib
import itertools
import math
import secrets
import shutil
import warnings
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.points import Point, cut
from landscape.presenting import Presented
from landscape.runtime import own_torch_state
from landscape.storage.files import written_whole
from landscape.trajectories.point_files import checksum, read_header, record_type

__all__ = ["JoinedPoints", "RecordedPoints"]


class RecordedPoints(Presented, Sequence[Any]):
    """The points in a file of `TrajectoryRecorder`; ``points[t]`` reads one from disk.

    Records that are damaged, or incomplete because the file is still being written or its writer was killed, are left
    out with a warning.

    Attributes: ``steps`` [T] int64; ``losses`` [T] float64 (NaN if not recorded); ``unit`` ("step", "epoch" or "file");
    ``notes``; ``damaged`` (number of damaged records, without an incomplete one at the end); ``choice`` (the recorded
    parameters and a digest of the others; None if all are recorded).

    Raises:
        InputError: the file is missing or does not hold points.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.head, layout = read_header(self.path)
        self.shapes = {name: tuple(shape) for name, shape in layout["shapes"].items()}
        self.unit, self.notes, self.choice = layout["unit"], layout["notes"], layout.get("chosen")
        self._sizes = [math.prod(shape) for shape in self.shapes.values()]
        self._records, self._whole = self._whole_records(record_type(sum(self._sizes), layout["dtype"]))
        self.damaged = len(self._records) - len(self._whole)
        self.steps = np.array(self._records["step"][self._whole], dtype=np.int64)
        self.losses = np.array(self._records["loss"][self._whole], dtype=np.float64)

    def __len__(self) -> int:
        return len(self._whole)

    @property
    def facts(self) -> dict[str, str]:
        first, last = (self.steps[0], self.steps[-1]) if len(self) else (0, 0)
        return {
            "points": f"{len(self):,}",
            f"{self.unit}s": f"{first:,} to {last:,}" if len(self) else "",
            "parameters": f"{sum(self._sizes):,}",
            "damaged": f"{self.damaged:,}" if self.damaged else "",
            "file": str(self.path),
        }

    @own_torch_state()
    def __getitem__(self, index: int) -> Point:  # type: ignore[override]  # read one at a time, never as a slice
        flat = torch.from_numpy(np.array(self._records["point"][self._whole[index]]))
        flat = flat.float() if flat.dtype == torch.float16 else flat
        pieces = cut(flat, self._sizes)
        return {name: piece.reshape(shape) for piece, (name, shape) in zip(pieces, self.shapes.items(), strict=True)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 digest of the header and of all complete records."""
        digest = hashlib.sha256(self.head)
        for index in self._whole:
            digest.update(self._records[index].tobytes())
        return digest.hexdigest()

    def columns(self, size: int, names: Collection[str] | None = None) -> Iterator[Tensor]:
        """Yield blocks [T, size], in float64, of the parameters ``names`` of all points."""
        rows = self._whole if self.damaged else slice(None)
        for begin, end in self._ranges(names):
            for start in range(begin, end, size):
                yield torch.from_numpy(self._records["point"][rows, start : min(start + size, end)].astype(np.float64))

    def _ranges(self, names: Collection[str] | None) -> list[tuple[int, int]]:
        """The ranges of the parameters ``names`` within a point; a single range if all are included."""
        ends = list(itertools.accumulate(self._sizes, initial=0))
        if names is None or set(names) >= self.shapes.keys():
            return [(0, ends[-1])]
        return [place for name, place in zip(self.shapes, itertools.pairwise(ends), strict=True) if name in names]

    def keep_whole_records(self) -> None:
        """Replace the file by one with its complete records only, and keep a copy of the damaged file beside it.

        Raises:
            InputError: the folder cannot be written.
        """
        copy = self.path.with_name(f"{self.path.name}.damaged-{secrets.token_hex(4)}")
        with written_whole(copy) as temporary:
            shutil.copyfile(self.path, temporary)
        with written_whole(self.path) as temporary, temporary.open("wb") as file:
            file.write(self.head)
            for index in self._whole:
                file.write(self._records[index].tobytes())
        warnings.warn(f"{self.path}: the file with its damaged record(s) is kept as {copy}", stacklevel=3)

    def _whole_records(self, layout: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """All records of the file, and the indices of those with a correct checksum and increasing steps."""
        begin, size = len(self.head), self.path.stat().st_size
        count, rest = divmod(size - begin, layout.itemsize)
        # An empty range of a file cannot be mapped.
        records = np.memmap(self.path, layout, "r", begin, (count,)) if count else np.empty(0, layout)
        whole: list[int] = []
        for number, record in enumerate(records):
            after = not whole or record["step"] > records[whole[-1]]["step"]
            if after and checksum(record) == record["checksum"]:
                whole.append(number)
        if len(whole) < count or rest:
            bad = sorted(set(range(count)) - set(whole))
            what = f"record {bad[0]} is damaged" if bad else "the last record is half-written"
            what += f" (of {len(bad)})" if len(bad) > 1 else ""
            where = "before it" if not bad or bad[0] == len(whole) else "around it"
            warnings.warn(f"{self.path}: {what}; the {len(whole)} record(s) {where} are used", stacklevel=4)
        return records, np.array(whole, dtype=np.int64)


class JoinedPoints(Sequence[Any]):
    """The points of several runs of one network, one run after the other.

    Raises:
        InputError: the runs belong to different networks.
    """

    def __init__(self, runs: Sequence[RecordedPoints]):
        self.runs = list(runs)
        for run in self.runs:
            if run.shapes != self.runs[0].shapes:
                raise InputError(f"{run.path} and {self.runs[0].path} are of different networks; they share no plane")
            if run.choice != self.runs[0].choice:
                raise InputError(
                    f"{run.path} and {self.runs[0].path} chose other parameters, or began with other values of those "
                    "that were not chosen; they share no plane"
                )

    def __len__(self) -> int:
        return sum(map(len, self.runs))

    @own_torch_state()
    def __getitem__(self, index: int) -> Point:  # type: ignore[override]  # read one at a time, never as a slice
        index = range(len(self))[index]
        for run in self.runs:
            if index < len(run):
                break
            index -= len(run)
        return run[index]

    @property
    def choice(self) -> dict[str, Any] | None:
        return self.runs[0].choice

    def columns(self, size: int, names: Collection[str] | None = None) -> Iterator[Tensor]:
        """Yield blocks [T, size], in float64, of the parameters ``names`` of all points."""
        for blocks in zip(*(run.columns(size, names) for run in self.runs), strict=True):
            yield torch.cat(blocks)
