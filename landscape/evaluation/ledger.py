"""The one place that owns the finished points of an evaluation: in memory, on disk, and of all ranks."""

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
    """Sums over samples at the points ``coordinates`` [P, axes] (float64), as far as they are finished.

    With ``resume`` finished points are read from that file, and `save` keeps them there.
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
        """How many points are finished."""
        return int(self.statistics.done.sum())

    @property
    def keeps_losses(self) -> bool:
        """Whether the losses of all samples are kept."""
        return self.statistics.per_sample is not None

    @property
    def centre(self) -> Tensor:
        """The points at the origin of the slice: one, or none."""
        return (self.coordinates == 0).all(1).nonzero().flatten()

    def pending(self, points: Tensor) -> Tensor:
        """Those of ``points`` that are not finished."""
        return points[~self.statistics.done[points]]

    def values(self, points: np.ndarray) -> np.ndarray:
        """Mean loss and, where they are kept, the losses of all samples, [K, 1] or [K, 1 + N]."""
        return self.statistics.values(points)

    def keep(self, block: Tensor, start: int, losses: Tensor) -> None:
        """Keep ``losses`` [K, n] of the samples from ``start`` on, where every loss was asked for."""
        self.statistics.keep(block, start, losses)

    def finish(self, block: Tensor, sums: Sums, constant: Tensor | None = None) -> None:
        """Take the sums over all samples at the points ``block``, with a ``constant`` [K] added to every loss."""
        self.statistics.finish(block, sums, constant)

    def exchange(self, mine: Tensor) -> None:
        """Tell the other ranks of the points ``mine``, which this rank has finished, and take theirs."""
        if ranks.count() > 1:  # alone there is nothing to copy
            for share, arrays in ranks.gathered((mine, self.statistics.arrays(mine))):
                self.statistics.restore(arrays, share)

    def save(self) -> None:
        """Write all finished points to the resume file, where there is one."""
        if self.path and ranks.is_first_rank():
            save_progress(self.path, self.identity, self.statistics)
