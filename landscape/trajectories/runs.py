"""Recorded runs: trained and recorded here, or made from checkpoints, and stored for later calls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import nn

from landscape.datasets import Data
from landscape.datasets.text import Text
from landscape.errors import InputError
from landscape.models import build_model
from landscape.objective.identity import objective_identity
from landscape.objective.objectives import Objective
from landscape.objective.settling import whole_slice
from landscape.results import Trajectory
from landscape.runtime import ranks
from landscape.runtime.devices import seed_everything, select_device
from landscape.slices.planes import Plane
from landscape.storage import cached
from landscape.storage.caching import Reading, kept_result
from landscape.storage.files import make_folder
from landscape.storage.recipe import unfinished_path
from landscape.training.checkpoints import Checkpoint
from landscape.training.language import LanguageTraining, fit_language_model
from landscape.training.loop import Training, fit
from landscape.trajectories.point_files import Unit
from landscape.trajectories.projection import project
from landscape.trajectories.recorded import RecordedPoints
from landscape.trajectories.recording import TrajectoryRecorder

__all__ = [
    "checkpoint_notes",
    "load_or_project",
    "load_or_record",
    "load_or_record_language_model",
    "record_checkpoints",
    "recorded_owner",
    "run_notes",
]


def run_notes(
    model: str, arguments: dict[str, Any], train: Data, test: Data, training: Training, *, device: str = "auto"
) -> dict[str, Any]:
    """Everything on which the points of a run depend, in JSON types."""
    return {
        "model": {"name": model, "arguments": {name: _plain(value) for name, value in arguments.items()}},
        "data": {"train": train.fingerprint, "test": test.fingerprint},
        "training": {name: _plain(value) for name, value in asdict(training).items()},
        "device": select_device(device).type,
    }


def load_or_record(
    path: str | Path,
    model: str,
    arguments: dict[str, Any],
    train: Data,
    test: Data,
    training: Training,
    *,
    device: str = "auto",
    force: bool = False,
) -> RecordedPoints:
    """The initial weights and the points after every epoch of a run, loaded from ``path`` or trained and stored there.

    Stored points are used if model, data, settings and type of device are the same and the run is complete. An
    interrupted run is resumed after its last complete epoch from a file beside ``path``; on the CPU the result has the
    same bits as an uninterrupted run. ``model`` and ``arguments`` are those of `build_model`.

    Raises:
        InputError: recorded points were lost during the training.
    """
    notes = run_notes(model, arguments, train, test, training, device=device)

    def run(state: Path) -> None:
        network = build_model(model, **arguments)
        recorder = TrajectoryRecorder(path, notes=notes, resume=state.exists())
        fit(
            network, train, test, device=device, on_epoch=recorder.on_epoch, epoch_zero=True, state=state,
            **asdict(training),
        )  # fmt: skip

    return _load_or_run(Path(path), notes, training.epochs + 1, run, training.seed, force=force)


def load_or_record_language_model(
    path: str | Path,
    build: Callable[[], nn.Module],
    identity: dict[str, Any],
    train: Text,
    held_out: Text,
    training: LanguageTraining,
    *,
    device: str = "auto",
    parameters: str | Sequence[str] | None = None,
    force: bool = False,
) -> RecordedPoints:
    """Like `load_or_record`, for points recorded by `fit_language_model`; their losses are those of held-out text.

    Args:
        path: File of the points.
        build: Function that returns the network before training; the global generators are seeded before the call.
        identity: Values that distinguish this network from others, in JSON types.
        train: Sequences for training.
        held_out: Sequences whose loss is computed at every recorded point.
        training: Settings of the training.
        device: See ``select_device``.
        parameters: Parameters to record, see `TrajectoryRecorder`; default: all.
        force: Train again even if the points are stored.
    """
    data = {"train": train.fingerprint, "held-out": held_out.fingerprint}
    notes = {"model": identity, "data": data, "training": asdict(training), "device": select_device(device).type}

    def run(state: Path) -> None:
        recorder = TrajectoryRecorder(path, notes=notes, resume=state.exists(), parameters=parameters)

        def keep(step: int, model: nn.Module, metrics: dict[str, float]) -> None:
            recorder.record(model, loss=metrics["held_out_loss"], step=step)

        fit_language_model(build(), train, held_out, training, device=device, on_point=keep, state=state)

    return _load_or_run(Path(path), notes, training.points + 1, run, training.seed, force=force)


def _load_or_run(
    path: Path, notes: dict[str, Any], count: int, run: Callable[[Path], None], seed: int, *, force: bool
) -> RecordedPoints:
    """The ``count`` points at ``path`` of the run with these ``notes``, recorded by ``run`` if they are missing.

    ``run`` is called with the file of the training state, from which an interrupted run is resumed.
    """
    make_folder(path.parent)  # in which another process that trains this run is noticed
    state = unfinished_path(path, notes, ".pth")

    def record() -> int:
        if force or not _holds_points_of(path, notes):  # without its points a run cannot be resumed
            state.unlink(missing_ok=True)
        seed_everything(seed)
        run(state)
        state.unlink(missing_ok=True)
        if (stored := len(RecordedPoints(path))) != count:
            advice = "run again, to train the network from the start"
            raise InputError(f"{path} has lost points recorded before ({stored} of {count} are there); {advice}")
        return count

    def read(place: Path) -> tuple[int, dict[str, Any]] | None:
        return None if state.exists() else _counted(place)  # an interrupted run is resumed

    _recorded(path, notes, count, record, read, force=force)
    return RecordedPoints(path)


def checkpoint_notes(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """The identity of a path through ``checkpoints``."""
    ordered = sorted(checkpoints, key=lambda checkpoint: checkpoint.metadata["epoch"])
    return {"checkpoints": [checkpoint.sha256 for checkpoint in ordered]}


def record_checkpoints(path: str | Path, checkpoints: Sequence[Checkpoint], unit: Unit = "epoch") -> RecordedPoints:
    """Write the weights of ``checkpoints``, in the order of their epochs, to a file of points at ``path``.

    Their epochs may count something else, such as files, which ``unit`` names.

    Raises:
        InputError: two checkpoints have the same epoch or belong to different networks, or one is not finite.
    """
    for checkpoint in checkpoints:
        _check_finite(checkpoint)
    ordered = sorted(checkpoints, key=lambda checkpoint: checkpoint.metadata["epoch"])
    for one, other in pairwise(ordered):
        if one.metadata["epoch"] == other.metadata["epoch"]:
            raise InputError(f"{one.path} and {other.path} are both of epoch {one.metadata['epoch']}; use one of them")
    notes = checkpoint_notes(checkpoints)

    def record() -> int:
        recorder = TrajectoryRecorder(path, unit=unit, notes=notes)
        for checkpoint in ordered:
            loss = checkpoint.metadata["metrics"].get("test_loss")
            recorder.record(checkpoint.model, loss=loss, step=checkpoint.metadata["epoch"])
        return len(ordered)

    _recorded(path, notes, len(ordered), record, _counted)
    return RecordedPoints(path)


def _check_finite(checkpoint: Checkpoint) -> None:
    for name, value in checkpoint.model.named_parameters():
        if not value.isfinite().all():
            raise InputError(
                f"{checkpoint.path} holds values that are not finite, first in {name!r} (did training diverge?); leave "
                "it out"
            )


def load_or_project(
    path: str | Path, points: RecordedPoints, plane: Plane, objective: Objective, *, name: str, force: bool = False
) -> Trajectory:
    """The projection of ``points`` onto ``plane``, loaded from ``path`` or computed by `project` and stored there."""
    plane = whole_slice(objective.network, plane)
    settled = objective.for_slice(plane)
    identity = {
        "points": points.fingerprint,
        "slice": plane.fingerprint,
        "data": settled.samples.description["fingerprint"],
        "name": name,
        **objective_identity(settled),
    }

    def read(place: Path) -> tuple[Trajectory, dict[str, Any]]:
        stored = Trajectory.load(place)
        return stored, stored.metadata.get("identity", {})

    def compute() -> Trajectory:
        new = project(points, plane, objective, name=name)
        new.metadata["identity"] = identity
        return new

    return cached(path, identity, compute, read=read, write=lambda place, new: new.save(place), force=force)


def _recorded(
    path: str | Path,
    notes: dict[str, Any],
    count: int,
    record: Callable[[], int],
    read: Reading[int],
    *,
    force: bool = False,
) -> None:
    """Call ``record`` on the first rank unless ``path`` holds ``count`` points of the run with these ``notes``."""
    cached(path, notes, lambda: ranks.from_first(record), read=read, accept=_of(count), force=force)


def _counted(path: Path) -> tuple[int, dict[str, Any]]:
    """The number of points in a file, and the notes of their run."""
    points = RecordedPoints(path)
    return len(points), points.notes


def _of(count: int) -> Callable[[int], str | None]:
    """The judgement of a number of points for a run of which ``count`` points are complete."""
    return lambda stored: None if stored == count else f"its number of points is {stored}, not {count}"


def _holds_points_of(path: str | Path, notes: dict[str, Any]) -> bool:
    return kept_result(Path(path), notes, _counted)[0] is not None


def recorded_owner(paths: Mapping[str | Path, dict[str, Any]], mine: str) -> str | None:
    """``mine`` if all existing files of points belong to the runs with these notes, "" if not; None if none exists."""
    there = {path: notes for path, notes in paths.items() if Path(path).exists()}
    if not there:
        return None
    return mine if all(_holds_points_of(path, notes) for path, notes in there.items()) else ""


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
