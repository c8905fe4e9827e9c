"""The namespace ``results`` of `landscape_lib`: the classes of results, for annotations and for loading them."""

from landscape.connectivity import (
    Alignment,
    Connectivity,
)
from landscape.results import (
    Barrier,
    BasinHistory,
    BasinRadii,
    Eigenpairs,
    Faithfulness,
    LearningCoefficient,
    Sharpness,
    SharpnessHistory,
    SpectralDensity,
    Surface,
    Topology,
    TraceEstimate,
    Trajectory,
)
from landscape.selftest import (
    SelfTest,
)
from landscape.slices.curves import (
    Curve,
)
from landscape.topology import (
    NullTest,
)

__all__ = [
    "Alignment",
    "Barrier",
    "BasinHistory",
    "BasinRadii",
    "Connectivity",
    "Curve",
    "Eigenpairs",
    "Faithfulness",
    "LearningCoefficient",
    "NullTest",
    "SelfTest",
    "Sharpness",
    "SharpnessHistory",
    "SpectralDensity",
    "Surface",
    "Topology",
    "TraceEstimate",
    "Trajectory",
]
