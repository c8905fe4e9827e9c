"""Measures of sharpness with their error bars."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from landscape.errors import InputError
from landscape.plotting.rows import plot_rows
from landscape.results import Sharpness

__all__ = ["plot_sharpness"]


def plot_sharpness(
    results: Sequence[Sharpness], ax: Axes | None = None, *, labels: Sequence[str] | None = None
) -> Axes:
    """One row a label, one point a result with its value and, where it is random, plus and minus one standard error.

    ``labels`` default to the layers, or the measures with their radius; results of equal label share a row, such as
    those of several seeds. The scale is that of `plot_rows`.

    Raises:
        InputError: no results, or labels of another number.
    """
    labels = labels or [result.layer or _name(result) for result in results]
    if not results or len(labels) != len(results):
        raise InputError(f"plot_sharpness got {len(results)} results, {len(labels)} labels; give one each")
    names = {_name(result) for result in results}
    percent = {result.measure for result in results} == {"keskar"}
    return plot_rows(
        [(label, result.value, result.standard_error) for label, result in zip(labels, results, strict=True)],
        ax,
        x_label="rise of 1 + loss (%)" if percent else "rise of the loss",
        title=names.pop() if len(names) == 1 else "sharpness",
    )


def _name(result: Sharpness) -> str:
    return f"{result.measure}, r = {result.radius:g}"
