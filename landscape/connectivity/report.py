"""Everything about the way between two networks, the unaligned control always among it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from landscape.connectivity.alignment import Alignment, align
from landscape.connectivity.barriers import barrier
from landscape.connectivity.curves import fit_curve
from landscape.escaping import one_line
from landscape.evaluation import evaluate
from landscape.objective.objectives import Objective, check_objective
from landscape.presenting import Pictured, text_table, value_text
from landscape.results import Barrier
from landscape.results.barrier import Definition, check_definition
from landscape.slices.curves import Curve, CurveForm, check_form

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Connectivity", "barrier_table", "connectivity"]


@dataclass(frozen=True, eq=False, repr=False)
class Connectivity(Pictured):
    """Barriers between two networks a and b, by the way that is taken."""

    barriers: dict[str, Barrier]  # "unaligned" first, then "aligned by <method>", "<kind> curve"
    alignments: dict[str, Alignment]  # method -> b permuted to match a
    curve: Curve | None  # from a to b, not aligned; None if none was asked for

    @property
    def facts(self) -> dict[str, str]:
        return {f"barrier {name}": value_text(entry.value) for name, entry in self.barriers.items()}

    def draw(self, ax: "Axes") -> None:
        from landscape.plotting import plot_barriers  # only here: this is used without pictures

        plot_barriers(self.barriers, ax)


def connectivity(
    objective: Objective,
    a: nn.Module,
    b: nn.Module,
    *,
    methods: Sequence[Literal["weights", "activations"]] = ("weights", "activations"),
    curve: CurveForm | None = None,
    definition: Definition = "entezari",
    resolution: int = 25,
    seed: int = 0,
    progress: bool = True,
    parameters: str | Sequence[str] | None = None,
    **training: Any,
) -> Connectivity:
    """The barrier between ``a`` and ``b``: on the line, on the line after `align`, and on a curve of `fit_curve`.

    Args:
        objective: gives the loss, and the samples that activations are compared on and curves trained on.
        a: a network.
        b: another one of the same architecture.
        methods: of `align`: "weights", "activations", both or none.
        curve: kind of `fit_curve`, "bezier" or "polygon", or None for no curve.
        definition: of a barrier, "entezari" or "frankle", see `Barrier`.
        resolution: points of every way, as in `barrier`.
        seed: of the alignment and of the training of the curve.
        progress: show progress bars.
        parameters: those that are permuted and moved, as in `align`, `barrier` and `fit_curve`; all by default.
        training: more options of `fit_curve`.

    Raises:
        InputError: as `barrier`, `align` and `fit_curve` do.
    """
    check_definition(definition)
    check_objective(objective, "connectivity(objective, a, b)")
    if curve is not None:
        check_form(curve)
    options: dict[str, Any] = {"resolution": resolution, "progress": progress}
    alignments: dict[str, Alignment] = {
        method: align(a, b, method=method, data=objective, seed=seed, parameters=parameters) for method in methods
    }

    def between(other: nn.Module) -> Barrier:
        return barrier(objective, a, other, definition=definition, parameters=parameters, **options)

    barriers = {"unaligned": between(b)}
    barriers |= {f"aligned by {method}": between(aligned.model) for method, aligned in alignments.items()}
    fitted = None
    if curve is not None:
        fitted = fit_curve(
            objective, a, b, kind=curve, seed=seed, progress=progress, parameters=parameters, **training
        )  # fmt: skip
        barriers[f"{curve} curve"] = Barrier.of(evaluate(objective, fitted, alpha_range=(0, 1), **options), definition)
    return Connectivity(barriers, alignments, fitted)


def barrier_table(barriers: dict[str, Barrier]) -> str:
    """Barriers as a text table, one row for each."""
    head = ("", "first loss", "second loss", "barrier", "at", "above larger end", "accuracy barrier")
    rows = [head, *((one_line(name), *_cells(entry)) for name, entry in barriers.items())]
    return text_table(rows)


def _cells(entry: Barrier) -> tuple[str, ...]:
    *numbers, accuracy = entry.numbers.values()
    return *(f"{value:.4g}" for value in numbers), "-" if accuracy is None else f"{accuracy:.2%}"
