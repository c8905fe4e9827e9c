"""Recording of the points of a run in one file, which grows record by record and can be read during training."""

import contextlib
import math
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks import check_choice
from landscape.errors import InputError
from landscape.points import Point, check_whole, point_moving
from landscape.presenting import Presented
from landscape.runtime import own_torch_state
from landscape.slices.chosen import chosen_parameters, entries_of
from landscape.storage.files import make_folder
from landscape.storage.locks import locked
from landscape.storage.provenance import fingerprint
from landscape.storage.reading import is_there
from landscape.trajectories.callbacks import hook_of
from landscape.trajectories.point_files import TYPES, UNITS, Unit, flat_values, header, packed, same_header
from landscape.trajectories.recorded import RecordedPoints

__all__ = ["TrajectoryRecorder"]


class TrajectoryRecorder(Presented):
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
        unit: What is counted: "step", "epoch" or "file"; the hook `on_epoch` counts epochs in any case.
        notes: Description of the run, such as its settings, in JSON types.

    Raises:
        InputError: the dtype cannot be stored, the unit is unknown, ``every`` is below 1, the folder cannot be
            written, or the file to resume does not hold points.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        every: int = 1,
        parameters: str | Sequence[str] | None = None,
        dtype: torch.dtype = torch.float32,
        resume: bool = False,
        unit: Unit = "step",
        notes: dict[str, Any] | None = None,
    ):
        if dtype not in TYPES:
            raise InputError(f"points are stored as {', '.join(map(str, TYPES))}, not as {dtype}")
        if every < 1:
            raise InputError(f"every is {every}; it must be at least 1")
        check_choice("unit", unit, UNITS)
        self.path, self.every, self.dtype, self.notes = Path(path), every, dtype, notes or {}
        self.parameters = parameters
        self._names: set[str] | None = None  # names of the recorded parameters, known after the first call of `record`
        self._choice: dict[str, Any] | None = None  # the entry of the header about them
        self._unit, self._calls, self._head, self._steps = unit, 0, b"", []
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
        if isinstance(model, nn.Module):
            check_whole(model)
        point = self._chosen(model)
        head = self._header(point)
        if self._head and not same_header(self._head, head):
            raise InputError(f"{self.path} holds points of another network or run; use one file for each")
        head = self._head or head
        record = packed(step, math.nan if loss is None else float(loss), flat_values(point, self.dtype))
        kept = [earlier for earlier in self._steps if earlier < step]
        try:
            with locked(self.path):
                self._append(head, record, len(head) + len(kept) * len(record))
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._head, self._steps = head, [*kept, step]

    @property
    def facts(self) -> dict[str, str]:
        steps = self._steps
        return {
            "points": f"{len(steps):,}",
            "last": f"{self._unit} {steps[-1]:,}" if steps else "",
            "every": f"{self.every:,}" if self.every > 1 else "",
            "file": str(self.path),
        }

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
        return header(layout)


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
