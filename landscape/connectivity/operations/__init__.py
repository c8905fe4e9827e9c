"""How the units in the outputs of torch operations follow from those in their inputs: one rule for each operation.

A rule takes the tracer and an operation, and returns the labels of each of its outputs: which unit every element holds.
`RULES` gives the rule of an operation by its name.
"""

from landscape.connectivity.operations.call import READ_AXES, Operation, read_by, tensors_in, trailing
from landscape.connectivity.operations.tables import FILLING, LEAVING, RULES
from landscape.connectivity.operations.watch import Watch

__all__ = ["FILLING", "LEAVING", "READ_AXES", "RULES", "Operation", "Watch", "read_by", "tensors_in", "trailing"]
