"""What a point in parameter space is."""

from torch import Tensor

__all__ = ["Point"]

Point = dict[str, Tensor]
