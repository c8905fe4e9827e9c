"""Topology: the basins of a surface, the saddles between them, and a test of whether they are noise."""

from landscape.topology.merge_tree import topology
from landscape.topology.permutations import NullTest, permutation_test

__all__ = ["NullTest", "permutation_test", "topology"]
