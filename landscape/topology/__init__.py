"""Basins of a surface, the saddles between them, and how many of them are more than noise."""

from landscape.topology.merge_tree import topology
from landscape.topology.permutations import NullTest, permutation_test

__all__ = ["NullTest", "permutation_test", "topology"]
