"""How two networks are connected: barriers, alignment of their hidden units, curves of low loss."""

from landscape.connectivity.alignment import Alignment, align
from landscape.connectivity.barriers import barrier
from landscape.connectivity.curves import Curve, fit_curve

__all__ = ["Alignment", "Curve", "align", "barrier", "fit_curve"]
