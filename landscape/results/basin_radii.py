"""The basin around a point: the loss along many random lines, and the radius within which it stays low."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from landscape.errors import InputError
from landscape.presenting import sample_text, value_text
from landscape.results.archive import Archived
from landscape.results.surface import Surface
from landscape.storage.arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BasinRadii", "share_bound"]


@dataclass(frozen=True, eq=False, repr=False)
class BasinRadii(Archived):
    """The loss L(t) along D random lines through one point, and the radius at which it has risen along each.

    The radius along a line is the smallest distance |t|, on either side, at which L(t) reaches L(0) + ``rise``. Between
    the last grid point below that level and the first one above it, L is interpolated linearly in t^2, which is exact
    for a quadratic loss with its minimum at 0. If the loss is not finite at a grid point, the radius ends at the point
    before it.
    """

    called = "basin"
    forms: ClassVar = {
        "alphas": Array("A", finite=True, increasing=True),
        "loss": Array("D A"),
        "standard_error": Array("D A", low=0),
        "rise": Array("", finite=True, low=0),
        "seed": Array("", kinds="iu", low=0),
    }

    alphas: np.ndarray  # [A] float64, coordinates along every line, increasing, 0 among them
    loss: np.ndarray  # [D, A] float64, mean loss; loss[k, i] is at alphas[i] on line k
    standard_error: np.ndarray  # [D, A] float64, standard error of the mean over samples; NaN if unknown
    rise: float  # rise of the loss above L(0) at which the basin ends, in units of the loss
    seed: int  # line k is drawn from the seed + k
    metadata: dict[str, Any]  # recipe of the lines, relative_norms [D], data, objective, versions; JSON types only

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def reach(self) -> float:
        """The largest distance up to which the loss is known on both sides of every line."""
        return float(min(-self.alphas[0], self.alphas[-1]))

    @property
    def radii(self) -> np.ndarray:
        """The radius along every line, [D] float64; infinite if the loss does not rise that much."""
        right, left = self.alphas >= 0, self.alphas <= 0
        sides = [(self.alphas[right], self.loss[:, right]), (-self.alphas[left][::-1], self.loss[:, left][:, ::-1])]
        nearest: np.ndarray = np.min(
            [[_radius(t, line - line[0], self.rise) for line in loss] for t, loss in sides], axis=0
        )
        return nearest

    @property
    def radius(self) -> float:
        """The largest radius up to which the loss stays below L(0) + ``rise`` on all D lines."""
        return float(min(self.radii.min(), self.reach))

    def inside(self, radius: float) -> int:
        """The number of the D lines on which the loss stays below L(0) + ``rise`` up to ``radius``.

        Raises:
            InputError: The radius is negative or larger than the `reach`.
        """
        if not 0 <= radius <= self.reach:
            raise InputError(f"radius is {radius:g}; the loss is known from 0 to {self.reach:g}")
        return int((self.radii >= radius).sum())

    def share_inside(self, radius: float, confidence: float = 0.95) -> float:
        """A lower bound of the share of all random directions in which the loss stays low up to ``radius``.

        Low means below L(0) + ``rise``. The bound holds with probability ``confidence``, see `share_bound`, for a
        radius that is chosen beforehand, and also for one of the ``radii``, because their order statistics have the
        same bound (Wilks 1941, "Determination of Sample Sizes for Setting Tolerance Limits").

        Raises:
            InputError: The radius or the confidence is out of range.
        """
        return share_bound(self.inside(radius), len(self), confidence)

    def first(self, count: int) -> "BasinRadii":
        """The result for the first ``count`` lines only."""
        norms = self.metadata["relative_norms"][:count]
        rows = {name: getattr(self, name)[:count] for name in ("loss", "standard_error")}
        return replace(self, metadata={**self.metadata, "relative_norms": norms}, **rows)

    @property
    def lines(self) -> list[Surface]:
        """The loss along each line, as surfaces with one axis."""
        recipe, norms = self.metadata.get("slice") or {}, self.metadata.get("relative_norms") or [None] * len(self)
        return [
            Surface(
                self.alphas, None, self.loss[k], self.standard_error[k], None, None,
                {**self.metadata, "slice": {**recipe, "seed": self.seed + k}, "relative_norms": [norms[k]]},
            )
            for k in range(len(self))
        ]  # fmt: skip

    @property
    def facts(self) -> dict[str, str]:
        return {
            "directions": f"{len(self):,}",
            "radius": value_text(self.radius),
            "rise": value_text(self.rise),
            "directions that stay inside": f"at least {self.share_inside(self.radius):.2%} (with 95 %)",
            "loss": value_text(float(self.loss[0, self.alphas.searchsorted(0)])),
            "of": sample_text(self.metadata),
        }

    def draw(self, ax: "Axes") -> None:
        from landscape.plotting import plot_basin_radii  # here, because results are used without matplotlib as well

        plot_basin_radii(self, ax)

    def mismatch(self) -> str | None:
        if not len(self.loss):
            return "there is no line"
        return None if (self.alphas == 0).any() else "the point itself, 0, is not among the coordinates"


def share_bound(inside: int, total: int, confidence: float = 0.95) -> float:
    """A lower confidence bound of a probability, if ``inside`` of ``total`` independent draws were successes.

    It is the one-sided bound of Clopper and Pearson: the p at which k = ``inside`` or more successes in n = ``total``
    draws have probability 1 - ``confidence``. This is the quantile B(1 - confidence; k, n - k + 1) of a beta
    distribution, which is (1 - confidence)^(1/n) for k = n and 0 for k = 0. Source: Clopper and Pearson 1934, "The Use
    of Confidence or Fiducial Limits Illustrated in the Case of the Binomial".

    Example:
        >>> f"{share_bound(100, 100):.4f}"
        '0.9705'

    Raises:
        InputError: ``inside`` is not between 0 and ``total``, ``total`` is below 1, or ``confidence`` is not between 0
            and 1.
    """
    if not 0 <= inside <= total or total < 1:
        raise InputError(f"{inside} of {total} draws are inside; there must be a draw, and at most all can be inside")
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; it must be between 0 and 1")
    if not inside:
        return 0.0
    from scipy.special import betaincinv  # here, because results are used without scipy as well

    return float(betaincinv(inside, total - inside + 1, 1 - confidence))


def _radius(distance: np.ndarray, rise: np.ndarray, level: float) -> float:
    """The distance at which ``rise`` [K], known at ``distance`` [K], first reaches ``level``; infinite if never."""
    with np.errstate(invalid="ignore"):
        risen = ~(rise < level)
    if not risen.any():
        return float("inf")
    k = int(risen.argmax())
    if k == 0 or not np.isfinite(rise[k]):
        return float(distance[max(0, k - 1)])
    near, far = distance[k - 1] ** 2, distance[k] ** 2
    share = (level - rise[k - 1]) / (rise[k] - rise[k - 1])
    return float(np.sqrt(near + share * (far - near)))
