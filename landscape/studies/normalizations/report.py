"""The report of the study in Markdown, which has the same bytes for the same numbers."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from landscape.escaping import markdown_text
from landscape.results import SHARPNESS_CAUTION
from landscape.studies.kit.statistics import Spread, number, with_error
from landscape.studies.kit.tables import bullet_list, image, markdown_table, report_text, section

__all__ = ["WINDOW", "normalization_report", "smoothed_losses", "steps_to_loss", "unmeasured"]

MARK = "†"  # marks estimates that had not converged
WINDOW = 20  # number of batches over which the training loss is averaged

NAMES = {
    "batch": "BatchNorm",
    "layer": "layer: GroupNorm with one group",
    "group": "GroupNorm with 8 groups",
    "rms": "RMSNorm over the channels of every position",
    "dyt": "dynamic tanh",
    "piecewise": "learnable piecewise-linear squashing",
    "none": "no normalisation",
}
SHARPNESS_COLUMNS = {
    "keskar": "keskar, %",
    "sam": "one step (SAM)",
    "ascent": "ascent in a ball",
    "gaussian": "Gaussian noise",
    "adaptive-sam": "adaptive step (ASAM)",
    "adaptive-ascent": "adaptive ascent",
    "adaptive-gaussian": "adaptive noise",
}

# The results of one network: training, landscape, eigenvalues, trace, density, measures of sharpness, layers.
Network = Mapping[str, dict[str, Any]]
Value = tuple[float | None, float | None, bool]  # value, standard error of its estimate, whether it converged
Columns = Mapping[str, Callable[[Network], Value]]


def smoothed_losses(epochs: Sequence[dict[str, Any]]) -> np.ndarray:
    """The moving average of the training loss over `WINDOW` successive batches; the first one ends at step `WINDOW`."""
    losses = np.array([loss for epoch in epochs for loss in epoch["batch_losses"]])
    sums = np.cumsum(np.concatenate([[0.0], losses]))
    means: np.ndarray = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    return means


def steps_to_loss(epochs: Sequence[dict[str, Any]], target: float) -> int | None:
    """The number of steps after which the mean loss of `WINDOW` successive batches is first at most ``target``.

    None if it never is.
    """
    reached = np.flatnonzero(smoothed_losses(epochs) <= target)
    return WINDOW + int(reached[0]) if reached.size else None


def unmeasured(networks: Mapping[str, Sequence[Network]]) -> list[str]:
    """A line for each result that could not be measured, with the normalisation and the reason."""
    return [
        f"{name} of {norm}: {result['failed']}"
        for norm, runs in networks.items()
        for run in runs
        for name, result in run.items()
        if "failed" in result
    ]


def normalization_report(
    networks: Mapping[str, Sequence[Network]],
    *,
    facts: Mapping[str, str],
    target_loss: float,
    figures: Mapping[str, str],
) -> str:
    """The report of the study as Markdown text.

    With several seeds, cells of tables hold the mean ± the sample standard deviation over seeds (with divisor n - 1).
    With one seed they hold its value, ± the standard error if the value is a random estimate. A dagger marks estimates
    that had not converged.

    Args:
        networks: Normalisation -> results of one network for each seed, with the same seeds for all normalisations.
        facts: Name -> one line about data, training or settings.
        target_loss: Training loss that defines the training speed, see `steps_to_loss`.
        figures: Caption -> path of a figure, relative to the report.
    """
    seeds = len(next(iter(networks.values())))
    spread = (
        f"Mean ± standard deviation over {seeds} seeds."
        if seeds > 1
        else "There is one seed only, so the variation between seeds is unknown. ± is the standard error of a random "
        "estimate on the same network and samples."
    )
    names = "; ".join(f"{norm} = {NAMES[norm]}" for norm in networks)
    parts = [
        "# Seven normalisation layers in one network" if len(networks) == 7 else "# Normalisation layers compared",
        bullet_list(facts),
        f"**{SHARPNESS_CAUTION}**",
        f"{spread} {MARK} marks a number whose estimate had not converged when its budget of work was used up.",
        "## Training",
        _table(networks, _training(target_loss)),
        "The training loss is the running average of the last epoch, with dropout. The seconds were measured on a "
        "machine that may have had other work to do.",
        "## Around the solution",
        _table(networks, AROUND),
        "## Sharpness",
        _table(networks, SHARPNESS),
        _definitions(networks),
        "### Layer by layer",
        _layer_table(networks),
        "## Figures",
        *(f"{image(caption, path)}\n\n{markdown_text(caption)}." for caption, path in figures.items()),
        section("Not measured", unmeasured(networks)),
        f"Layers: {names}.",
    ]
    return report_text(parts)


def _table(networks: Mapping[str, Sequence[Network]], columns: Columns) -> str:
    rows = [
        [norm, *(_cell([column(run) for run in runs]) for column in columns.values())]
        for norm, runs in networks.items()
    ]
    return markdown_table(["norm", *columns], rows)


def _layer_table(networks: Mapping[str, Sequence[Network]]) -> str:
    """The sharpness of the layers that all networks have, that is, without the normalisation layers."""
    layers = ["conv1", "conv2", "conv3", "fc1", "fc2"]

    def of(layer: str) -> Callable[[Network], Value]:
        def value(network: Network) -> Value:
            entries = [entry for entry in network["layers"].get("layers", []) if entry["layer"] == layer]
            return _estimate(entries[0]) if entries else (None, None, True)

        return value

    note = (
        "Average rise of the loss under Gaussian noise in one layer alone. The noise has a tenth of the norm of each "
        "parameter of the layer."
    )
    return note + "\n\n" + _table(networks, {layer: of(layer) for layer in layers})


def _cell(values: Sequence[Value]) -> str:
    numbers = [value for value, _, _ in values]
    spread = Spread.of(numbers)
    text = str(spread)
    if len(values) == 1 and spread.values:
        error = values[0][1]
        text = with_error(spread.mean, math.nan if error is None else error)
    elif isinstance(numbers[0], int) and len(set(numbers)) == 1:  # a count that all networks share
        text = number(numbers[0])
    return text + ("" if all(converged for *_, converged in values) else MARK)


def _plain(value: float | None) -> Value:
    return value, None, True


def _estimate(result: dict[str, Any]) -> Value:
    """Value, standard error and convergence of a ``result``; no value if it could not be measured."""
    if "failed" in result:
        return None, None, True
    return result["value"], result["standard_error"], result["converged"] is not False


def _top_eigenvalue(result: dict[str, Any]) -> Value:
    if "failed" in result:
        return None, None, True
    return result["values"][0], None, bool(result["converged"][0])


def _training(target_loss: float) -> Columns:
    """The columns of the table of training."""

    def last(quantity: str, factor: int = 1) -> Callable[[Network], Value]:
        return lambda network: _plain(factor * network["training"]["epochs"][-1][quantity])

    return {
        "parameters": lambda n: _plain(n["training"]["parameters"]),
        "training loss": last("train_loss"),
        "validation loss": last("validation_loss"),
        "validation accuracy, %": last("validation_accuracy", 100),
        "test accuracy, %": lambda n: _plain(100 * n["training"]["test_accuracy"]),
        f"steps to loss {target_loss:g}": lambda n: _plain(steps_to_loss(n["training"]["epochs"], target_loss)),
        "seconds an epoch": lambda n: _plain(statistics.fmean(e["seconds"] for e in n["training"]["epochs"])),
    }


def _definitions(networks: Mapping[str, Sequence[Network]]) -> str:
    """Definition, radius and source of each measure of sharpness that was measured for some network."""
    lines = {}
    for measure, title in SHARPNESS_COLUMNS.items():
        results = [run[measure] for runs in networks.values() for run in runs if "failed" not in run[measure]]
        if results:
            one = results[0]
            lines[title] = f"{one['definition']}; r = {one['radius']:g} ({one['source']})."
    return bullet_list(lines)


AROUND: Columns = {
    "loss at the centre": lambda n: _plain(n["landscape"]["centre_loss"]),
    "largest loss of the plane": lambda n: _plain(n["landscape"]["largest_loss"]),
    "top eigenvalue": lambda n: _top_eigenvalue(n["eigenvalues"]),
    "trace": lambda n: _estimate(n["trace"]),
}
SHARPNESS: Columns = {
    title: lambda n, measure=measure: _estimate(n[measure])  # type: ignore[misc]
    for measure, title in SHARPNESS_COLUMNS.items()
}
