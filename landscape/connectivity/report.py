"""A report on the connectivity of two networks: barriers before and after alignment, and along a trained curve."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from landscape.connectivity.alignment import Alignment, Method, align
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
    """Barriers between two networks a and b on several paths."""

    barriers: dict[str, Barrier]  # path -> barrier: "unaligned" first, then "aligned by <method>", "<kind> curve"
    alignments: dict[str, Alignment]  # method -> b permuted to match a
    curve: Curve | None  # from a to b without alignment; None if it was not requested

    @property
    def facts(self) -> dict[str, str]:
        return {f"barrier {name}": value_text(entry.value) for name, entry in self.barriers.items()}

    def draw(self, ax: "Axes") -> None:
        from landscape.plotting import plot_barriers  # here, because results are used without matplotlib as well

        plot_barriers(self.barriers, ax)


def connectivity(
    objective: Objective,
    a: nn.Module,
    b: nn.Module,
    *,
    methods: Sequence[Method] = ("weights", "activations"),
    curve: CurveForm | None = None,
    definition: Definition = "entezari",
    resolution: int = 25,
    seed: int = 0,
    progress: bool = True,
    parameters: str | Sequence[str] | None = None,
    **training: Any,
) -> Connectivity:
    """The barriers between ``a`` and ``b`` on the line, on the line after `align`, and on a curve of `fit_curve`.

    The barrier without alignment is always included, as a control.

    Args:
        objective: The loss, with the samples on which activations are compared and curves are trained.
        a: A network.
        b: Another network of the same architecture.
        methods: Methods of `align`: "weights", "activations", both or none.
        curve: Kind of curve for `fit_curve`, "bezier" or "polygon"; None for no curve.
        definition: Definition of a barrier, "entezari" or "frankle", see `Barrier`.
        resolution: Number of points of every path, as in `barrier`.
        seed: Seed of the alignments and of the training of the curve.
        progress: Show progress bars.
        parameters: Parameters that are permuted and moved, as in `align`, `barrier` and `fit_curve`; by default all.
        training: Further options of `fit_curve`.

    Raises:
        InputError: `barrier`, `align` or `fit_curve` refuses its arguments.
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
    """A text table of ``barriers``, one row for each."""
    head = ("", "first loss", "second loss", "barrier", "at", "above larger end", "accuracy barrier")
    rows = [head, *((one_line(name), *_cells(entry)) for name, entry in barriers.items())]
    return text_table(rows)


def _cells(entry: Barrier) -> tuple[str, ...]:
    *numbers, accuracy = entry.numbers.values()
    return *(f"{value:.4g}" for value in numbers), "-" if accuracy is None else f"{accuracy:.2%}"
