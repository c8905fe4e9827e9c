"""The results of one forward pass over a batch."""

from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["Measured"]


@dataclass(frozen=True, eq=False)
class Measured:
    """Losses, hits and further quantities of the samples of one batch.

    Quantities are scaled by the weights of the samples so that their plain mean over all data is the quantity.
    """

    losses: Tensor  # [batch]
    hits: Tensor | None = None  # [batch] bool, whether the largest output is the target; None without class labels
    quantities: dict[str, Tensor] = field(default_factory=dict)  # [batch] each, by name
