"""Points of a training run in one file that grows record by record and can be read meanwhile."""

import hashlib
import json
import math
import warnings
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.files import make_folder
from landscape.parameters import Point, as_point
from landscape.runtime import own_torch_state

__all__ = ["JoinedPoints", "RecordedPoints", "TrajectoryRecorder"]

MAGIC = b"landscape points 1\n"
TYPES = {torch.float16: "<f2", torch.float32: "<f4", torch.float64: "<f8"}


class TrajectoryRecorder:
    """Writes the parameters of a network to ``path`` as training goes on; nothing stays in memory.

    In anyone's loop, or as a hook of `fit`::

        recorder = ll.TrajectoryRecorder("run.points")
        recorder.record(model, loss=loss)  # every call is one more point

        ll.fit(model, train, test, on_epoch=recorder.on_epoch, epoch_zero=True, **settings)
        ll.fit(model, train, test, on_step=ll.TrajectoryRecorder("steps.points", every=50).on_step, **settings)

    Every record carries its step, its loss and a checksum; `RecordedPoints` reads what has been written so far.

    Args:
        path: The file; one that exists is replaced, unless ``resume``.
        every: Keep every so many steps (or epochs), counted from 0.
        dtype: torch.float32, torch.float64, or torch.float16 for half the space.
        resume: Go on after the last whole record.
        notes: What the run is, such as its settings; JSON types.

    Raises:
        InputError: a type that cannot be stored, ``every`` below 1, a folder that cannot be written, or, with
            ``resume``, a file that holds no points.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        every: int = 1,
        dtype: torch.dtype = torch.float32,
        resume: bool = False,
        notes: dict | None = None,
    ):
        if dtype not in TYPES:
            raise InputError(f"points are stored as {', '.join(map(str, TYPES))}, not as {dtype}")
        if every < 1:
            raise InputError(f"every is {every}; it must be at least 1")
        self.path, self.every, self.dtype, self.notes = Path(path), every, dtype, notes or {}
        self._unit, self._calls, self._head, self._steps = "step", 0, b"", []
        make_folder(self.path.parent)
        if resume and self.path.exists():
            earlier = RecordedPoints(self.path)
            self._head, self._steps, self._unit = earlier.head, earlier.steps.tolist(), earlier.unit
            self._calls = self._steps[-1] + 1 if self._steps else 0
        else:
            self.path.unlink(missing_ok=True)

    @own_torch_state()
    def record(self, model: nn.Module | Point, *, loss: float | Tensor | None = None, step: int | None = None) -> None:
        """Append the present parameters of ``model``; ``step`` counts the calls from 0 where it is not given.

        A step that is there already is replaced, and those after it are dropped: training has gone on from before it.

        Raises:
            InputError: parameters of another network than before, or too large for ``dtype``; a full disk.
        """
        step = self._calls if step is None else step
        self._calls = step + 1
        if step % self.every:
            return
        point = as_point(model)
        head = self._header(point)
        if self._head not in (b"", head):
            raise InputError(f"{self.path} holds points of another network or run; use one file for each")
        record = _packed(step, math.nan if loss is None else float(loss), _flat(point, self.dtype))
        kept = [earlier for earlier in self._steps if earlier < step]
        try:
            with self.path.open("ab") as file:
                if not self._head:
                    file.write(head)
                file.truncate(len(head) + len(kept) * len(record))
                file.write(record)
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._head, self._steps = head, [*kept, step]

    def on_epoch(self, epoch: int, model: nn.Module, metrics: dict) -> None:
        """The hook of `fit` after every epoch; the loss is that of the test data at this point."""
        self._unit = "epoch"
        self.record(model, loss=metrics["test_loss"], step=epoch)

    def on_step(self, step: int, model: nn.Module, loss: Tensor) -> None:
        """The hook of `fit` after every step; the loss is that of its mini-batch, before the step."""
        self.record(model, loss=loss, step=step)

    def _header(self, point: Point) -> bytes:
        layout = {
            "shapes": {name: list(value.shape) for name, value in point.items()},
            "dtype": TYPES[self.dtype],
            "unit": self._unit,
            "notes": self.notes,
        }
        text = MAGIC + json.dumps(layout).encode()
        return text + b" " * (-(len(text) + 1) % 8) + b"\n"  # whole words, so that records are aligned


class RecordedPoints(Sequence):
    """The points in a file of `TrajectoryRecorder`: ``points[t]`` is read from disk when it is asked for.

    A file that is still written to, or whose writer was killed, counts up to its last whole record, with a warning
    where something was cut off.

    Attributes: ``steps`` [T] int64, ``losses`` [T] float64 (NaN where none was given), ``unit`` ("step" or "epoch"),
    ``notes``.

    Raises:
        InputError: the file is missing or holds no points.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                self.head = file.readline() + file.readline()
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}") from error
        try:
            if not self.head.startswith(MAGIC):
                raise ValueError("it does not begin as one")
            layout = json.loads(self.head[len(MAGIC) :])
            self.shapes = {name: tuple(shape) for name, shape in layout["shapes"].items()}
            self.unit, self.notes, dtype = layout["unit"], layout["notes"], layout["dtype"]
        except (ValueError, KeyError, AttributeError) as error:
            raise InputError(f"{self.path} is no file of recorded points, or a damaged one: {error}") from error
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        self._sizes = sizes
        self._records = self._whole_records(_layout(sum(sizes), dtype))
        self.steps = np.array(self._records["step"], dtype=np.int64)
        self.losses = np.array(self._records["loss"], dtype=np.float64)

    def __len__(self) -> int:
        return len(self._records)

    @own_torch_state()
    def __getitem__(self, index: int) -> Point:
        flat = torch.from_numpy(np.array(self._records["point"][index]))
        flat = flat.float() if flat.dtype == torch.float16 else flat
        pieces = flat.split(self._sizes)
        return {name: piece.reshape(shape) for piece, (name, shape) in zip(pieces, self.shapes.items(), strict=True)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the header and of all whole records."""
        digest = hashlib.sha256(self.head)
        for record in self._records:
            digest.update(record.tobytes())
        return digest.hexdigest()

    def columns(self, size: int) -> Iterator[Tensor]:
        """The parameters, ``size`` at a time, of all points: blocks [T, size] float64."""
        for start in range(0, sum(self._sizes), size):
            yield torch.from_numpy(self._records["point"][:, start : start + size].astype(np.float64))

    def _whole_records(self, layout: np.dtype) -> np.ndarray:
        """The records [T] whose checksum is right, up to the first that is not."""
        begin, size = len(self.head), self.path.stat().st_size
        count, rest = divmod(size - begin, layout.itemsize)
        # A file cannot be mapped where there is nothing in it.
        records = np.memmap(self.path, layout, "r", begin, (count,)) if count else np.empty(0, layout)
        wrong = (t for t in range(count) if _checksum(records[t]) != records[t]["checksum"])
        whole = next(wrong, count)
        if whole < count or rest:
            what = f"record {whole} is damaged" if whole < count else "the last record is half-written"
            warnings.warn(f"{self.path}: {what}; the {whole} record(s) before it are used", stacklevel=4)
        return records[:whole]


class JoinedPoints(Sequence):
    """The points of several runs of one network, one run after the other.

    Raises:
        InputError: runs of different networks.
    """

    def __init__(self, runs: Sequence[RecordedPoints]):
        self.runs = list(runs)
        for run in self.runs:
            if run.shapes != self.runs[0].shapes:
                raise InputError(f"{run.path} and {self.runs[0].path} are of different networks; they share no plane")

    def __len__(self) -> int:
        return sum(map(len, self.runs))

    @own_torch_state()
    def __getitem__(self, index: int) -> Point:
        index = range(len(self))[index]
        for run in self.runs:
            if index < len(run):
                break
            index -= len(run)
        return run[index]

    def columns(self, size: int) -> Iterator[Tensor]:
        """The parameters, ``size`` at a time, of all points: blocks [T, size] float64."""
        for blocks in zip(*(run.columns(size) for run in self.runs), strict=True):
            yield torch.cat(blocks)


def _layout(size: int, dtype: str) -> np.dtype:
    return np.dtype([("step", "<i8"), ("loss", "<f8"), ("point", dtype, (size,)), ("checksum", "<u4")])


def _packed(step: int, loss: float, flat: np.ndarray) -> bytes:
    record = np.zeros(1, _layout(flat.size, flat.dtype.str))
    record["step"], record["loss"], record["point"] = step, loss, flat
    record["checksum"] = _checksum(record[0])
    return record.tobytes()


def _checksum(record: np.void) -> int:
    return zlib.crc32(record.tobytes()[:-4])


def _flat(point: Point, dtype: torch.dtype) -> np.ndarray:
    """All parameters [D] in ``dtype``."""
    pieces = []
    for name, value in point.items():
        piece = value.detach().flatten().to("cpu", dtype)
        if not torch.equal(piece.isfinite(), value.detach().flatten().isfinite().cpu()):
            raise InputError(f"parameter {name!r} is too large for {dtype}; record in torch.float32")
        pieces.append(piece)
    return torch.cat(pieces).numpy()
