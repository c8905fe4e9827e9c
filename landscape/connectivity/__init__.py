"""How two networks are connected: barriers, alignment of their hidden units, curves of low loss."""

from landscape.connectivity.alignment import Alignment, align
from landscape.connectivity.barriers import barrier
from landscape.connectivity.curves import fit_curve
from landscape.connectivity.report import Connectivity, barrier_table, connectivity

__all__ = ["Alignment", "Connectivity", "align", "barrier", "barrier_table", "connectivity", "fit_curve"]
