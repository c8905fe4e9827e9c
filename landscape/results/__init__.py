"""Results: numpy arrays with the recipe that made them, saved without pickle; nothing here loads torch."""

from landscape.results.barrier import Barrier
from landscape.results.basin_history import BasinHistory
from landscape.results.basin_radii import BasinRadii, share_bound
from landscape.results.curvature import Eigenpairs, SpectralDensity, TraceEstimate
from landscape.results.faithfulness import Faithfulness
from landscape.results.learning_coefficient import LearningCoefficient
from landscape.results.sharpness import SHARPNESS_CAUTION, Sharpness
from landscape.results.sharpness_history import SharpnessHistory
from landscape.results.surface import Surface
from landscape.results.topology import Topology
from landscape.results.trajectory import Trajectory

__all__ = [
    "SHARPNESS_CAUTION",
    "Barrier",
    "BasinHistory",
    "BasinRadii",
    "Eigenpairs",
    "Faithfulness",
    "LearningCoefficient",
    "Sharpness",
    "SharpnessHistory",
    "SpectralDensity",
    "Surface",
    "Topology",
    "TraceEstimate",
    "Trajectory",
    "share_bound",
]
