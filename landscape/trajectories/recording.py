"""The points of a training run in one file, which grows record by record and can be read during training."""

import contextlib
import hashlib
import itertools
import json
import math
import os
import secrets
import shutil
import warnings
import weakref
import zlib
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.escaping import one_line
from landscape.points import Point, cut, point_moving
from landscape.runtime import own_torch_state
from landscape.slices.chosen import chosen_parameters, entries_of
from landscape.storage.files import make_folder, written_whole
from landscape.storage.formats import foreign_format
from landscape.storage.forms import Optional, form_fault
from landscape.storage.json_files import parsed
from landscape.storage.locks import locked
from landscape.storage.provenance import fingerprint
from landscape.storage.reading import is_there, opened
from landscape.trajectories.callbacks import hook_of

__all__ = ["JoinedPoints", "RecordedPoints", "TrajectoryRecorder"]

MAGIC, EARLIER_MAGIC = b"landscape points 2\n", b"landscape points 1\n"  # the earlier format has no header digest
HEX, LONGEST_HEADER = 64, 2**26  # bytes of a digest, and of a header at most
LARGEST = 2**40  # number of parameters, at most
FORM = {
    "shapes": {str: [int]},
    "dtype": str,
    "unit": str,
    "notes": dict,
    "chosen": Optional({"parameters": [str], "rest": str}),  # only if not all parameters are recorded
}
TYPES = {torch.float16: "<f2", torch.float32: "<f4", torch.float64: "<f8"}


class TrajectoryRecorder:
    """Writes the parameters of a network to ``path`` during training, without keeping them in memory.

    In your own training loop, or as a hook of `fit`::

        recorder = ll.TrajectoryRecorder("run.points")
        recorder.record(model, loss=loss)  # every call is one more point

        ll.fit(model, train, test, on_epoch=recorder.on_epoch, epoch_zero=True, **settings)
        ll.fit(model, train, test, on_step=ll.TrajectoryRecorder("steps.points", every=50).on_step, **settings)

    As a callback of the Trainer of Hugging Face, or of that of Lightning::

        transformers.Trainer(model, arguments, train_dataset=data, callbacks=[ll.TrajectoryRecorder("run.points")])
        lightning.Trainer(callbacks=[ll.TrajectoryRecorder("run.points", every=50, parameters="trainable")])

    Every record carries its step, its loss and a checksum; `RecordedPoints` reads what has been written so far.

    Args:
        path: The file; one that exists is replaced, unless ``resume``.
        every: Record only every so many steps (or epochs), counted from 0.
        parameters: The parameters to record, such as ("*lora*",) or "trainable", see `chosen_parameters`; default: all.
            Of the others the file holds only a digest of their values at the first point.
        dtype: torch.float32, torch.float64, or torch.float16 for half the space.
        resume: Continue after the last complete record. If records are damaged, the file is kept under another name
            and the complete ones are continued.
        notes: Description of the run, such as its settings, in JSON types.

    Raises:
        InputError: the dtype cannot be stored, ``every`` is below 1, the folder cannot be written, or the file to
            resume does not hold points.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        every: int = 1,
        parameters: str | Sequence[str] | None = None,
        dtype: torch.dtype = torch.float32,
        resume: bool = False,
        notes: dict[str, Any] | None = None,
    ):
        if dtype not in TYPES:
            raise InputError(f"points are stored as {', '.join(map(str, TYPES))}, not as {dtype}")
        if every < 1:
            raise InputError(f"every is {every}; it must be at least 1")
        self.path, self.every, self.dtype, self.notes = Path(path), every, dtype, notes or {}
        self.parameters = parameters
        self._names: set[str] | None = None  # names of the recorded parameters, known once there was a network
        self._choice: dict[str, Any] | None = None  # the entry of the header about them
        self._unit, self._calls, self._head, self._steps = "step", 0, b"", []
        make_folder(self.path.parent)
        if resume and is_there(self.path):
            earlier = RecordedPoints(self.path)
            if earlier.damaged:
                earlier.keep_whole_records()
            self._head, self._steps, self._unit = earlier.head, earlier.steps.tolist(), earlier.unit
            self._choice = earlier.choice
            self._calls = self._steps[-1] + 1 if self._steps else 0
        else:
            self._remove()
        self._left = _Seen(self.path)

    @own_torch_state()
    def record(self, model: nn.Module | Point, *, loss: float | Tensor | None = None, step: int | None = None) -> None:
        """Append the present parameters of ``model``; by default ``step`` is the number of earlier calls.

        If the step is recorded already, that record is replaced and later ones are removed, because training has been
        resumed from an earlier step.

        Raises:
            InputError: the parameters belong to another network than before or are too large for ``dtype``, the disk
                is full, or another program has written, cut or removed the file.
        """
        step = self._calls if step is None else step
        self._calls = step + 1
        if step % self.every:
            return
        point = self._chosen(model)
        head = self._header(point)
        if self._head and not _same_header(self._head, head):
            raise InputError(f"{self.path} holds points of another network or run; use one file for each")
        head = self._head or head
        record = _packed(step, math.nan if loss is None else float(loss), _flat(point, self.dtype))
        kept = [earlier for earlier in self._steps if earlier < step]
        try:
            with locked(self.path):
                self._append(head, record, len(head) + len(kept) * len(record))
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._head, self._steps = head, [*kept, step]

    @property
    def next_step(self) -> int:
        """The step after the last one for which `record` was called."""
        return self._calls

    def __getattr__(self, name: str) -> Any:
        """The hook ``name`` of a training loop that has been imported, see `landscape.trajectories.callbacks`."""
        if (hook := hook_of(self, name)) is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return hook

    def on_epoch(self, epoch: int, model: nn.Module, metrics: dict[str, Any]) -> None:
        """The hook of `fit` after every epoch; the loss is that of the test data at this point."""
        self._unit = "epoch"
        self.record(model, loss=metrics["test_loss"], step=epoch)

    def on_step(self, step: int, model: nn.Module, loss: Tensor) -> None:
        """The hook of `fit` after every step; the loss is that of its mini-batch, before the step."""
        self.record(model, loss=loss, step=step)

    def _chosen(self, model: nn.Module | Point) -> Point:
        """The present values of the parameters to record, in the memory of ``model``."""
        point = point_moving(model, ())
        if self.parameters is None:
            return point
        if self._names is None:
            self._names = set(chosen_parameters(model, self.parameters))
            rest = [value for name, value in point.items() if name not in self._names]
            digest = self._choice["rest"] if self._choice else fingerprint(rest)
            self._choice = {"parameters": entries_of(self.parameters), "rest": digest}
        return {name: value for name, value in point.items() if name in self._names}

    def _append(self, head: bytes, record: bytes, place: int) -> None:
        """Write ``record`` at the byte ``place`` and cut the file after it, if only this recorder has written to it."""
        if not self._left.is_unchanged():
            raise InputError(
                f"{self.path} was removed, cut or written by another recorder after {len(self._steps)} point(s) of "
                "this one; use a separate file for every run"
            )
        try:
            with self.path.open("ab") as file:
                if not self._head:
                    file.write(head)
                file.truncate(place)
                file.write(record)
        finally:  # also after an incomplete record, which the next call cuts off
            self._left = _Seen(self.path)

    def _remove(self) -> None:
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"cannot replace {self.path}: {error.strerror or error}; use another file") from error

    def _header(self, point: Point) -> bytes:
        layout = {
            "shapes": {name: list(value.shape) for name, value in point.items()},
            "dtype": TYPES[self.dtype],
            "unit": self._unit,
            "notes": self.notes,
            **({"chosen": self._choice} if self._choice else {}),
        }
        text = json.dumps(layout).encode()
        text += b" " * (-(len(MAGIC) + HEX + len(text) + 2) % 8)  # padded so that the records are aligned
        return MAGIC + hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n"


class RecordedPoints(Sequence[Any]):
    """The points in a file of `TrajectoryRecorder`; ``points[t]`` reads one from disk.

    Records that are damaged, or incomplete because the file is still being written or its writer was killed, are left
    out with a warning.

    Attributes: ``steps`` [T] int64; ``losses`` [T] float64 (NaN if not recorded); ``unit`` ("step" or "epoch");
    ``notes``; ``damaged`` (number of damaged records, without an incomplete one at the end); ``choice`` (the recorded
    parameters and a digest of the others; None if all are recorded).

    Raises:
        InputError: the file is missing or does not hold points.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.head, layout = _read_header(self.path)
        self.shapes = {name: tuple(shape) for name, shape in layout["shapes"].items()}
        self.unit, self.notes, self.choice = layout["unit"], layout["notes"], layout.get("chosen")
        self._sizes = [math.prod(shape) for shape in self.shapes.values()]
        self._records, self._whole = self._whole_records(_layout(sum(self._sizes), layout["dtype"]))
        self.damaged = len(self._records) - len(self._whole)
        self.steps = np.array(self._records["step"][self._whole], dtype=np.int64)
        self.losses = np.array(self._records["loss"][self._whole], dtype=np.float64)

    def __len__(self) -> int:
        return len(self._whole)

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
        """All records of the file, and the indices of those with a right checksum and increasing steps."""
        begin, size = len(self.head), self.path.stat().st_size
        count, rest = divmod(size - begin, layout.itemsize)
        # An empty range of a file cannot be mapped.
        records = np.memmap(self.path, layout, "r", begin, (count,)) if count else np.empty(0, layout)
        whole: list[int] = []
        for number, record in enumerate(records):
            after = not whole or record["step"] > records[whole[-1]]["step"]
            if after and _checksum(record) == record["checksum"]:
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


def _read_header(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes of the header, and its content.

    Raises:
        InputError: the file cannot be read, or its header is missing, damaged or of an unknown form.
    """
    what, way_out = "file of recorded points", "record the run again, or use another file"
    problem = f"{path} is no {what}, or a damaged one"
    with opened(path, what, way_out) as file:
        head, text = file.readline(len(MAGIC)), file.readline(LONGEST_HEADER)
    if head not in (MAGIC, EARLIER_MAGIC) or not text.endswith(b"\n"):
        reason = foreign_format(head + text) if head != MAGIC and head != EARLIER_MAGIC else "its header is cut"
        raise InputError(f"{problem}: {reason or 'it does not begin as one'}; {way_out}")
    content = text[:-1]
    if head == MAGIC:
        digest, _, content = content.partition(b" ")
        if digest != hashlib.sha256(content).hexdigest().encode():
            raise InputError(f"{problem}: the digest of its header differs; {way_out}")
    layout: dict[str, Any] = parsed(content, problem, way_out)
    if fault := form_fault(layout, FORM) or _layout_fault(layout):
        raise InputError(f"{problem}: {one_line(fault)[:200]}; {way_out}")
    return head + text, layout


def _layout_fault(layout: dict[str, Any]) -> str | None:
    if layout["dtype"] not in TYPES.values():
        return f"its numbers are of type {layout['dtype']!r}, not one of {', '.join(TYPES.values())}"
    if layout["unit"] not in ("step", "epoch"):
        return f"its unit is {layout['unit']!r}, neither step nor epoch"
    sizes = [math.prod(shape) for shape in layout["shapes"].values()]
    if any(number < 0 for shape in layout["shapes"].values() for number in shape) or not 0 < sum(sizes) < LARGEST:
        return "the shapes of its parameters are impossible"
    return None


def _same_header(one: bytes, other: bytes) -> bool:
    """Whether two headers have the same content, in the present or the earlier format."""
    return _header_content(one) == _header_content(other)


def _header_content(head: bytes) -> bytes:
    text = head[len(MAGIC) :].strip()
    return text if head.startswith(EARLIER_MAGIC) else text[HEX:].strip()


class _Seen:
    """The identity and size of a file at one time, or the fact that it did not exist."""

    def __init__(self, path: Path):
        self.path, self.descriptor, self.size = path, None, 0
        with contextlib.suppress(FileNotFoundError):
            # Kept open as long as this object lives, so that no other file gets the same inode number.
            self.descriptor = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, self.descriptor)
            self.size = os.fstat(self.descriptor).st_size

    def is_unchanged(self) -> bool:
        """Whether the file has not been replaced, cut, extended, removed or created since."""
        try:
            now = self.path.stat()
        except FileNotFoundError:
            return self.descriptor is None
        same = self.descriptor is not None and os.path.samestat(now, os.fstat(self.descriptor))
        return same and now.st_size == self.size


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
