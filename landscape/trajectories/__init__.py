"""Trajectories of training: recording of points, their PCA plane, their projection onto a plane."""

from landscape.slices.principal import pca_plane
from landscape.trajectories.projection import covering_ranges, project
from landscape.trajectories.recorded import JoinedPoints, RecordedPoints
from landscape.trajectories.recording import TrajectoryRecorder
from landscape.trajectories.runs import (
    checkpoint_notes,
    load_or_project,
    load_or_record,
    load_or_record_language_model,
    record_checkpoints,
    recorded_owner,
    run_notes,
)

__all__ = [
    "JoinedPoints",
    "RecordedPoints",
    "TrajectoryRecorder",
    "checkpoint_notes",
    "covering_ranges",
    "load_or_project",
    "load_or_record",
    "load_or_record_language_model",
    "pca_plane",
    "project",
    "record_checkpoints",
    "recorded_owner",
    "run_notes",
]
