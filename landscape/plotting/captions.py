"""Words and labels, from the metadata of a surface; whatever is missing there is left out."""

import math
from pathlib import PurePath

from landscape.results import Surface

__all__ = ["axis_labels", "count_text", "origin_name", "quantity_label", "relative_norm", "shared_label", "title_of"]

BETWEEN_MODELS = ("interpolation line", "three-point plane")
LOSS_NAMES = {"cross_entropy": "cross-entropy", "mse": "mean squared error"}
UNITS = {
    "filter": "filter-norm units",
    "layer": "units of layer-wise norms",
    "model": "units of the model's norm",
}


def title_of(surface: Surface) -> str:
    """The title in the metadata, or the data, its size and the loss."""
    if surface.metadata.get("title"):
        return str(surface.metadata["title"])
    data, objective = _section(surface, "data"), _section(surface, "objective")
    name = str(data.get("name") or "")
    if name.startswith("folder:"):
        name = PurePath(name).name  # the whole path is in the metadata
    parts = [" ".join(filter(None, [name, str(data.get("split") or "")]))]
    if isinstance(size := data.get("size"), int):
        parts.append(f"{size:,} sample{'' if size == 1 else 's'}")
    parts.append(_loss_name(surface))
    title = ", ".join(part for part in parts if part)
    if objective.get("batch_norm") is not None:
        title += f"\nBatchNorm: {objective['batch_norm']}"
    return title.strip()


def axis_labels(surface: Surface, separator: str = ", ") -> list[str]:
    """The labels of the axes: coordinate, unit, and the length of the direction where it is known."""
    labels = []
    for k, name in enumerate("αβ"[: len(surface.axes)]):
        unit, length = _unit(surface, k), relative_norm(surface, k)
        labels.append(separator.join(filter(None, [f"{name} ({unit})" if unit else name, length])))
    return labels


def shared_label(surface: Surface) -> str:
    units = dict.fromkeys(unit for k in range(2) if (unit := _unit(surface, k)))
    return f"α, β ({', '.join(units)})" if units else "α, β"


def quantity_label(surface: Surface, quantity: str, log_scale: bool) -> str:
    notes = [_loss_name(surface) if quantity == "loss" else "", "log scale" if log_scale else ""]
    note = ", ".join(note for note in notes if note)
    return quantity.replace("_", " ") + (f" ({note})" if note else "")


def relative_norm(surface: Surface, k: int) -> str:
    norms = surface.metadata.get("relative_norms")
    between_models = _section(surface, "slice").get("kind") in BETWEEN_MODELS
    known = isinstance(norms, list | tuple) and len(norms) > k and isinstance(norms[k], int | float)
    known = known and not between_models  # their coordinates are fractions of the way, not lengths
    return f"|d|/|θ| = {norms[k]:.3g}" if known and math.isfinite(norms[k]) else ""


def origin_name(surface: Surface) -> str:
    kind = _section(surface, "slice").get("kind")
    if kind in BETWEEN_MODELS:
        return "first model"
    return "origin" if kind == "pca plane" else "trained model"


def count_text(count: int, total: int) -> str:
    return f"NaN or infinite ({count:,} of {total:,} points)"


def _unit(surface: Surface, k: int) -> str:
    recipe = _section(surface, "slice")
    kind = recipe.get("kind")
    if kind == "interpolation line":
        return "0 = first model, 1 = second model"
    if kind == "three-point plane":
        return ("1 = second model", "1 = third model")[k]
    if kind == "pca plane":
        return f"principal component {k + 1}"
    normalize = recipe.get("normalize", recipe.get("normalization", ""))
    return "direction not normalised" if normalize is None else UNITS.get(str(normalize), "")


def _loss_name(surface: Surface) -> str:
    name = str(_section(surface, "objective").get("loss") or "")
    return LOSS_NAMES.get(name, name.rsplit("<locals>.", 1)[-1])


def _section(surface: Surface, key: str) -> dict:
    section = surface.metadata.get(key)
    return section if isinstance(section, dict) else {}
