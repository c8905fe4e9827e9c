"""Runs to look at: trained and recorded here, or made of checkpoints; done once, then found again."""

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
from landscape.storage.locks import locked
from landscape.storage.recipe import unfinished_path
from landscape.training.checkpoints import Checkpoint
from landscape.training.language import LanguageTraining, fit_language_model
from landscape.training.loop import Training, fit
from landscape.trajectories.projection import project
from landscape.trajectories.recording import RecordedPoints, TrajectoryRecorder

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
    """All that the points of a run depend on; JSON types."""
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
    """The points after every epoch of a run, from the initial weights on, found at ``path`` or trained and kept there.

    They are found if model, data, settings and kind of device are the same and the run has ended. A run that was
    interrupted goes on after its last whole epoch, from a file beside ``path``; on the CPU to the same bits.
    ``model`` and ``arguments`` are those of `build_model`.

    Raises:
        InputError: points were lost while the network was trained.
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
    """As `load_or_record`, for the recorded points of `fit_language_model`, whose losses are those held out.

    Args:
        path: the file of the points.
        build: gives the network before training; the global generators are seeded for it.
        identity: what tells this network from others; JSON types.
        train: the sequences to learn.
        held_out: scored at every recorded point.
        training: the settings.
        device: as for ``select_device``.
        parameters: what is recorded, as for `TrajectoryRecorder`; all by default.
        force: train again in any case.
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
    """The ``count`` points at ``path`` of the run with these ``notes``, recorded by ``run`` where they are missing.

    ``run`` gets the file that keeps what it needs to go on after a break.
    """
    state = unfinished_path(path, notes, ".pth")

    def record() -> int:
        make_folder(path.parent)
        with locked(path):  # another process that trains this run is waited for
            if not force and kept_result(path, notes, _counted, _of(count))[0] is not None:
                return count
            if force or not _holds_points_of(path, notes):  # without its points there is nothing to go on from
                state.unlink(missing_ok=True)
            seed_everything(seed)
            run(state)
            state.unlink(missing_ok=True)
            if (found := len(RecordedPoints(path))) != count:
                advice = "run again, to train the network anew"
                raise InputError(f"{path} has lost points recorded before ({found} of {count} are there); {advice}")
        return count

    def read(place: Path) -> tuple[int, dict[str, Any]] | None:
        return None if state.exists() else _counted(place)  # a run that was interrupted goes on

    _recorded(path, notes, count, record, read, force=force)
    return RecordedPoints(path)


def checkpoint_notes(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """What tells a path through ``checkpoints`` from others."""
    ordered = sorted(checkpoints, key=lambda checkpoint: checkpoint.metadata["epoch"])
    return {"checkpoints": [checkpoint.sha256 for checkpoint in ordered]}


def record_checkpoints(path: str | Path, checkpoints: Sequence[Checkpoint]) -> RecordedPoints:
    """The weights of ``checkpoints`` in the order of their epochs, in a file of points at ``path``.

    Raises:
        InputError: two checkpoints of one epoch, or of different networks.
    """
    ordered = sorted(checkpoints, key=lambda checkpoint: checkpoint.metadata["epoch"])
    for one, other in pairwise(ordered):
        if one.metadata["epoch"] == other.metadata["epoch"]:
            raise InputError(f"{one.path} and {other.path} are both of epoch {one.metadata['epoch']}; give one of them")
    notes = checkpoint_notes(checkpoints)

    def record() -> int:
        recorder = TrajectoryRecorder(path, notes=notes)
        for checkpoint in ordered:
            metrics = {"test_loss": float("nan"), **checkpoint.metadata["metrics"]}
            recorder.on_epoch(checkpoint.metadata["epoch"], checkpoint.model, metrics)
        return len(ordered)

    _recorded(path, notes, len(ordered), record, _counted)
    return RecordedPoints(path)


def load_or_project(
    path: str | Path, points: RecordedPoints, plane: Plane, objective: Objective, *, name: str, force: bool = False
) -> Trajectory:
    """The trajectory stored at ``path`` if it is that of ``points`` on this plane, else a new one, stored there."""
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
    """How many points a file holds, and of which run."""
    points = RecordedPoints(path)
    return len(points), points.notes


def _of(count: int) -> Callable[[int], str | None]:
    """The judgement of a number of points where ``count`` make the run complete."""
    return lambda found: None if found == count else f"its number of points is {found}, not {count}"


def _holds_points_of(path: str | Path, notes: dict[str, Any]) -> bool:
    return kept_result(Path(path), notes, _counted)[0] is not None


def recorded_owner(paths: Mapping[str | Path, dict[str, Any]], mine: str) -> str | None:
    """``mine`` where all files of points that exist are of the runs with these notes; None where none exists."""
    there = {path: notes for path, notes in paths.items() if Path(path).exists()}
    if not there:
        return None
    return mine if all(_holds_points_of(path, notes) for path, notes in there.items()) else ""


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
