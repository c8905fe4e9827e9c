"""The facts and numbers of surfaces and trajectories as lines of text and tables."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from landscape.presenting import text_table
from landscape.results import Surface, Trajectory

__all__ = ["path_summary", "range_hint", "summarize", "surface_facts", "surface_numbers", "surface_table"]

LARGE_RANGE = (
    100  # ratio of the largest to the smallest loss, above which a linear scale shows low losses as one colour
)


def summarize(surface: Surface) -> str:
    """Numbers, recipe and accuracy of ``surface``, one "key: value" per line, and what its plane leaves out."""
    lines = [f"{key}: {value}" for key, value in surface_facts(surface).items()]
    return "\n".join([*lines, surface.faithfulness.box] if surface.faithfulness else lines)


def path_summary(path: Trajectory) -> str:
    """One line with the loss at start and end of ``path``, and its largest distance from the plane."""
    meta, farthest = path.metadata, path.distance.argmax()
    return (
        f"{meta['name']}: {meta['unit']} {path.steps[0]} to {path.steps[-1]}, loss {path.loss[0]:.4g} to "
        f"{path.loss[-1]:.4g}; farthest off the plane at {meta['unit']} {path.steps[farthest]}: by "
        f"{path.distance[farthest]:.3g}, {path.share_off_plane[farthest]:.1%} of the path's extent, where the point "
        f"has loss {path.loss[farthest]:.4g} and its shadow {path.shadow_loss[farthest]:.4g}"
    )


def surface_facts(surface: Surface) -> dict[str, str]:
    """Numbers, recipe and accuracy of ``surface``, as far as they are known: name -> text."""
    meta = surface.metadata
    lines: dict[str, Callable[[], object]] = {
        "data": lambda: _data(meta.get("data", {})),
        "inputs": lambda: meta.get("inputs"),
        "metrics of the checkpoint": lambda: meta.get("stored_metrics"),
        "loss": lambda: _loss(meta.get("objective", {})),
        **{key: functools.partial(str, value) for key, value in _numbers(surface).items()},
        "slice": lambda: _pairs(meta.get("slice", {}), skip=("axes", "fingerprint", "explained_variance", "not_moved")),
        "not moved": lambda: _counts(meta.get("slice", {}).get("not_moved") or {}),
        "explained variance": lambda: _shares(meta.get("slice", {}).get("explained_variance") or []),
        "grid": lambda: " x ".join(f"{len(axis)} points from {axis[0]:g} to {axis[-1]:g}" for axis in surface.axes),
        "directions": lambda: _geometry(meta),
        "method": lambda: ", ".join(filter(None, [meta.get("method"), _pairs(meta.get("method_settings", {}))])),
        "points": lambda: _interpolation(meta.get("interpolation"), surface.loss.size),
        "budget": lambda: _budget(meta.get("budget")),
        "methods that do not apply": lambda: _pairs(meta.get("methods_rejected", {})),
        "check against plain forward passes": lambda: _checks(meta.get("checks", {})),
        "rounding": lambda: _rounding(meta.get("checks", {}).get("rounding_of_steps")),
        "non-finite points": lambda: f"{surface.nonfinite.sum()} of {surface.loss.size}",
        "device": lambda: meta.get("device"),
        "seconds": lambda: f"{meta['seconds']:.2f}" if "seconds" in meta else None,
        "versions": lambda: _pairs(meta.get("versions", {})),
    }
    return {key: text for key, line in lines.items() if (text := _text_of(line))}


def _text_of(line: Callable[[], object]) -> str:
    """The text of ``line``; metadata of an unknown form, which other programs may write, are not interpreted."""
    try:
        return str(line() or "")
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError):
        return "recorded in an unknown form"


def surface_numbers(surface: Surface) -> dict[str, Any]:
    """The numbers by which surfaces are compared; losses are those of finite points, None if there are none.

    Keys: centre_loss, smallest_loss, largest_loss, centre_accuracy (None if unknown), relative_norms (|d| / |theta|
    of each direction), nonfinite_points, seconds.
    """
    finite = surface.loss[~surface.nonfinite]
    accuracy = surface.accuracy
    return {
        "centre_loss": float(surface.loss[surface.centre]),
        "smallest_loss": float(finite.min()) if finite.size else None,
        "largest_loss": float(finite.max()) if finite.size else None,
        "centre_accuracy": None if accuracy is None else float(accuracy[surface.centre]),
        "relative_norms": surface.metadata.get("relative_norms"),
        "nonfinite_points": int(surface.nonfinite.sum()),
        "seconds": surface.metadata.get("seconds"),
    }


def surface_table(surfaces: Sequence[Surface], names: Sequence[str]) -> str:
    """The numbers of `surface_numbers` as a text table, one row for each surface."""
    head = ("", "centre loss", "min", "max", "accuracy", "|d|/|theta|", "non-finite", "seconds")
    rows = [head, *((name, *_cells(surface_numbers(surface))) for surface, name in zip(surfaces, names, strict=True))]
    return text_table(rows)


def range_hint(surfaces: Sequence[Surface]) -> str | None:
    """A hint to use a log scale if all losses are positive and span a factor of more than 100; otherwise None."""
    finite = np.concatenate([surface.loss[~surface.nonfinite] for surface in surfaces])
    if not finite.size or finite.min() <= 0 or finite.max() / finite.min() <= LARGE_RANGE:
        return None
    return (
        f"Hint: the losses run from {finite.min():.3g} to {finite.max():.3g}; on one linear scale the low ones look "
        "alike"
    )


def _cells(numbers: dict[str, Any]) -> tuple[str, ...]:
    def text(value: object, form: str) -> str:
        return format(value, form) if isinstance(value, int | float) else "-"

    values = numbers["relative_norms"]
    norms = ", ".join(text(value, ".4g") for value in values) if isinstance(values, list | tuple) else ""
    losses = [text(numbers[key], ".6g") for key in ("centre_loss", "smallest_loss", "largest_loss")]
    accuracy, seconds = text(numbers["centre_accuracy"], ".2%"), text(numbers["seconds"], ".2f")
    return *losses, accuracy, norms or "-", str(numbers["nonfinite_points"]), seconds


def _numbers(surface: Surface) -> dict[str, str]:
    lines = {"loss at the centre": _value(surface, surface.centre)}
    if surface.minimum is None:
        return lines | {"minimum": "no finite value"}
    highest = np.unravel_index(np.where(surface.nonfinite, -np.inf, surface.loss).argmax(), surface.shape)
    lines |= {"minimum": _value(surface, surface.minimum), "maximum": _value(surface, tuple(map(int, highest)))}
    if surface.accuracy is not None:
        lines["accuracy at the centre"] = f"{surface.accuracy[surface.centre]:.4%}"
    return lines


def _value(surface: Surface, index: tuple[int, ...]) -> str:
    coordinates = ", ".join(f"{axis[i]:.4g}" for axis, i in zip(surface.axes, index, strict=True))
    error = surface.standard_error[index]
    spread = f" +- {error:.2g} (standard error)" if math.isfinite(error) else ""
    return f"{surface.loss[index]:.6g}{spread} at ({coordinates})"


def _data(data: dict[str, Any]) -> str:
    parts = [" ".join(str(data[key]) for key in ("name", "split") if data.get(key))]
    if data.get("sample") is not None:
        parts.append(f"sample {data['sample']} alone")
    elif "size" in data:
        parts.append(f"{data['size']:,} samples")
    if data.get("source"):
        parts.append(str(data["source"]))
    if data.get("fingerprint"):
        parts.append(f"sha256 {data['fingerprint'][:16]}")
    return ", ".join(part for part in parts if part)


def _loss(objective: dict[str, Any]) -> str:
    text = str(objective.get("loss", ""))
    if objective.get("batch_norm"):
        text += f", BatchNorm statistics: {objective['batch_norm']}"
    text += f", {objective['dtype']}" if objective.get("dtype") else ""
    return text + (f", precision {objective['precision']}" if objective.get("precision", "full") != "full" else "")


def _geometry(meta: dict[str, Any]) -> str:
    norms = [norm for norm in meta.get("relative_norms", []) if norm is not None]
    parts = [f"|d|/|theta| = {', '.join(f'{norm:.4g}' for norm in norms)}"] if norms else []
    if meta.get("cosine") is not None:
        parts.append(f"cosine {meta['cosine']:.4g}")
    return "; ".join(parts)


def _rounding(steps: list[dict[str, float]] | None) -> str:
    return "; ".join(
        f"{step['lost']:.2%} of a step of {step['step']:.3g} from the origin, by which {step['unchanged']:.1%} of the "
        "moved parameters do not change"
        for step in steps or ()
    )


def _counts(groups: dict[str, list[str]]) -> str:
    return ", ".join(f"{len(names)} ({reason})" for reason, names in groups.items())


def _shares(shares: list[float]) -> str:
    return ", ".join(f"{share:.1%}" for share in shares[:5]) + ", ..." * (len(shares) > 5)


def _interpolation(entry: dict[str, Any] | None, points: int) -> str | None:
    if not entry:
        return None
    text = f"{entry['evaluated_points']:,} of {points:,} evaluated (tolerance {entry['tolerance']}"
    text += ")" if entry["reached"] else ", which the budget did not reach)"
    if not entry["method"]:
        return text
    return (
        f"{text}, the others by {entry['method']}, expected within {entry['error_bound']:.2%} of the loss; at "
        f"{entry['verified_points']} fresh points the largest error is {entry['largest_error']:.2%} (99th percentile "
        f"{entry['percentile_99_error']:.2%}); standard error and accuracy interpolated alike, expected within "
        f"{entry['largest_standard_error_error']:.2g} and {entry['largest_accuracy_error']:.2g}; planning and "
        f"interpolation took {entry['planning_seconds']:.2g} s"
    )


def _budget(planned: dict[str, Any] | None) -> str | None:
    """The time budget, and the number of samples and the tolerance planned for it."""
    if not planned:
        return None
    request = planned["asked"]
    return (
        f"{request['seconds']:g} s allow {planned['samples']:,} of {request['samples']:,} samples (standard error "
        f"expected to be {planned['relative_standard_error']:.2%} of the loss) with tolerance {planned['tolerance']}"
    )


def _checks(checks: dict[str, Any]) -> str:
    parts = []
    if checks.get("largest_relative_deviation") is not None:
        parts.append(f"largest relative deviation {checks['largest_relative_deviation']:.2g}")
    if checks.get("precision_error") is not None:
        parts.append(f"error of the lower precision {checks['precision_error']:.2g}")
    if checks.get("origin"):
        parts.append(f"origin {checks['origin']['loss']:.8g}, model itself {checks['origin']['model_loss']:.8g}")
    return "; ".join(parts)


def _pairs(section: dict[str, Any], skip: tuple[str, ...] = ()) -> str:
    return ", ".join(f"{key} {value}" for key, value in section.items() if key not in skip)
