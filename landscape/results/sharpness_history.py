"""Sharpness along a training run."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from landscape.presenting import range_text, sample_text, value_text
from landscape.results.archive import Archived
from landscape.storage.arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SharpnessHistory"]


@dataclass(frozen=True, eq=False, repr=False)
class SharpnessHistory(Archived):
    """Measures of sharpness at some steps of a training run, beside the sharpness 2 / lr that its learning rate bears.

    Step t is the one from theta_t to theta_{t+1}, so that the steps are those of the points of a `TrajectoryRecorder`.
    What was not measured is NaN.
    """

    called = "history of sharpness"
    forms: ClassVar = {
        "steps": Array("T", kinds="iu", increasing=True),
        "lr": Array("T", low=0),
        "loss": Array("T"),
        "critical": Array("T", low=0),
        "batch": Array("T"),
        "batch_error": Array("T", low=0),
        "preconditioned": Array("T"),
        "threshold": Array("T", low=0),
    }

    steps: np.ndarray  # [T] int64, number of the step of the optimizer, counted from 0
    lr: np.ndarray  # [T] float64, learning rate of the step
    loss: np.ndarray  # [T] float64, mean loss before the step
    critical: np.ndarray  # [T] float64, 2 / (smallest learning rate with which this update raises the loss)
    batch: np.ndarray  # [T] float64, mean of g^T H g / |g|^2 over mini-batches
    batch_error: np.ndarray  # [T] float64, its standard error
    preconditioned: np.ndarray  # [T] float64, largest eigenvalue of P^-1 H
    threshold: np.ndarray  # [T] float64, above which the optimizer is unstable in that eigenvector
    metadata: dict[str, Any]  # measures, optimizer, settings, data, objective; JSON types only

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def edge(self) -> np.ndarray:
        """[T] float64, 2 / lr."""
        with np.errstate(divide="ignore"):
            return np.asarray(2 / self.lr)

    @property
    def facts(self) -> dict[str, str]:
        last = (
            {name: value_text(getattr(self, name)[-1]) for name in self.metadata.get("measures", ())}
            if len(self)
            else {}
        )
        return {
            "optimizer": str(self.metadata.get("optimizer") or ""),
            "steps": f"{self.steps[0]} to {self.steps[-1]}" if len(self) else "none",
            **{f"last {name}": text for name, text in last.items()},
            "2 / lr": range_text(self.edge) if len(self) else "",
            "loss": range_text(self.loss) if len(self) else "",
            "of": sample_text(self.metadata),
        }

    def draw(self, ax: "Axes") -> None:
        from landscape.plotting import plot_sharpness  # only here: results are used without pictures

        plot_sharpness(self, ax)
