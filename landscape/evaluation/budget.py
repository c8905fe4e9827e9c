"""How many samples and which tolerance a given time pays for, with both errors of one size."""

import math
import time

import numpy as np

from landscape.errors import InputError
from landscape.evaluation.evaluate import evaluate
from landscape.objective import Objective
from landscape.slices import Slice

__all__ = ["plan_budget"]

PILOT = 256  # samples of the first look
POINTS = 260  # that a smooth surface takes at the tolerance that comes out: lattice, some rounds, verification
SHARE = 0.8  # of the time that is planned for
FINEST, COARSEST = 0.003, 0.1  # tolerances
FEWEST = 32  # samples


def plan_budget(objective: Objective, slice_: Slice, seconds: float, seed: int = 0, **grid) -> dict:
    """Subset size and tolerance such that `evaluate` takes about ``seconds``.

    Two small grids on a few samples give the seconds of a sample at a point, t, and the coefficient of variation c of
    the losses. With n = SHARE seconds / (POINTS t) samples the standard error is c / sqrt(n) of the loss; that is
    also the tolerance, so that neither error is paid for more dearly than the other.

    Args:
        objective: on all samples.
        slice_: a plane, or a line.
        seconds: for everything, this plan included.
        seed: draws the subset.
        grid: alpha_range, beta_range and resolution as in `evaluate`.

    Returns:
        {"samples", "tolerance", "relative_standard_error", "seconds" (left for `evaluate`), "asked_seconds"}.

    Raises:
        InputError: the time is not enough for ``FEWEST`` samples.
    """
    began = time.perf_counter()
    pilot = objective.subset(PILOT, seed)
    taken, options = [], {**grid, "progress": False}
    for points in (3, 5):
        options["resolution"] = (points,) * slice_.dimension
        surface = evaluate(pilot, slice_, **options)
        taken.append((surface.loss.size, surface.metadata["seconds"]))
    (few, short), (many, long) = taken
    each = max((long - short) / (many - few), 0.2 * long / many) / pilot.size
    left = seconds - (time.perf_counter() - began)
    affordable = int((SHARE * left - short) / (POINTS * each)) if left > short else 0
    if affordable < FEWEST:
        need = (FEWEST * POINTS * each + short) / SHARE + seconds - left
        raise InputError(f"a budget of {seconds:g} s is too short here; about {math.ceil(need)} s are needed")
    samples = min(objective.size, affordable)
    variation = np.nanmedian(surface.standard_error / np.abs(surface.loss)) * math.sqrt(pilot.size)
    error = float(variation / math.sqrt(samples))
    return {
        "samples": samples,
        "tolerance": float(f"{min(max(error, FINEST), COARSEST):.2g}"),
        "relative_standard_error": error,
        "seconds": left,
        "asked_seconds": seconds,
    }
