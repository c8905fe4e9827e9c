"""The finished points of an evaluation: in memory, in the resume file, and exchanged between ranks."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from landscape.evaluation.resume import load_progress, save_progress
from landscape.evaluation.statistics import Statistics, Sums
from landscape.objective.objectives import Objective
from landscape.runtime import ranks

__all__ = ["Ledger"]


class Ledger:
    """Sums over samples at those of the points ``coordinates`` [P, axes] (float64) that are finished.

    If ``resume`` names a file, finished points are read from it, and `save` writes them to it.
    """

    def __init__(
        self, coordinates: Tensor, objective: Objective, per_sample: bool, identity: dict[str, Any], resume: Path | None
    ):
        self.coordinates, self.identity, self.path = coordinates, identity, resume
        self.statistics = Statistics(
            len(coordinates),
            objective.size,
            per_sample=per_sample,
            dtype=objective.dtype,
            names=objective.quantity_names,
        )
        if resume and (arrays := ranks.from_first(lambda: load_progress(resume, identity, self.statistics))):
            self.statistics.restore(arrays)
        self.resumed = self.finished

    @property
    def finished(self) -> int:
        """The number of finished points."""
        return int(self.statistics.finished.sum())

    @property
    def keeps_losses(self) -> bool:
        """Whether the losses of single samples are stored."""
        return self.statistics.per_sample is not None

    @property
    def centre(self) -> Tensor:
        """Indices of the points at the origin of the slice: one, or none."""
        return (self.coordinates == 0).all(1).nonzero().flatten()

    def pending(self, points: Tensor) -> Tensor:
        """The indices among ``points`` whose points are not finished."""
        return points[~self.statistics.finished[points]]

    def values(self, points: np.ndarray) -> np.ndarray:
        """Mean loss and, if they are stored, the losses of all samples at ``points`` [K]: [K, 1] or [K, 1 + N]."""
        return self.statistics.values(points)

    def keep(self, block: Tensor, start: int, losses: Tensor) -> None:
        """Store the ``losses`` [K, n] of the samples from ``start`` on, if losses of single samples are stored."""
        self.statistics.keep(block, start, losses)

    def finish(self, block: Tensor, sums: Sums, constant: Tensor | None = None) -> None:
        """Store the sums over all samples at the points ``block`` [K], with a ``constant`` [K] added to every loss."""
        self.statistics.finish(block, sums, constant)

    def exchange(self, mine: Tensor) -> None:
        """Send the points ``mine``, which this rank has finished, to the other ranks, and receive theirs."""
        for share, arrays in ranks.gathered((mine, self.statistics.arrays(mine))):
            self.statistics.restore(arrays, share)

    def save(self) -> None:
        """Write all finished points to the resume file, if there is one; only the first rank writes."""
        if self.path and ranks.is_first_rank():
            save_progress(self.path, self.identity, self.statistics)
