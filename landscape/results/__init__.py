"""Results: numpy arrays with the recipe that made them, saved without pickle; nothing here loads torch."""

from landscape.results.barrier import Barrier
from landscape.results.surface import Surface
from landscape.results.trajectory import Trajectory

__all__ = ["Barrier", "Surface", "Trajectory"]
