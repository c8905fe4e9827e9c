"""How many samples and which tolerance a given time pays for, with both errors of one size."""

import math
import time
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.evaluation.engine import evaluate
from landscape.evaluation.grid import grid_axes
from landscape.objective.objectives import Objective
from landscape.results import Surface
from landscape.runtime import ranks
from landscape.slices.planes import Slice

__all__ = ["plan_budget"]

PILOT = 256  # samples of the first small grids, at the most
SMALL = 0.1  # of the time, which they take at the most
SECOND = 0.5  # of the samples that these let expect: those of the last small grid
TRIAL = 0.05  # of the samples that this lets expect: those of a trial of the whole grid
LONGEST = 0.2  # of the time, which that takes at the most
ROUGHER = 2  # times the points that the final samples take, about: few samples are rougher than many
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
) -> dict[str, Any]:
    """Subset size and tolerance such that `evaluate` takes about ``seconds``.

    A forward pass, small grids on few samples, then one on more give the seconds of a sample at a point, t, and the
    coefficient of variation c of the losses. With n = SHARE seconds / (P t) samples at P points the standard error is
    c / sqrt(n) of the loss; that is also the tolerance, so that neither error is paid for more dearly than the other.
    P is that of smooth surfaces, or more where a trial on a twentieth of the samples tells that the loss is rough.

    Args:
        objective: on all samples.
        slice_: a plane, or a line.
        seconds: for everything, this plan included.
        seed: draws the subset.
        alpha_range, beta_range, resolution: the grid, as in `evaluate`.

    Returns:
        {"samples", "tolerance", "relative_standard_error", "seconds" (left for `evaluate`)}.

    Raises:
        InputError: the time is not enough for ``FEWEST`` samples, or the loss has no standard error.
    """
    if not objective.independent or objective.size < 2:
        raise InputError("a budget needs the standard error of a mean over samples; give a tolerance")
    began = time.perf_counter()
    grid: dict[str, Any] = {"alpha_range": alpha_range, "beta_range": beta_range}
    points = min(POINTS, math.prod(map(len, grid_axes(slice_.dimension, resolution=resolution, **grid))))

    def look(samples: int, resolution: Any, **options: Any) -> tuple[Surface, float]:
        part, options = objective.subset(samples, seed), {"progress": False, **grid, **options}
        surface = evaluate(part, slice_, resolution=resolution, **options)
        # One rank decides: the others have other clocks.
        return surface, ranks.from_first(lambda: surface.metadata["seconds"])

    def left() -> float:
        return ranks.from_first(lambda: seconds - (time.perf_counter() - began))

    def affordable(each: float, fixed: float = 0.0) -> int:
        samples = max(0, int((SHARE * left() - fixed) / (points * each)))
        if samples < FEWEST:
            need = (FEWEST * points * each + fixed) / SHARE + seconds - left()
            raise InputError(f"a budget of {seconds:g} s is too short here; about {math.ceil(need)} s are needed")
        return samples

    def tolerance(samples: int) -> float:
        return float(f"{np.clip(variation / math.sqrt(samples), FINEST, COARSEST):.2g}")

    few = objective.subset(FEWEST, seed)
    each = ranks.from_first(lambda: min(_seconds(few, slice_) for _ in range(2))) / few.size  # at the most
    looks = 2 * 3**slice_.dimension + 5**slice_.dimension
    if FEWEST * looks * each > left():
        affordable(each)
    pilot = max(FEWEST, min(PILOT, int(SMALL * left() / (looks * each))))
    small, large = (3,) * slice_.dimension, (5,) * slice_.dimension
    look(pilot, small)  # slow, as the first one is
    (coarse, short), (surface, long) = look(pilot, small), look(pilot, large)
    size = surface.metadata["data"]["size"]
    variation = _variation(surface, size)
    each = max((long - short) / (surface.loss.size - coarse.loss.size), 0.2 * long / surface.loss.size) / size
    if (more := min(objective.size, int(SECOND * affordable(each, short)))) > 2 * size:
        surface, longer = look(more, large)
        each = max((longer - long) / (more - size), 0.2 * longer / more) / surface.loss.size
        variation = _variation(surface, more)
    samples = min(objective.size, affordable(each, short))
    if (trial := int(TRIAL * samples)) >= FEWEST and surface.metadata["method"] != "affine":  # which takes all points
        tried, _ = look(trial, resolution, tolerance=tolerance(samples), budget=LONGEST * seconds)
        if tried.evaluated is not None:
            points = max(points, int(tried.evaluated.sum()) // ROUGHER)
        samples = min(objective.size, affordable(each, short))
    return {
        "samples": samples,
        "tolerance": tolerance(samples),
        "relative_standard_error": variation / math.sqrt(samples),
        "seconds": left(),
    }


def _variation(surface: Surface, samples: int) -> float:
    """Standard deviation of the losses of single samples, as a share of their mean."""
    return float(np.nanmedian(surface.standard_error / np.abs(surface.loss)) * math.sqrt(samples))


def _seconds(objective: Objective, slice_: Slice) -> float:
    """How long a plain forward pass over all samples takes."""
    began = time.perf_counter()
    objective(slice_.origin)
    return time.perf_counter() - began
