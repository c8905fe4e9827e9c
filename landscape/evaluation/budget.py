"""How many samples and which tolerance a given time pays for, with both errors of one size."""

import math
import time

import numpy as np

from landscape import ranks
from landscape.errors import InputError
from landscape.evaluation.evaluate import evaluate
from landscape.evaluation.grid import grid_axes
from landscape.objective import Objective
from landscape.results import Surface
from landscape.slices import Slice

__all__ = ["plan_budget"]

PILOT = 256  # samples of the first look
SECOND = 0.5  # of the samples that the first look lets expect: those of the second look
POINTS = 200  # that a smooth surface takes at the tolerance that comes out: lattice, some rounds, verification
SHARE = 0.95  # of the time that is planned for
FINEST, COARSEST = 0.003, 0.1  # tolerances
FEWEST = 32  # samples


def plan_budget(
    objective: Objective,
    slice_: Slice,
    seconds: float,
    seed: int = 0,
    *,
    alpha_range: tuple[float, float] = (-1, 1),
    beta_range: tuple[float, float] = (-1, 1),
    resolution: int | tuple[int, int] = 51,
) -> dict:
    """Subset size and tolerance such that `evaluate` takes about ``seconds``.

    Small grids on few samples, then on more, give the seconds of a sample at a point, t, and the coefficient of
    variation c of the losses. With n = SHARE seconds / (POINTS t) samples the standard error is c / sqrt(n) of the
    loss; that is also the tolerance, so that neither error is paid for more dearly than the other.

    Args:
        objective: on all samples.
        slice_: a plane, or a line.
        seconds: for everything, this plan included.
        seed: draws the subset.
        alpha_range, beta_range, resolution: the grid, as in `evaluate`.

    Returns:
        {"samples", "tolerance", "relative_standard_error", "seconds" (left for `evaluate`)}.

    Raises:
        InputError: the time is not enough for ``FEWEST`` samples.
    """
    began = time.perf_counter()
    points = min(POINTS, math.prod(map(len, grid_axes(slice_, alpha_range, beta_range, resolution))))
    options = {"alpha_range": alpha_range, "beta_range": beta_range, "progress": False}

    def look(samples: int, count: int) -> tuple[Surface, float]:
        surface = evaluate(objective.subset(samples, seed), slice_, resolution=(count,) * slice_.dimension, **options)
        # One rank decides: the others have other clocks.
        return surface, ranks.from_first(lambda: surface.metadata["seconds"])

    def affordable() -> int:
        return max(0, int((SHARE * left() - short) / (points * each)))

    def left() -> float:
        return ranks.from_first(lambda: seconds - (time.perf_counter() - began))

    look(PILOT, 3)  # slow, as the first one is
    (small, short), (surface, long) = look(PILOT, 3), look(PILOT, 5)
    size = surface.metadata["data"]["size"]
    each = max((long - short) / (surface.loss.size - small.loss.size), 0.2 * long / surface.loss.size) / size
    if (more := min(objective.size, int(SECOND * affordable()))) > 2 * size:
        surface, longer = look(more, 5)
        each = max((longer - long) / (more - size), 0.2 * longer / more) / surface.loss.size
        size = more
    if affordable() < FEWEST:
        need = (FEWEST * points * each + short) / SHARE + seconds - left()
        raise InputError(f"a budget of {seconds:g} s is too short here; about {math.ceil(need)} s are needed")
    samples = min(objective.size, affordable())
    variation = np.nanmedian(surface.standard_error / np.abs(surface.loss)) * math.sqrt(size)
    error = float(variation / math.sqrt(samples))
    return {
        "samples": samples,
        "tolerance": float(f"{min(max(error, FINEST), COARSEST):.2g}"),
        "relative_standard_error": error,
        "seconds": left(),
    }
