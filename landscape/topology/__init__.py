"""Topology: the basins of surfaces, the saddles between them, and a test of whether they are noise."""

from landscape.topology.history import follow_basins
from landscape.topology.merge_tree import topology
from landscape.topology.permutations import NullTest, permutation_test

__all__ = ["NullTest", "follow_basins", "permutation_test", "topology"]
