"""What the operations of torch do to the units of what they take: tables by name, and a rule for each of them.

A rule takes the tracer and an operation, and gives labels for each of its outputs.
"""

from landscape.connectivity.operations.call import READ_AXES, Operation, read_by, tensors_in, trailing
from landscape.connectivity.operations.tables import FILLING, LEAVING, RULES
from landscape.connectivity.operations.watch import Watch

__all__ = ["FILLING", "LEAVING", "READ_AXES", "RULES", "Operation", "Watch", "read_by", "tensors_in", "trailing"]
