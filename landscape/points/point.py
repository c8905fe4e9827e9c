"""The type of a point in parameter space: the values of all parameters, by their names."""

from torch import Tensor

__all__ = ["Point"]

Point = dict[str, Tensor]
