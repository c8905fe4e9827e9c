"""What one forward pass tells of a batch."""

from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["Measured"]


@dataclass(frozen=True, eq=False)
class Measured:
    """Losses, hits and further quantities of the samples of one batch.

    Quantities are scaled so that their plain mean over all data is the quantity, also where samples weigh differently.
    """

    losses: Tensor  # [batch]
    hits: Tensor | None = None  # [batch] of bool, whether the top class is the target; None where there are no classes
    quantities: dict[str, Tensor] = field(default_factory=dict)  # [batch] each, by name
