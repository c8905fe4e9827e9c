"""Runs to look at: trained and recorded here, or made of checkpoints; done once, then found again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from landscape.datasets import Data
from landscape.errors import InputError
from landscape.models import build_model
from landscape.objective.objectives import Objective
from landscape.objective.settling import whole_slice
from landscape.results import Trajectory
from landscape.runtime import ranks
from landscape.runtime.devices import seed_everything, select_device
from landscape.slices.planes import Plane
from landscape.training.checkpoints import Checkpoint
from landscape.training.loop import Training, fit
from landscape.trajectories.projection import project
from landscape.trajectories.recording import RecordedPoints, TrajectoryRecorder

__all__ = ["checkpoint_notes", "load_or_project", "load_or_record", "record_checkpoints", "recorded_owner", "run_notes"]


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
    path, notes = Path(path), run_notes(model, arguments, train, test, training, device=device)
    state = path.with_suffix(f".{_digest(notes)}.unfinished.pth")

    def record() -> None:
        if force:
            state.unlink(missing_ok=True)
        elif is_recorded(path, notes, training.epochs + 1):
            return
        if not is_recorded(path, notes):  # without its points there is nothing to go on from
            state.unlink(missing_ok=True)
        seed_everything(training.seed)
        network = build_model(model, **arguments)
        recorder = TrajectoryRecorder(path, notes=notes, resume=state.exists())
        fit(
            network, train, test, device=device, on_epoch=recorder.on_epoch, epoch_zero=True, state=state,
            **asdict(training),
        )  # fmt: skip
        state.unlink(missing_ok=True)
        if not is_recorded(path, notes, training.epochs + 1):
            raise InputError(f"{path} has lost points of epochs before; run again, to train the network anew")

    ranks.from_first(record)
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

    def record() -> None:
        if is_recorded(path, notes, len(ordered)):
            return
        recorder = TrajectoryRecorder(path, notes=notes)
        for checkpoint in ordered:
            metrics = {"test_loss": float("nan"), **checkpoint.metadata["metrics"]}
            recorder.on_epoch(checkpoint.metadata["epoch"], checkpoint.model, metrics)

    ranks.from_first(record)
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
        "data": objective.samples.description["fingerprint"],
        "objective": settled.description,
        "name": name,
    }
    if not force and Path(path).exists() and (found := Trajectory.load(path)).metadata.get("identity") == identity:
        return found
    found = project(points, plane, objective, name=name)
    found.metadata["identity"] = identity
    found.save(path)
    return found


def is_recorded(path: str | Path, notes: dict[str, Any], count: int | None = None) -> bool:
    """Whether the file holds points of the run with these ``notes``; all ``count`` of them where that is given."""
    if not Path(path).exists():
        return False
    found = RecordedPoints(path)
    return found.notes == notes and count in (None, len(found))


def recorded_owner(paths: Mapping[str | Path, dict[str, Any]], mine: str) -> str | None:
    """``mine`` where all files of points that exist are of the runs with these notes; None where none exists."""
    there = {path: notes for path, notes in paths.items() if Path(path).exists()}
    if not there:
        return None
    return mine if all(is_recorded(path, notes) for path, notes in there.items()) else ""


def _digest(notes: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(notes, sort_keys=True).encode()).hexdigest()[:8]


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
