"""The content of a page: the numbers of surfaces and trajectories with their labels and facts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.explorer.basins import basins_content
from landscape.explorer.encoding import array_content, numbers, picture_uri
from landscape.plotting.captions import axis_labels, count_text, origin_name, quantity_label
from landscape.plotting.values import QUANTITIES, plane_values
from landscape.results import Surface, Trajectory
from landscape.results.summary import surface_facts

__all__ = ["page_title", "surface_content", "surface_names", "trajectory_content"]


def surface_content(surface: Surface, name: str, picture: np.ndarray | None) -> dict[str, Any]:
    """Axes, quantities, labels and facts of a plane; quantities without finite values are left out."""
    plane_values(surface, "loss")  # raises InputError for a line
    shown = [key for key in QUANTITIES if (values := getattr(surface, key)) is not None and np.isfinite(values).any()]
    bad = int(surface.nonfinite.sum())
    return {
        "name": str(name),
        "alphas": surface.alphas.tolist(),
        "betas": surface.axes[1].tolist(),
        "axes": axis_labels(surface, separator="\n"),
        "values": {key: array_content(getattr(surface, key)) for key in dict.fromkeys(["loss", *shown])},
        "labels": {key: [quantity_label(surface, key, log) for log in (False, True)] for key in QUANTITIES},
        "evaluated": None if surface.evaluated is None else array_content(surface.evaluated),
        "gaps": count_text(bad, surface.loss.size) if bad else "",
        "origin": origin_name(surface),
        "basins": basins_content(surface),
        "faithfulness": _faithfulness_content(surface),
        "facts": {key: _typeset(text) for key, text in surface_facts(surface).items()},
        "picture": None if picture is None else picture_uri(picture),
    }


def page_title(surfaces: Sequence[Surface]) -> str:
    """A title with the model and the epoch, if they are the same for all surfaces."""
    model, epoch, _ = map(set, zip(*map(_name_parts, surfaces), strict=True))
    common = [values.pop() for values in (model, epoch) if len(values) == 1]
    return " of ".join(filter(None, ["Loss landscape", ", ".join(filter(None, common))]))


def surface_names(surfaces: Sequence[Surface]) -> list[str]:
    """Names from those of model, epoch and data that differ between the surfaces; numbers if these are not unique."""
    columns = list(zip(*map(_name_parts, surfaces), strict=True))
    distinct = [column for column in columns if len(set(column)) > 1] or columns[-1:]
    names = [", ".join(filter(None, parts)) for parts in zip(*distinct, strict=True)]
    if len(set(names)) == len(names) and all(names):
        return names
    return [f"surface {number}" for number in range(1, len(surfaces) + 1)]


def trajectory_content(trajectory: Trajectory, surfaces: Sequence[Surface]) -> dict[str, Any]:
    """The points of a training run, and for which of ``surfaces`` their losses are comparable with the surface."""
    unit, off = str(trajectory.metadata.get("unit") or "point"), trajectory.relative_distance
    finite = off[np.isfinite(off)]
    spans = len(trajectory.steps) <= 3 and finite.size and finite.max() < 1e-6  # three points lie on one plane
    off_text = ""
    if finite.size and not spans:
        off_text = f"; at most {finite.max():.2g} of its distance from the origin off the plane"
    return {
        "name": str(trajectory.metadata.get("name") or "training path"),
        "unit": unit,
        "steps": trajectory.steps.tolist(),
        "alphas": numbers(trajectory.coordinates[:, 0]),
        "betas": numbers(trajectory.coordinates[:, 1]),
        "distance": numbers(trajectory.distance),
        "relative": numbers(off),
        "loss": numbers(trajectory.loss),
        "shadow": numbers(trajectory.shadow_loss),
        "comparable": [_same_data(surface, trajectory) for surface in surfaces],
        "fact": f"{len(trajectory.steps):,} points, {unit} {trajectory.steps[0]} to {trajectory.steps[-1]}{off_text}",
    }


def _faithfulness_content(surface: Surface) -> dict[str, str] | None:
    """The facts on what the plane leaves out; None if it was not measured."""
    if surface.faithfulness is None:
        return None
    return {key: _typeset(text) for key, text in surface.faithfulness.facts.items() if text}


def _typeset(text: str) -> str:
    return text.replace("+-", "±").replace("|theta|", "|θ|")


def _name_parts(surface: Surface) -> tuple[str, str, str]:
    checkpoint, data = (_section(surface, key) for key in ("checkpoint", "data"))
    epoch = f"epoch {checkpoint['epoch']}" if checkpoint.get("epoch") is not None else ""
    split = " ".join(str(data[key]) for key in ("name", "split") if data.get(key))
    return str(checkpoint.get("model") or ""), epoch, split


def _same_data(surface: Surface, trajectory: Trajectory) -> bool:
    """Whether both were computed on the same data; unknown data count as the same."""
    fingerprints = {_section(result, "data").get("fingerprint") for result in (surface, trajectory)}
    return len(fingerprints - {None}) < 2


def _section(result: Surface | Trajectory, key: str) -> dict[str, Any]:
    section = result.metadata.get(key)
    return section if isinstance(section, dict) else {}
