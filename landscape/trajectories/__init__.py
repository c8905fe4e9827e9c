"""Where training went: recording its points, the plane in which they spread most, their projection onto a plane."""

from landscape.trajectories.pca import pca_plane
from landscape.trajectories.projection import covering_ranges, project
from landscape.trajectories.recording import JoinedPoints, RecordedPoints, TrajectoryRecorder

__all__ = ["JoinedPoints", "RecordedPoints", "TrajectoryRecorder", "covering_ranges", "pca_plane", "project"]
