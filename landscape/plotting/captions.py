"""Titles, labels and notes from the metadata of results; parts whose metadata are missing are left out."""

import math
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Protocol

import numpy as np

from landscape.plotting.values import grid_index
from landscape.results import BasinHistory, Surface, Trajectory
from landscape.results.axes import SliceAxes

__all__ = [
    "LENGTHS",
    "axis_labels",
    "brief",
    "common_labels",
    "common_title",
    "count_text",
    "marked_models",
    "numbers_text",
    "off_plane_note",
    "origin_name",
    "quantity_label",
    "relative_norm",
    "relative_norms",
    "shared_label",
    "small_paths_note",
    "title_of",
]

LOSS_NAMES = {
    "cross_entropy": "cross-entropy",
    "mse": "mean squared error",
    "language_model": "cross-entropy a token",
}
LENGTHS = "|d|/|θ|: the length of one unit relative to that of the weights"
BRIEF = {
    r"smoothed for display \(Gaussian, (σ = .*?) grid steps\)": r"smoothed (\1)",
    r"forward passes in ": "in ",
    r", the others within ": ", others within ",
    r"standard error of the loss": "standard error",
}
DOT = 0.03  # share of an axis; the markers of a smaller path hide it


class Described(Protocol):
    """A result with metadata on how it was computed."""

    @property
    def metadata(self) -> dict[str, Any]: ...


def title_of(result: Described, quantity: str = "loss") -> str:
    """The title in the metadata, or one of checkpoint, data, samples and, where the ``quantity`` is of it, the loss."""
    return common_title([result], quantity)


def common_title(surfaces: Sequence[Described], quantity: str = "loss") -> str:
    """The parts that the titles of all ``surfaces`` have in common; networks without BatchNorm fit any policy."""
    titles = {str(surface.metadata.get("title") or "") for surface in surfaces}
    if len(titles) == 1 and any(titles):
        return titles.pop()
    *parts, batch_norm, precision = (set(parts) for parts in zip(*map(_title_parts, surfaces), strict=True))
    if quantity not in ("loss", "standard_error"):
        del parts[-1]  # the name of the loss
    title = ", ".join(part for values in parts if len(values) == 1 for part in values if part)
    policies = batch_norm - {""}
    where = ", where there is any" if "" in batch_norm else ""
    notes = [f"BatchNorm{where}: {policies.pop()}"] if len(policies) == 1 else []
    notes += _chosen_note(surfaces)
    notes += [f"forward passes in {' or '.join(sorted(precision))}"] if precision != {"full"} else []
    if smoothed := {surface.metadata.get("smoothed") for surface in surfaces} - {None}:
        notes += [f"smoothed for display (Gaussian, σ = {' or '.join(f'{sigma:g}' for sigma in smoothed)} grid steps)"]
    notes += sorted({str(surface.metadata["colors"]) for surface in surfaces if surface.metadata.get("colors")})
    return "\n".join(
        filter(
            None,
            [
                title,
                ", ".join(notes),
                _faithfulness_note(surfaces),
                _interpolation_note([surface for surface in surfaces if isinstance(surface, Surface)]),
            ],
        )
    )


def brief(title: str) -> str:
    """A title for little room: its first line, and all its notes in one further line and in fewer words."""
    first, *notes = title.split("\n")
    text = ", ".join(notes)
    for words, fewer in BRIEF.items():
        text = re.sub(words, fewer, text)
    return "\n".join(filter(None, [first, text]))


def _chosen_note(surfaces: Sequence[Described]) -> list[str]:
    """The parameters that alone were moved, where all ``surfaces`` chose the same."""
    chosen = {tuple(_section(surface, "slice").get("parameters") or ()) for surface in surfaces}
    parameters = chosen.pop() if len(chosen) == 1 else ()
    return [f"only {', '.join(map(str, parameters))} moved"] if parameters else []


def _faithfulness_note(surfaces: Sequence[Described]) -> str:
    """What the plane of a single surface leaves out."""
    surface = surfaces[0] if len(surfaces) == 1 else None
    return surface.faithfulness.caption if isinstance(surface, Surface) and surface.faithfulness else ""


def _interpolation_note(surfaces: Sequence[Surface]) -> str:
    """The number of evaluated points, the interpolation error of the others, and the standard error of the loss."""
    entries = [surface.metadata.get("interpolation") or {} for surface in surfaces]
    if not any(entry.get("method") for entry in entries):
        return ""
    sizes = [surface.loss.size for surface in surfaces]
    evaluated = sum(entry.get("evaluated_points", size) for entry, size in zip(entries, sizes, strict=True))
    total, error = sum(sizes), max(entry.get("error_bound", 0) for entry in entries)
    evaluated_text = f"{evaluated:,} of {total:,} points evaluated, the others within {_share(error)}"
    return f"{evaluated_text}\n{_sampling_note(surfaces)}"


def _sampling_note(surfaces: Sequence[Surface]) -> str:
    """The median of standard error / loss over all points, as text."""
    shares = [
        surface.standard_error / np.where(surface.loss == 0, np.nan, np.abs(surface.loss)) for surface in surfaces
    ]
    known = np.concatenate([values[np.isfinite(values)] for values in shares])
    return (
        f"standard error of the loss {_share(float(np.median(known)))} (median)"
        if known.size
        else "standard error of the loss not known"
    )


def _share(value: float) -> str:
    """``value`` in per cent with one decimal; "less than 0.1%" where that would be 0.0 for a positive value."""
    return "less than 0.1%" if 0 < value < 0.0005 else f"{value:.1%}"


def _title_parts(surface: Described) -> tuple[str, str, str, str, str, str]:
    """Checkpoint, data, number of samples, loss and BatchNorm policy, empty if unknown, and the precision."""
    data, objective = _section(surface, "data"), _section(surface, "objective")
    name = str(data.get("name") or "")
    if name.startswith("folder:"):
        name = PurePath(name).name  # the whole path is in the metadata
    size = data.get("size")
    samples = f"{size:,} sample{'' if size == 1 else 's'}" if isinstance(size, int) else ""
    if data.get("sample") is not None:
        samples = f"sample {data['sample']} alone"
    split = " ".join(filter(None, [name, str(data.get("split") or "")]))
    batch_norm, precision = str(objective.get("batch_norm") or ""), str(objective.get("precision", "full"))
    return _checkpoint_name(surface), split, samples, _loss_name(surface), batch_norm, precision


def _checkpoint_name(surface: Described) -> str:
    """Folder and name of the checkpoint file (every run has an epoch_000.pth), or else the name of the network."""
    path = PurePath(str(surface.metadata.get("checkpoint_file") or ""))
    if not path.name:
        return str(surface.metadata.get("network") or "")
    return "/".join(part for part in path.with_suffix("").parts[-2:] if part != path.anchor)


def axis_labels(surface: Surface | BasinHistory, separator: str = ", ", lengths: bool = True) -> list[str]:
    """The labels of the axes: coordinate, unit and, if known, the relative length of the direction."""
    labels = []
    for k, name in enumerate("αβ"[: len(surface.axes)]):
        unit, length = _unit(surface, k), relative_norm(surface, k) if lengths else ""
        labels.append(separator.join(filter(None, [f"{name} ({unit})" if unit else name, length])))
    return labels


def common_labels(surfaces: Sequence[Surface]) -> list[str] | None:
    """Axis labels that hold for all ``surfaces``, without the lengths if these differ; None if the units differ."""
    for lengths in (True, False):
        labels = [axis_labels(surface, lengths=lengths) for surface in surfaces]
        if all(label == labels[0] for label in labels):
            return labels[0]
    return None


def shared_label(surface: Surface) -> str:
    units = dict.fromkeys(unit for k in range(2) if (unit := _unit(surface, k)))
    return f"α, β ({', '.join(units)})" if units else "α, β"


def quantity_label(surfaces: Surface | Sequence[Surface], quantity: str, log_scale: bool, note: str = "") -> str:
    """The quantity with the name of the loss, if all ``surfaces`` share one, and the scale; below it a ``note``."""
    losses = {_loss_name(surface) for surface in ([surfaces] if isinstance(surfaces, Surface) else surfaces)}
    notes = [losses.pop() if quantity == "loss" and len(losses) == 1 else "", "log scale" if log_scale else ""]
    known = ", ".join(part for part in notes if part)
    return "\n".join(filter(None, [quantity.replace("_", " ") + (f" ({known})" if known else ""), note]))


def numbers_text(surface: Surface, values: np.ndarray) -> str:
    """The value at the centre and the range of the finite ``values``, with enough digits to distinguish its ends."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "no finite value"
    low, high = finite.min(), finite.max()
    spread = (high - low) / max(abs(low), abs(high), 1e-300)
    digits = min(9, 2 - math.floor(math.log10(spread))) if spread > 0 else 3
    low, high = (f"{value:.{max(3, digits)}g}" for value in (low, high))
    text = f"range {low} to {high}".replace(" ", "\N{NO-BREAK SPACE}")
    if all(axis[0] <= 0 <= axis[-1] for axis in surface.axes):
        on_grid = all(grid_index(axis) is not None for axis in surface.axes)
        centre = values[surface.centre]
        number = f"{centre:.{max(3, digits)}g}" if math.isfinite(centre) else "not finite"
        text = f"{'centre' if on_grid else 'near the centre'} {number}, {text}"
    return text.replace("-", "−")  # the minus sign of the ticks


def relative_norm(surface: Described, k: int) -> str:
    return _norms_text([_norm(surface, k)])


def relative_norms(surface: Surface) -> str:
    """The relative lengths of all directions; empty unless all are known."""
    return _norms_text([_norm(surface, k) for k in range(len(surface.axes))])


def origin_name(surface: Surface) -> str:
    """The name of the model at the origin, with the epoch of its checkpoint if that is known."""
    epoch = _section(surface, "checkpoint").get("epoch")
    if models := _axes(surface).models:
        return models[0]
    return f"model at epoch {epoch:g}" if isinstance(epoch, int | float) else "model"


def off_plane_note(trajectories: Sequence[Trajectory]) -> str:
    """The largest distance of a point of the paths from the plane; three points or fewer always lie on it."""
    points = sum(len(path.steps) for path in trajectories)
    share = max(float(path.share_off_plane.max()) for path in trajectories)
    if points <= 3 and share < 1e-6:  # rounding
        return f"{points} points always lie on one plane"
    return f"off the plane by up to {_share(share)} of the path's extent"


def small_paths_note(surface: Surface, trajectories: Sequence[Trajectory]) -> str:
    """A note on paths that are so small on the plane that their markers hide them."""
    extents = [
        max(np.ptp(values) / np.ptp(axis) for values, axis in zip(path.coordinates.T, surface.axes, strict=True))
        for path in trajectories
    ]
    small = sum(extent < DOT for extent in extents)
    if not small:
        return ""
    which = "the path spans" if len(extents) == 1 else f"{small} of {len(extents)} paths span"
    return f"{which} less than {DOT:.0%} of the plane and look{'s' * (len(extents) == 1)} like a dot"


def marked_models(surface: Surface) -> dict[float, str]:
    """The models on a line, as coordinate -> name."""
    others = _axes(surface).models[1:]
    return {0.0: origin_name(surface)} | ({1.0: others[0]} if others else {})


def count_text(count: int, total: int) -> str:
    return f"NaN or infinite ({count:,} of {total:,} points)"


def _norm(surface: Described, k: int) -> float | None:
    """|d| / |θ| of direction ``k``; None if it is unknown, or between models, where coordinates are fractions."""
    norms = surface.metadata.get("relative_norms")
    if _axes(surface).between_models or not isinstance(norms, list | tuple) or len(norms) <= k:
        return None
    return norms[k] if isinstance(norms[k], int | float) and math.isfinite(norms[k]) else None


def _norms_text(norms: list[float | None]) -> str:
    return "" if None in norms else f"|d|/|θ| = {', '.join(f'{norm:.3g}' for norm in norms)}"


def _unit(surface: Described, k: int) -> str:
    units = _axes(surface).units
    return units[k] if k < len(units) else ""


def _axes(surface: Described) -> SliceAxes:
    return SliceAxes.read(_section(surface, "slice"))


def _loss_name(surface: Described) -> str:
    name = str(_section(surface, "objective").get("loss") or "")
    return LOSS_NAMES.get(name, name.rsplit("<locals>.", 1)[-1])


def _section(surface: Described, key: str) -> dict[str, Any]:
    section = surface.metadata.get(key)
    return section if isinstance(section, dict) else {}
