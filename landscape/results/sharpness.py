"""Sharpness: the rise of the loss around a point."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from landscape.presenting import Pictured, sample_text, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SHARPNESS_CAUTION", "Sharpness"]

SHARPNESS_CAUTION = "Caution: sharpness alone does not predict generalisation (Andriushchenko et al. 2023)."


@dataclass(frozen=True, repr=False)
class Sharpness(Pictured):
    """One measure of sharpness at one point theta, for the loss L on the samples that were used."""

    measure: str  # a key of landscape.sharpness.MEASURES
    value: float  # in units of the loss ("keskar": in per cent); not finite if a loss nearby is not
    standard_error: float | None  # standard error of a mean over random draws; None if the measure is a maximum
    converged: bool | None  # whether the search for a maximum had converged; None if there is no search
    radius: float  # size of the neighbourhood, see the definition
    definition: str  # definition of the measure, in one line
    source: str  # paper and section
    loss: float  # L(theta)
    losses: tuple[float, ...]  # L near theta: the mean of each pair of draws, or the maximum from each start
    samples: int | None  # number of pairs of draws, or of starts; None for a single step
    steps: int | None  # largest number of steps of a search; None if there is no search
    seed: int  # seed of the draws or starts
    layer: str | None = None  # the only layer that is perturbed; None for all layers
    metadata: dict[str, Any] = field(default_factory=dict)  # data, objective; JSON types only

    @property
    def facts(self) -> dict[str, str]:
        searched = "" if self.converged is None else ("yes" if self.converged else "no")
        return {
            self.measure: value_text(self.value, self.standard_error),
            "radius": value_text(self.radius),
            "loss": value_text(self.loss),
            "samples": "" if self.samples is None else f"{self.samples:,}",
            "converged": searched,
            "layer": self.layer or "",
            "of": sample_text(self.metadata),
        }

    def draw(self, ax: "Axes") -> None:
        from landscape.plotting import plot_sharpness  # here, because results are used without matplotlib as well

        plot_sharpness([self], ax)

    @property
    def record(self) -> dict[str, Any]:
        """All fields as JSON types; ``Sharpness(**record)`` is the same result."""
        return {**asdict(self), "losses": list(self.losses)}

    def __post_init__(self) -> None:
        object.__setattr__(self, "losses", tuple(self.losses))  # JSON records hold a list
