"""One page about a language model: results in, Markdown out, the same bytes for the same numbers."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from landscape.escaping import markdown_text
from landscape.results import SHARPNESS_CAUTION, BasinRadii, Faithfulness, Sharpness, Surface, Trajectory
from landscape.results.summary import surface_facts
from landscape.slices.chosen import kind_of
from landscape.studies.kit.tables import bullet_list, image, markdown_table, report_text

__all__ = ["LanguageModelResults", "kinds_of_layers", "language_model_report"]

Planes = Mapping[str, Surface]  # part of the text -> surface


@dataclass(frozen=True, eq=False)
class LanguageModelResults:
    """What was measured around a language model."""

    facts: Mapping[str, str]  # what the reader has to know: model, text, settings
    planes: Mapping[str, Planes]  # name of the plane -> surfaces; the first one is a random plane
    basin: BasinRadii
    layers: Sequence[Sharpness]
    judgement: Faithfulness | None = None  # of the random plane
    paths: Mapping[str, Trajectory] = field(default_factory=dict)  # part of the text -> path of training
    adapters: Mapping[str, tuple[Surface, float]] = field(
        default_factory=dict
    )  # plane -> surface, |dW| / |W| at its end
    figures: Mapping[str, str] = field(default_factory=dict)  # caption -> path, relative to the report


def language_model_report(results: LanguageModelResults) -> str:
    """Figures, numbers, how far to trust them, and what a plane does not show."""
    random = next(iter(results.planes.values()))
    parts = [
        "# The loss around a language model",
        bullet_list(results.facts),
        "## At the model",
        _at_the_model(random),
        "## Planes",
        _planes(results.planes),
        *(["## Training", _path(results.paths)] if results.paths else []),
        "## Basin",
        _basin(results.basin),
        *(["## Sharpness by kind of layer", _layers(results.layers)] if results.layers else []),
        *(["## Adapters", _adapters(results.adapters)] if results.adapters else []),
        "## Figures",
        *(f"{image(caption, link)}\n\n{markdown_text(caption)}." for caption, link in results.figures.items()),
        "## How far to trust this",
        bullet_list(_trust(results, random)),
        "## What a plane does not show",
        bullet_list(_hidden(results, random)),
    ]
    return report_text(parts)


def kinds_of_layers(layers: Sequence[Sharpness]) -> list[str]:
    """The kind of every layer: embedding, attention, mlp, norm, head, or other where its name tells none."""
    return [kind_of(f"{layer.layer}.weight") or "other" for layer in layers]


def _at_the_model(surfaces: Planes) -> str:
    rows = []
    for part, surface in surfaces.items():
        loss, error = float(surface.loss[surface.centre]), float(surface.standard_error[surface.centre])
        accuracy = surface.quantities.get("token_accuracy")
        rows.append(
            [
                part,
                f"{loss:.4f} ± {error:.2g}",
                f"{math.exp(min(loss, 700.0)):.3f}",
                "-" if accuracy is None else f"{accuracy[surface.centre]:.1%}",
            ]
        )
    return markdown_table(["text", "loss, nats a token", "perplexity", "tokens predicted right"], rows)


def _planes(planes: Mapping[str, Planes]) -> str:
    rows = []
    for name, surfaces in planes.items():
        for part, surface in surfaces.items():
            low, high = (f"{end(surface.loss[~surface.nonfinite]):.3f}" for end in (np.min, np.max))
            place = ", ".join(
                f"{axis[k]:.3g}" for axis, k in zip(surface.axes, surface.minimum or surface.centre, strict=True)
            )
            ranges = " x ".join(f"{axis[0]:.3g} to {axis[-1]:.3g}" for axis in surface.axes)
            rows.append([f"{name}, {part}", ranges, f"{surface.loss[surface.centre]:.3f}", f"{low} at ({place})", high])
    return markdown_table(["plane", "range", "at the centre", "lowest on the grid", "highest"], rows)


def _path(paths: Mapping[str, Trajectory]) -> str:
    head = ["step", "off the plane"]
    columns: list[list[str]] = []
    for part, path in paths.items():
        head += [f"loss, {part}", f"of its shadow, {part}"]
        columns += [[f"{value:.3f}" for value in path.loss], [f"{value:.3f}" for value in path.shadow_loss]]
    first = next(iter(paths.values()))
    off = [f"{share:.1%}" for share in first.share_off_plane]
    rows = [[f"{step:,}", *cells] for step, *cells in zip(first.steps, off, *columns, strict=True)]
    note = (
        "The plane goes through the initial, the middle and the last weights, which lie in it. The others lie off it, "
        "by a share of the extent of the path; their shadows are the points of the plane next to them."
    )
    return f"{note}\n\n{markdown_table(head, rows)}"


def _basin(basin: BasinRadii) -> str:
    radii, count = basin.radii, len(basin)
    norms = [norm for norm in basin.metadata.get("relative_norms", []) if norm is not None]
    finite = radii[np.isfinite(radii)]
    spread = (
        f"from {finite.min():.3g} to {finite.max():.3g}, median {np.median(radii):.3g}"
        if finite.size
        else "none reached"
    )
    rows = [
        ["radius within which every direction stays below", f"{basin.radius:.4g} units of the filter norm"],
        ["the same as |dθ| / |θ|", f"{basin.radius * statistics.fmean(norms):.4g}" if norms else "-"],
        ["radii of the single directions", spread],
        ["directions that do not get so high within the range", f"{count - finite.size} of {count}"],
        [
            f"share of all random directions that stay below up to {basin.radius:.4g}",
            f"at least {basin.share_inside(basin.radius):.2%} (one-sided, 95 %)",
        ],
    ]
    text = (
        f"Along {count} random lines the loss was followed on both sides until it had risen by {basin.rise:g} nats a "
        "token."
    )
    return f"{text}\n\n{markdown_table(['basin', 'value'], rows)}"


def _layers(layers: Sequence[Sharpness]) -> str:
    kinds: dict[str, list[Sharpness]] = {}
    for layer, kind in zip(layers, kinds_of_layers(layers), strict=True):
        kinds.setdefault(kind, []).append(layer)
    rows = []
    for kind, members in kinds.items():
        values = [member.value for member in members]
        highest = max(members, key=lambda member: member.value)
        rows.append(
            [
                kind, str(len(members)), f"{statistics.fmean(values):.3g}", f"{min(values):.3g}",
                f"{highest.value:.3g} ± {highest.standard_error or 0:.1g} ({highest.layer})",
            ]
        )  # fmt: skip
    first = layers[0]
    note = (
        f"Average rise of the loss under Gaussian noise in one layer alone, of {first.radius:.0%} of the norm of each "
        f"of its parameters ({first.samples} pairs of draws). {SHARPNESS_CAUTION}"
    )
    table = markdown_table(["kind", "layers", "mean rise", "smallest", "largest"], rows)
    return f"{note}\n\n{table}"


def _adapters(adapters: Mapping[str, tuple[Surface, float]]) -> str:
    rows = [
        [
            name,
            f"{surface.alphas[-1]:.3g}",
            f"{moved:.3g}",
            f"{surface.loss[surface.centre]:.3f}",
            f"{np.max(surface.loss[~surface.nonfinite]):.3f}",
        ]
        for name, (surface, moved) in adapters.items()
    ]
    note = (
        "Both planes go through the same network, with its adapters. A unit is that of the filter norms of what is "
        "moved; |dW| / |W| is how far the weights of the adapted layers themselves move. A plane of adapters that is "
        "flatter at equal units may only move the weights less: the last row compares at equal distance."
    )
    head = ["plane", "end of the axes, units", "|dW| / |W| there", "loss at the model", "highest loss"]
    return f"{markdown_text(note)}\n\n{markdown_table(head, rows)}"


def _trust(results: LanguageModelResults, random: Planes) -> list[str]:
    surfaces = [surface for planes in results.planes.values() for surface in planes.values()]
    checked = [surface.metadata.get("checks") or {} for surface in surfaces]
    deviations = [check.get("largest_relative_deviation") for check in checked]
    known = [deviation for deviation in deviations if deviation is not None]
    errors = ", ".join(
        f"{part} {surface.standard_error[surface.centre] / abs(surface.loss[surface.centre]):.1%}"
        for part, surface in random.items()
    )
    first = next(iter(random.values()))
    lines = [
        f"Standard error of the loss at the model, as a share of it, over sequences: {errors}. Points of one surface "
        "share their sequences, so that differences between them are known better than that.",
        f"Every surface was compared with plain forward passes; the largest relative deviation is {max(known):.1e}."
        if known
        else "",
        f"Points that are not finite: {sum(int(surface.nonfinite.sum()) for surface in surfaces):,} of "
        f"{sum(surface.loss.size for surface in surfaces):,}.",
        f"The bound on the share of directions rests on {len(results.basin)} directions and nothing else: no number of "
        "them shows that there is no bad one, and trained directions are not random.",
        "The versions are " + ", ".join(f"{name} {value}" for name, value in first.metadata["versions"].items()) + "."
        if "versions" in first.metadata
        else "",
    ]
    for name, planes in results.planes.items():
        for part, surface in planes.items():
            if note := surface.metadata.get("interpolation"):
                lines.append(
                    f"{name}, {part}: {note['evaluated_points']:,} of {surface.loss.size:,} points were evaluated, the "
                    f"others are interpolated"
                )
            if rounding := surface_facts(surface).get("rounding"):
                lines.append(f"{name}, {part}: rounding takes {rounding}.")
    return [line for line in lines if line]


def _hidden(results: LanguageModelResults, random: Planes) -> list[str]:
    surface = next(iter(random.values()))
    parameters = (surface.metadata.get("architecture") or {}).get("parameters")
    dimension = f"{parameters:,}" if parameters else "all its"
    lines = [
        f"The network has {dimension} parameters, a plane two directions: what is low on it need not be low around it, "
        "and a valley beside it is not seen.",
        "Random directions show the average curvature. They hardly meet the few directions in which the loss is "
        "steepest, nor those in which it still falls.",
        "A range in units of the filter norm depends on the scale of the weights: networks with other normalisation "
        "layers are not comparable by it.",
    ]
    if results.judgement:
        lines.append(f"Measured for the random plane, on few sequences: {results.judgement.line}.")
    for part, path in results.paths.items():
        off = float(path.share_off_plane.max())
        gap = float(np.nanmax(np.abs(path.loss - path.shadow_loss)))
        lines.append(
            f"Of the path of training, {part}: points lie off the plane by up to {off:.1%} of its extent; the loss of "
            f"the shadow differs from that of the point by up to {gap:.3g}."
        )
    return lines
