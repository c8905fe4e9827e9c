"""A permutation test of whether the basins of a surface could be exchangeable noise."""

from dataclasses import dataclass
from typing import get_args

import numpy as np

from landscape.checks import check_choice, check_count, check_seed, check_type
from landscape.errors import InputError
from landscape.presenting import Presented
from landscape.results import Surface
from landscape.topology.merge_tree import Neighbours, persistence_pairs

__all__ = ["NullTest", "permutation_test"]


@dataclass(frozen=True, repr=False)
class NullTest(Presented):
    """The number of basins of a surface, and of surfaces with permuted residuals."""

    basins: int  # number of basins of the surface
    permuted: tuple[int, ...]  # number of basins after each permutation
    p_value: float  # (1 + number of permutations with at most as many basins) / (1 + number of permutations)

    @property
    def facts(self) -> dict[str, str]:
        fewest, most = min(self.permuted), max(self.permuted)
        return {
            "basins": f"{self.basins:,}",
            "after permutations": f"{fewest:,} to {most:,} ({len(self.permuted):,} permutations)",
            "p-value": f"{self.p_value:.3g}",
        }


def permutation_test(
    surface: Surface, *, permutations: int = 199, seed: int = 0, neighbours: Neighbours = "corners"
) -> NullTest:
    """Test the null hypothesis that the loss is a quadratic function of the coordinates and exchangeable noise.

    The residuals of a least-squares quadratic are permuted at random, and the basins are counted again. Unstructured
    noise makes many basins. So a small p-value means that the surface has significantly fewer basins: its deviation
    from a quadratic is smooth, and its basins are not noise. A large p-value means that noise of this size would make
    as many basins.

    Args:
        surface: A line or a plane whose losses are all finite.
        permutations: Number of permutations.
        seed: Seed of the permutations.
        neighbours: The neighbours of a grid point, see `topology`.

    Raises:
        InputError: There is no permutation, a seed or neighbours are unknown, a loss is not finite, or there are too
            few points for a quadratic.
    """
    check_type(surface, Surface, "permutation_test(surface)", "a Surface, as ll.evaluate returns it")
    check_count("permutations", permutations)
    check_seed(seed)
    check_choice("neighbours", neighbours, get_args(Neighbours))
    if surface.nonfinite.any():
        raise InputError("a permutation test needs a surface whose losses are all finite; evaluate a smaller range")
    bowl = _quadratic(surface)
    residuals = surface.loss - bowl
    generator = np.random.default_rng(seed)
    counts = tuple(
        _count(bowl + generator.permutation(residuals.ravel()).reshape(bowl.shape), neighbours)
        for _ in range(permutations)
    )
    basins = _count(surface.loss, neighbours)
    return NullTest(basins, counts, (1 + sum(count <= basins for count in counts)) / (1 + permutations))


def _count(values: np.ndarray, neighbours: Neighbours) -> int:
    return len(persistence_pairs(values, neighbours).minima)


def _quadratic(surface: Surface) -> np.ndarray:
    """The least-squares quadratic function of the coordinates [A, B]."""
    axes = [(axis - axis.mean()) / np.ptp(axis) for axis in surface.axes]
    x, *rest = np.meshgrid(*axes, indexing="ij")
    terms = [np.ones_like(x), x, x * x]
    for y in rest:
        terms += [y, y * y, x * y]
    design = np.stack([term.ravel() for term in terms], 1)
    if len(design) <= design.shape[1]:
        raise InputError(f"{len(design)} points are too few for a quadratic of {design.shape[1]} coefficients")
    coefficients = np.linalg.lstsq(design, surface.loss.ravel(), rcond=None)[0]
    fitted: np.ndarray = (design @ coefficients).reshape(surface.shape)
    return fitted
