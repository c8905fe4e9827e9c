"""An estimate of the local learning coefficient, with the chains that it comes from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from landscape.presenting import sample_text, value_text
from landscape.results.archive import Archived
from landscape.storage.arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LearningCoefficient"]


@dataclass(frozen=True, eq=False, repr=False)
class LearningCoefficient(Archived):
    """lambda = n b (E L(w) - L(w*)), the mean over the chains of draws w of the localised, tempered posterior.

    In a ball around w* the volume of the points whose loss is within e of L(w*) shrinks like e^lambda (up to powers of
    log e): d / 2 where d parameters are all determined, less where some are not.
    """

    called = "learning coefficient"
    forms: ClassVar = {
        "losses": Array("C T"),
        "acceptance": Array("C", low=0, high=1),
        "step_sizes": Array("C", low=0),
        "loss": Array("", finite=True),
        "size": Array("", kinds="iu", low=2),
        "inverse_temperature": Array("", finite=True, low=0),
        "localization": Array("", finite=True, low=0),
    }

    losses: (
        np.ndarray
    )  # [C, T] float64, mean loss of each draw of each chain, after the burn-in; of its mini-batch, if any
    acceptance: np.ndarray  # [C] float64, share of accepted proposals after the burn-in; NaN without a Metropolis test
    step_sizes: np.ndarray  # [C] float64, variance of the noise of a step of each chain
    loss: float  # L(w*), over all samples
    size: int  # n, number of samples
    inverse_temperature: float  # b; the posterior is proportional to exp(-n b L(w) - localization |w - w*|^2 / 2)
    localization: float
    metadata: dict[str, Any]  # settings, data, objective, versions; JSON types only

    @property
    def values(self) -> np.ndarray:
        """[C] float64, the estimate of each chain."""
        return np.asarray(self.size * self.inverse_temperature * (self.losses.mean(1) - self.loss))

    @property
    def value(self) -> float:
        """The estimate."""
        return float(self.values.mean())

    @property
    def standard_error(self) -> float:
        """The standard error of ``value``, from the spread of the chains."""
        return float(self.values.std(ddof=1) / np.sqrt(len(self.values)))

    @property
    def r_hat(self) -> float:
        """How much wider all halves of chains spread together than single ones; above 1.1 they have not mixed.

        The chains start at the same point, so a region that none of them has visited does not count. Source: Gelman et
        al. 2013, "Bayesian Data Analysis", third edition, section 11.4.
        """
        half = self.losses.shape[1] // 2
        halves = np.concatenate([self.losses[:, :half], self.losses[:, half : 2 * half]])
        within = halves.var(1, ddof=1).mean()
        between = halves.mean(1).var(ddof=1)
        return float(np.sqrt((half - 1) / half + between / within)) if within else float("nan")

    @property
    def below(self) -> float:
        """Share of the draws whose loss is below L(w*): large where w* is no minimum."""
        return float((self.losses < self.loss).mean())

    @property
    def facts(self) -> dict[str, str]:
        chains, draws = self.losses.shape
        return {
            "value": value_text(self.value, self.standard_error),
            "chains": f"{chains} of {draws:,} draws",
            "R-hat": f"{self.r_hat:.3f}, of chains that all start at the network",
            "accepted": f"{self.acceptance.mean():.0%}" if np.isfinite(self.acceptance).all() else "",
            "draws below the loss of the network": f"{self.below:.0%}",
            "loss": value_text(self.loss),
            "of": sample_text(self.metadata),
        }

    def draw(self, ax: "Axes") -> None:
        from landscape.plotting.learning_coefficient import draw_chains  # only here: used without pictures

        draw_chains(self, ax)

    def mismatch(self) -> str | None:
        chains, draws = self.losses.shape
        return None if chains > 1 and draws > 3 else f"{chains} chains of {draws} draws are too few"
