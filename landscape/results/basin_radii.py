"""The basin around a point: the loss along many random directions, and how far one can go in most of them."""

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

    The radius along a line is the smallest distance |t|, on either side, at which L(t) reaches L(0) + ``rise``. Of two
    neighbouring points of the grid that lie below and above, it is interpolated linearly in t^2, which is exact for a
    quadratic loss with its minimum at 0. A loss that is not finite counts as risen from the point before it on.
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
    rise: float  # above the loss at the point, in units of the loss
    seed: int  # line k is drawn from seed + k
    metadata: dict[str, Any]  # recipe of the lines, relative_norms [D], data, objective, versions; JSON types only

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def reach(self) -> float:
        """How far from the point the loss is known on both sides of every line."""
        return float(min(-self.alphas[0], self.alphas[-1]))

    @property
    def radii(self) -> np.ndarray:
        """[D] float64, the radius along every line; infinite where the loss does not rise that much."""
        right, left = self.alphas >= 0, self.alphas <= 0
        sides = [(self.alphas[right], self.loss[:, right]), (-self.alphas[left][::-1], self.loss[:, left][:, ::-1])]
        nearest: np.ndarray = np.min(
            [[_radius(t, line - line[0], self.rise) for line in loss] for t, loss in sides], axis=0
        )
        return nearest

    @property
    def radius(self) -> float:
        """The largest radius within which every one of the D lines stays below L(0) + rise."""
        return float(min(self.radii.min(), self.reach))

    def inside(self, radius: float) -> int:
        """How many of the D lines stay below L(0) + rise up to ``radius``.

        Raises:
            InputError: the loss is not known so far out.
        """
        if not 0 <= radius <= self.reach:
            raise InputError(f"radius is {radius:g}; the loss is known from 0 to {self.reach:g}")
        return int((self.radii >= radius).sum())

    def share_inside(self, radius: float, confidence: float = 0.95) -> float:
        """A lower bound of the share of all random directions that stay below L(0) + rise up to ``radius``.

        It holds with ``confidence``, see `share_bound`, for a radius that is chosen beforehand, and also for one of
        the ``radii``: their order statistics have the same bound (Wilks 1941, "Determination of Sample Sizes for
        Setting Tolerance Limits").
        """
        return share_bound(self.inside(radius), len(self), confidence)

    def first(self, count: int) -> "BasinRadii":
        """The first ``count`` lines."""
        norms = self.metadata["relative_norms"][:count]
        rows = {name: getattr(self, name)[:count] for name in ("loss", "standard_error")}
        return replace(self, metadata={**self.metadata, "relative_norms": norms}, **rows)

    @property
    def lines(self) -> list[Surface]:
        """The lines as surfaces of one axis."""
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
        from landscape.plotting import plot_basin_radii  # only here: results are used without pictures

        plot_basin_radii(self, ax)

    def mismatch(self) -> str | None:
        if not len(self.loss):
            return "there is no line"
        return None if (self.alphas == 0).any() else "the point itself, 0, is not among the coordinates"


def share_bound(inside: int, total: int, confidence: float = 0.95) -> float:
    """The one-sided lower bound of Clopper and Pearson for a share of which ``inside`` of ``total`` draws are.

    It is the p at which so many, or more, would come about with probability 1 - confidence: the quantile
    B(1 - confidence; k, n - k + 1) of a beta distribution; (1 - confidence)^(1/n) for k = n, and 0 for k = 0.
    Source: Clopper and Pearson 1934, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the
    Binomial".

    Example:
        >>> f"{share_bound(100, 100):.4f}"
        '0.9705'

    Raises:
        InputError: more draws inside than there are, or a confidence that is none.
    """
    if not 0 <= inside <= total or total < 1:
        raise InputError(f"{inside} of {total} draws: give at least one draw, and from none to all of them inside")
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; it must be between 0 and 1")
    if not inside:
        return 0.0
    from scipy.special import betaincinv  # only here: results are read without scipy

    return float(betaincinv(inside, total - inside + 1, 1 - confidence))


def _radius(distance: np.ndarray, rise: np.ndarray, level: float) -> float:
    """Where ``rise`` [K], at ``distance`` [K] from 0 on, first reaches ``level``; infinite where it does not."""
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
