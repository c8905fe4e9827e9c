"""Barriers: the rise of the loss between two networks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from landscape.checks import check_choice
from landscape.errors import InputError
from landscape.presenting import Pictured, sample_text, value_text
from landscape.results.surface import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Barrier", "Definition", "check_definition"]


Definition = Literal["entezari", "frankle"]  # definitions of the base of a barrier


@dataclass(frozen=True, eq=False, repr=False)
class Barrier(Pictured):
    """The barrier max_t L(t) - B(t) of the loss L on a path from one network (t = 0) to another (t = 1).

    The maximum is taken over the grid points of the path. There are two definitions of the base B(t):

    - "entezari": the straight line B(t) = (1 - t) L(0) + t L(1). Entezari et al. 2022, "The Role of Permutation
      Invariance in Linear Mode Connectivity of Neural Networks", definition 2.1. The barrier is zero if L is convex.
    - "frankle": the mean of the ends, B = (L(0) + L(1)) / 2. Frankle et al. 2020, "Linear Mode Connectivity and the
      Lottery Ticket Hypothesis", section 2. The barrier is at least half the difference of the ends.

    Both agree if the ends have the same loss. The barrier is NaN or infinite if a loss on the path is.
    """

    value: float  # max_t L(t) - B(t), at least 0
    at: float  # the t of this maximum
    above_larger_end: float  # max_t L(t) - max(L(0), L(1)), at least 0
    accuracy: float | None  # max_t B(t) - A(t) with the accuracy A instead of L, at least 0; None if unknown
    surface: Surface  # the loss on the path
    definition: str = "entezari"  # definition of the base

    @classmethod
    def of(cls, surface: Surface, definition: Definition = "entezari") -> "Barrier":
        """The barrier on the line or curve over which ``surface`` was evaluated.

        Raises:
            InputError: The surface is a plane or does not run from 0 to 1, or the definition is unknown.
        """
        check_definition(definition)
        if surface.betas is not None or not np.allclose(surface.alphas[[0, -1]], (0, 1), rtol=0, atol=1e-12):
            raise InputError("a barrier needs a line or curve from 0 to 1; evaluate it with alpha_range=(0, 1)")
        above_base = DEFINITIONS[definition]
        rise = above_base(surface.alphas, surface.loss)
        highest = int(np.argmax(rise))  # the first NaN, if there is one
        accuracy = None if surface.accuracy is None else float(above_base(surface.alphas, -surface.accuracy).max())
        above = float(surface.loss.max() - surface.loss[[0, -1]].max())
        return cls(float(rise[highest]), float(surface.alphas[highest]), above, accuracy, surface, definition)

    @property
    def facts(self) -> dict[str, str]:
        first, last = self.surface.loss[[0, -1]]
        return {
            "value": value_text(self.value),
            "at": value_text(self.at),
            "above the larger end": value_text(self.above_larger_end),
            "losses of the ends": f"{first:.4g} and {last:.4g}",
            "in accuracy": "" if self.accuracy is None else value_text(self.accuracy),
            "definition": self.definition,
            "of": sample_text(self.surface.metadata),
        }

    def draw(self, ax: "Axes") -> None:
        from landscape.plotting import plot_barriers  # here, because results are used without matplotlib as well

        plot_barriers({"loss on the path": self}, ax)

    @property
    def numbers(self) -> dict[str, Any]:
        """The losses of both ends and the barrier, as plain numbers."""
        first, second = (float(self.surface.loss[end]) for end in (0, -1))
        names = ("value", "at", "above_larger_end", "accuracy")
        return {"first_loss": first, "second_loss": second, **{name: getattr(self, name) for name in names}}


def check_definition(definition: str) -> None:
    """Raise InputError if the ``definition`` of a barrier is unknown."""
    check_choice("definition", definition, DEFINITIONS)


def _above_chord(t: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``values`` minus the straight line between the first and the last of them."""
    with np.errstate(invalid="ignore"):  # the ends may be infinite
        rise: np.ndarray = values - ((1 - t) * values[0] + t * values[-1])
        rise[[0, -1]] = values[[0, -1]] - values[[0, -1]]  # exactly zero, or NaN if not finite
    return rise


def _above_mean(_: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``values`` minus the mean of the first and the last of them."""
    with np.errstate(invalid="ignore"):
        rise: np.ndarray = values - (values[0] + values[-1]) / 2
    return rise


DEFINITIONS = {"entezari": _above_chord, "frankle": _above_mean}
