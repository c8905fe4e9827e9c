"""The interface of evaluation methods, and the error of a method that does not fit."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.evaluation.methods.chebyshev import ChebyshevNodes
from landscape.evaluation.statistics import Sums
from landscape.objective.measured import Measured
from landscape.objective.objectives import Objective

__all__ = [
    "Arrangement",
    "Choices",
    "Compiler",
    "Evaluator",
    "NotApplicable",
    "Order",
    "Scores",
    "faster_way",
    "is_out_of_memory",
    "reason_of",
    "stacked",
]

Order = Literal["default", "channels_last", "features_first"]
Compiler = Literal["onednn", "inductor"]
# What torch, Python and a network raise where a pass is run in a way that they do not expect.
FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError)
NONE: Mapping[str, Tensor] = MappingProxyType({})
Self = TypeVar("Self", bound="Evaluator")


class NotApplicable(Exception):
    """An evaluation method, or an arrangement of it, does not fit this network and slice; the message says why."""


@contextlib.contextmanager
def faster_way() -> Iterator[None]:
    """Take a failure inside as a sign that this way of evaluating does not fit, and raise `NotApplicable` from it.

    Input that a person must mend and memory that runs out stay what they are.
    """
    try:
        yield
    except FAILURES as error:
        if isinstance(error, InputError) or is_out_of_memory(error):
            raise
        raise NotApplicable(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that a device, or the processor, has no more memory to give."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)


def reason_of(error: Exception) -> str:
    """The first line of the reason why a faster method is not used."""
    return (str(error).splitlines() or [""])[0]


@dataclass(frozen=True)
class Arrangement:
    """The layout of samples and points in memory and in operations; it changes values by rounding only."""

    batch_size: int  # samples of one forward pass
    order: Order = "default"  # of activations in memory
    together: int = 1  # points of one operation
    compiler: Compiler | None = None  # of the forward pass

    @property
    def is_plain(self) -> bool:
        """Whether points and activations are as in a plain forward pass: one at a time, in order, not compiled."""
        return self.order == "default" and self.together == 1 and self.compiler is None

    def without_compiler(self) -> "Arrangement":
        """The same arrangement of passes that are not compiled."""
        return replace(self, compiler=None)

    def with_batch_size(self, batch_size: int) -> "Arrangement":
        """The same arrangement with other batches."""
        return replace(self, batch_size=batch_size)


@dataclass(frozen=True)
class Choices:
    """The arrangements among which a timing chooses."""

    orders: tuple[Order, ...]  # orders of memory that may pay for this network, the most promising one last
    width: int  # values a sample where the points part
    together: bool  # whether several points may share an operation
    chain_width: int | None  # of the widest layer, where what follows the first moved layer is a `Chain`


class Scores(NamedTuple):
    """What the samples of a batch, or of a part of it, score at K points."""

    losses: Tensor  # [K, n]
    hits: Tensor | None  # [K], number of samples whose top class is the target
    quantities: Mapping[str, Tensor] = NONE  # [K, n] each, by name


def stacked(points: list[Measured]) -> Scores:
    """What was measured of a batch at one point after the other."""
    hits = [point.hits.sum() for point in points if point.hits is not None]
    return Scores(
        torch.stack([point.losses for point in points]),
        torch.stack(hits) if hits else None,
        {name: torch.stack([point.quantities[name] for point in points]) for name in points[0].quantities},
    )


class Evaluator(Protocol):
    """Losses at K points on one batch after the other: `prepare` the points, then `load` and `run` every batch."""

    @property
    def name(self) -> str:
        """The name of the method."""

    @property
    def objective(self) -> Objective:
        """The objective that is evaluated, with the network that is moved."""

    @property
    def is_plain(self) -> bool:
        """Whether this is a forward pass of the whole network at every point: there is no simpler way."""

    @property
    def cheap(self) -> bool:
        """Whether evaluating every point of a grid takes no longer than planning which points are needed."""

    @property
    def arrangement(self) -> Arrangement:
        """The present layout of samples and points."""

    @property
    def batches_fixed(self) -> bool:
        """Whether the batches are part of the objective."""

    @property
    def largest_block(self) -> int:
        """The number of points that `prepare` takes at once."""

    @property
    def settings(self) -> dict[str, Any]:
        """The choices made by timing, for the metadata."""

    def arrange(self, arrangement: Arrangement) -> None:
        """Lay samples and points out as ``arrangement`` says."""

    def choices(self, coordinates: Tensor, plain: bool) -> Choices | None:
        """What may be chosen by timing for points such as ``coordinates``, ``plain`` passes alone or others as well.

        None where there is nothing to choose.
        """

    def node_sets(self, coordinates: Tensor) -> Iterator[ChebyshevNodes]:
        """Fewer points than ``coordinates`` whose sums may determine those there; the fewest first, none at all often.

        Each of them goes to `prepare` of all members of a team, and its sums to `at_points`.
        """

    def prepare(
        self: Self, coordinates: Tensor, nodes: ChebyshevNodes | None = None, leader: Self | None = None
    ) -> None:
        """Get ready for the points ``coordinates`` [K, axes] (float64), or for ``nodes`` over them.

        A twin gets ready with the weights of its ``leader``, which is ready for the same points.
        """

    def load(self, batch: Any) -> None:
        """Take the next batch, and compute what all points share."""

    def run(self) -> Iterator[Scores]:
        """The scores of the loaded batch at the prepared points, piece by piece; pieces may share their memory."""

    def at_points(self, sums: Sums) -> Sums | None:
        """``sums`` at the prepared nodes as sums at the coordinates; None if these need more nodes."""

    def twin(self: Self) -> Self:
        """The same evaluator with a network of its own, for another thread."""
