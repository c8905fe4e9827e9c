"""Every check of the suite."""

from landscape.selftest.checks import curvature, directions, networks, quadratics, statistics, surfaces

__all__ = ["CHECKS"]

CHECKS = (
    *directions.CHECKS,
    *quadratics.CHECKS,
    *surfaces.CHECKS,
    *networks.CHECKS,
    *curvature.CHECKS,
    *statistics.CHECKS,
)
