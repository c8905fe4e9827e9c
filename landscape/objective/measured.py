"""The results of one forward pass over a batch."""

from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["Measured"]


@dataclass(frozen=True, eq=False)
class Measured:
    """Losses, hits and further quantities of the samples of one batch.

    A quantity is the weighted mean sum_n w_n q_n / sum_n w_n over all N samples. Its values here are scaled by the
    weights, N w_n q_n / sum_n w_n, so that it is their plain mean over all data.
    """

    losses: Tensor  # [batch]
    hits: Tensor | None = None  # [batch] bool, whether the largest output is the target; None without class labels
    quantities: dict[str, Tensor] = field(default_factory=dict)  # [batch] each, by name
