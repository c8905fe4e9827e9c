"""Measures of sharpness with their error bars."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from typing_extensions import Unpack

from landscape.checks import check_texts, check_type
from landscape.errors import InputError
from landscape.plotting.captions import common_title
from landscape.plotting.looks import ValueLook, look_of
from landscape.plotting.rows import draw_rows
from landscape.plotting.sharpness_history import draw_history
from landscape.results import Sharpness, SharpnessHistory

__all__ = ["plot_sharpness"]


def plot_sharpness(
    results: Sequence[Sharpness] | SharpnessHistory,
    ax: Axes | None = None,
    *,
    labels: Sequence[str] | None = None,
    **look: Unpack[ValueLook],
) -> Axes:
    """Draw one point for each result, with an error bar of one standard error if the measure is random.

    The history of a `SharpnessRecorder` is drawn over the steps of training instead, with 2 / lr.

    ``labels`` default to the names of the layers, or of the measures with their radius. Results of equal label, such
    as those of several seeds, share a row. The axis is that of `plot_rows`. The ``look`` has
    ``title``, ``vmin`` and ``vmax``, see `ValueLook`.

    Raises:
        InputError: there are no results, or the number of labels differs from theirs.
    """
    check_type(
        results, Sequence | SharpnessHistory, "plot_sharpness(results)", "results of ll.sharpness, in a sequence"
    )
    shown = look_of("plot_sharpness", ValueLook, look)
    if isinstance(results, SharpnessHistory):
        return draw_history(results, ax, shown)
    for result in results:
        check_type(result, Sharpness, "plot_sharpness(results)", "results of ll.sharpness")
    check_texts("labels", labels)
    labels = labels or [result.layer or _name(result) for result in results]
    if not results or len(labels) != len(results):
        raise InputError(f"plot_sharpness got {len(results)} results, {len(labels)} labels; pass one label per result")
    names = {_name(result) for result in results}
    percent = {result.measure for result in results} == {"keskar"}
    bars = any(result.standard_error is not None for result in results)
    return draw_rows(
        [(label, result.value, result.standard_error) for label, result in zip(labels, results, strict=True)],
        ax,
        x_label=("rise of 1 + loss (%)" if percent else "rise of the loss") + ", ± standard error" * bars,
        title="\n".join(filter(None, [common_title(results), names.pop() if len(names) == 1 else "sharpness"])),
        look=shown,
    )


def _name(result: Sharpness) -> str:
    return f"{result.measure}, r = {result.radius:g}"
