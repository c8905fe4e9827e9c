"""The report of the study: numbers in, Markdown out, the same bytes for the same numbers."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from landscape.escaping import link_target, markdown_text
from landscape.results import SHARPNESS_CAUTION

__all__ = ["WINDOW", "normalization_report", "smoothed_losses", "steps_to_loss"]

WINDOW = 20  # batches whose mean loss counts as the loss of training

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

Network = Mapping[
    str, dict[str, Any]
]  # training, landscape, eigenvalues, trace, density, measures of sharpness, layers
Value = tuple[float | None, float | None, bool]  # value, standard error of its estimate, whether it converged


def smoothed_losses(epochs: Sequence[dict[str, Any]]) -> np.ndarray:
    """Mean training loss of every 20 batches in a row; the first one is that of steps 1 to 20."""
    losses = np.array([loss for epoch in epochs for loss in epoch["batch_losses"]])
    sums = np.cumsum(np.concatenate([[0.0], losses]))
    means: np.ndarray = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    return means


def steps_to_loss(epochs: Sequence[dict[str, Any]], target: float) -> int | None:
    """Training steps after which the mean loss of 20 batches in a row is first at most ``target``; None if never."""
    reached = np.flatnonzero(smoothed_losses(epochs) <= target)
    return WINDOW + int(reached[0]) if reached.size else None


def normalization_report(
    networks: Mapping[str, Sequence[Network]],
    *,
    facts: Mapping[str, str],
    target_loss: float,
    figures: Mapping[str, str],
) -> str:
    """Markdown with tables of all ``networks`` (normalisation -> one entry a seed), and what they rest on.

    Cells hold the mean over seeds and, from two seeds on, plus and minus the standard deviation over them (of a
    sample: division by their number less one). With one seed they hold its value; ± is then the standard error of a
    random estimate, where there is one. An asterisk marks estimates that had not converged.

    Args:
        networks: the results of every network, all normalisations with the same seeds.
        facts: what the reader has to know: data, training, settings; one line each.
        target_loss: training loss that the speed is measured to.
        figures: caption -> path of a figure, relative to the report.
    """
    seeds = len(next(iter(networks.values())))
    spread = (
        f"Mean ± standard deviation over {seeds} seeds."
        if seeds > 1
        else "One seed: nothing here tells how much other seeds would differ. ± is the standard error of a random "
        "estimate on the same network and samples."
    )
    training = {
        "parameters": lambda n: _plain(n["training"]["parameters"]),
        "training loss": lambda n: _plain(n["training"]["epochs"][-1]["train_loss"]),
        "validation loss": lambda n: _plain(n["training"]["epochs"][-1]["validation_loss"]),
        "validation accuracy, %": lambda n: _plain(100 * n["training"]["epochs"][-1]["validation_accuracy"]),
        "test accuracy, %": lambda n: _plain(100 * n["training"]["test_accuracy"]),
        f"steps to loss {target_loss:g}": lambda n: _plain(steps_to_loss(n["training"]["epochs"], target_loss)),
        "seconds an epoch": lambda n: _plain(statistics.fmean(e["seconds"] for e in n["training"]["epochs"])),
    }
    around = {
        "loss at the centre": lambda n: _plain(n["landscape"]["centre_loss"]),
        "largest loss of the plane": lambda n: _plain(n["landscape"]["largest_loss"]),
        "top eigenvalue": lambda n: _top_eigenvalue(n["eigenvalues"]),
        "trace": lambda n: _estimate(n["trace"]),
    }
    sharpness = {
        title: lambda n, measure=measure: _estimate(n[measure]) for measure, title in SHARPNESS_COLUMNS.items()
    }
    parts = [
        "# Seven normalisation layers in one network" if len(networks) == 7 else "# Normalisation layers compared",
        "\n".join(f"- {markdown_text(f'{name}: {text}')}" for name, text in facts.items()),
        f"**{SHARPNESS_CAUTION}**",
        spread + " An asterisk marks a number whose estimate had not converged within its limit of work.",
        "## Training",
        _table(networks, training),
        "The training loss is the running one of the last epoch, with dropout; the seconds are those of a machine that "
        "may have had other work.",
        "## Around the solution",
        _table(networks, around),
        "## Sharpness",
        _table(networks, sharpness),
        _definitions(networks),
        "### Layer by layer",
        _layer_table(networks),
        "## Figures",
        *(_figure(markdown_text(caption), path) for caption, path in figures.items()),
        *_notes(networks),
    ]
    return "\n\n".join(parts) + "\n"


def _figure(caption: str, path: str) -> str:
    return f"![{caption}]({link_target(path)})\n\n{caption}."


def _table(networks: Mapping[str, Sequence[Network]], columns: Mapping[str, Callable[[Network], Value]]) -> str:
    rows = [["norm", *columns], ["---"] * (len(columns) + 1)]
    for norm, runs in networks.items():
        rows.append([markdown_text(norm), *(_cell([column(run) for run in runs]) for column in columns.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _layer_table(networks: Mapping[str, Sequence[Network]]) -> str:
    """Layers with weights of their own in every network: normalisation layers differ."""
    layers = ["conv1", "conv2", "conv3", "fc1", "fc2"]

    def of(layer: str) -> Callable[[Network], Value]:
        def value(network: Network) -> Value:
            found = [entry for entry in network["layers"].get("layers", []) if entry["layer"] == layer]
            return _estimate(found[0]) if found else (None, None, True)

        return value

    note = (
        "Average rise of the loss under Gaussian noise in one layer alone, of a tenth of the norm of each of its "
        "parameters."
    )
    return note + "\n\n" + _table(networks, {layer: of(layer) for layer in layers})


def _cell(values: Sequence[Value]) -> str:
    known = [value for value, _, _ in values if value is not None]
    if not known:
        return "-"
    mark = "" if all(converged for *_, converged in values) else "\\*"
    if len(values) == 1:
        error = values[0][1]
        return _number(known[0]) + (f" ± {error:.2g}" if error is not None else "") + mark
    missing = f" ({len(values) - len(known)} without)" if len(known) < len(values) else ""
    differ = len(set(known)) > 1 and all(map(math.isfinite, known))
    deviation = f" ± {statistics.stdev(known):.2g}" if differ else ""
    return _number(statistics.fmean(known)) + deviation + mark + missing


def _number(value: float) -> str:
    if isinstance(value, int) or (math.isfinite(value) and abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _plain(value: float | None) -> Value:
    return value, None, True


def _estimate(result: dict[str, Any]) -> Value:
    """Value, standard error and convergence; nothing where it could not be had."""
    if "failed" in result:
        return None, None, True
    return result["value"], result["standard_error"], result["converged"] is not False


def _top_eigenvalue(result: dict[str, Any]) -> Value:
    if "failed" in result:
        return None, None, True
    return result["values"][0], None, bool(result["converged"][0])


def _definitions(networks: Mapping[str, Sequence[Network]]) -> str:
    """Definition, radius and source of every measure that any network has."""
    lines = []
    for measure, title in SHARPNESS_COLUMNS.items():
        found = [run[measure] for runs in networks.values() for run in runs if "failed" not in run[measure]]
        if found:
            definition, source = (markdown_text(found[0][key]) for key in ("definition", "source"))
            lines.append(f"- {title}: {definition}; r = {found[0]['radius']:g} ({source}).")
    return "\n".join(lines)


def _notes(networks: Mapping[str, Sequence[Network]]) -> list[str]:
    """What went wrong, and which layers are which."""
    failed = [
        f"- {markdown_text(f'{norm}: {name}: ' + str(result['failed']))}"
        for norm, runs in networks.items()
        for run in runs
        for name, result in run.items()
        if "failed" in result
    ]
    names = "; ".join(f"{norm} = {NAMES[norm]}" for norm in networks)
    return [*(["## Not measured", "\n".join(failed)] if failed else []), f"Layers: {names}."]
