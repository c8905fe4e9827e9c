"""Checks that the losses of several networks are comparable."""

from collections.abc import Sequence
from typing import Any

from landscape.errors import InputError
from landscape.results import Surface

__all__ = ["check_comparable", "check_same_plane_kind", "differences", "plane_differences"]

RECIPE = ("kind", "seed", "normalize", "ignore", "orthogonal", "distribution", "parameters")  # of random directions


def check_comparable(metadata: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Raise InputError unless the losses are comparable, see `differences`.

    Raises:
        InputError: They are not; the message lists every aspect that differs, with its value for each of ``names``.
    """
    if different := differences(metadata):
        aspects = (
            f"{aspect} ({'; '.join(f'{name}: {value}' for name, value in zip(names, values, strict=True))})"
            for aspect, values in different.items()
        )
        raise InputError(f"these losses cannot be compared: other {', other '.join(aspects)}")


def differences(metadata: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The aspects in which losses are not comparable, with the values in each of ``metadata``; empty if they are.

    Aspects are the data (name, split, and the fingerprint of normalised inputs and targets), the loss, and the
    BatchNorm policy; networks without BatchNorm agree with any policy.

    Args:
        metadata: Metadata of surfaces, or dicts with their sections "data" and "objective".

    Example:
        >>> differences([{"objective": {"loss": "mse"}}, {"objective": {"loss": "cross_entropy"}}])
        {'loss': ['mse', 'cross_entropy']}
    """
    data = [_section(entry, "data") for entry in metadata]
    objectives = [_section(entry, "objective") for entry in metadata]
    aspects = {
        "data": [_data_text(section) for section in data],
        "loss": [str(section.get("loss", "")) for section in objectives],
        "BatchNorm policy": [section.get("batch_norm") or "none" for section in objectives],
    }
    different = {name: values for name, values in aspects.items() if len(set(values)) > 1}
    if len(set(aspects["BatchNorm policy"]) - {"none"}) < 2:
        different.pop("BatchNorm policy", None)
    return different


def check_same_plane_kind(surfaces: Sequence[Surface]) -> None:
    """Raise InputError unless points with equal coordinates correspond to each other, see `plane_differences`.

    Raises:
        InputError: They do not; the message lists every aspect that differs.
    """
    if different := plane_differences([surface.metadata for surface in surfaces]):
        aspects = "; ".join(f"{name}: {' and '.join(dict.fromkeys(values))}" for name, values in different.items())
        raise InputError(
            f"the points of the planes do not correspond to each other ({aspects}); draw them side by side, each with "
            "its own numbers"
        )


def plane_differences(metadata: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The aspects, with their values, in which equal coordinates do not mean equal steps; empty if there are none.

    Aspects are the architecture, as far as it is known, and the recipe of random directions: directions of one recipe
    move networks of one architecture in the same way.
    """
    slices = [_section(entry, "slice") for entry in metadata]
    if len({section.get("fingerprint") for section in slices}) == 1 and slices[0].get("fingerprint"):
        return {}
    random = [{key: section[key] for key in RECIPE if key in section} for section in slices]
    aspects = {
        "network": [str(_section(entry, "checkpoint").get("model") or "") for entry in metadata],
        "parameters": [_parameters(_section(entry, "architecture")) for entry in metadata],
        "directions": [", ".join(f"{key} {value}" for key, value in recipe.items()) for recipe in random],
    }
    return {name: values for name, values in aspects.items() if all(values) and len(set(values)) > 1}


def _parameters(architecture: dict[str, Any]) -> str:
    return "{parameters:,} (shapes {shapes})".format_map(architecture) if architecture else ""


def _data_text(data: dict[str, Any]) -> str:
    name = " ".join(str(data[key]) for key in ("name", "split") if data.get(key))
    size = f"{data['size']:,} samples" if isinstance(data.get("size"), int) else ""
    sha256 = f"sha256 {str(data['fingerprint'])[:12]}" if data.get("fingerprint") else ""
    return ", ".join(part for part in (name, size, sha256) if part)


def _section(entry: dict[str, Any], key: str) -> dict[str, Any]:
    section = entry.get(key)
    return section if isinstance(section, dict) else {}
