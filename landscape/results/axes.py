"""The meaning of the coordinates of a slice: the unit of each axis, and the models that lie on it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landscape.storage.forms import form_fault

__all__ = ["SliceAxes"]

UNITS = {
    "filter": "filter-norm units",
    "layer": "units of layer-wise norms",
    "model": "units of the model's norm",
}
MODELS = ("first model", "second model", "third model")


@dataclass(frozen=True)
class SliceAxes:
    """Texts for the axes of a slice; empty if they are unknown."""

    units: tuple[str, ...] = ()  # unit of the coordinate along each axis, "" if unknown
    models: tuple[str, ...] = ()  # name of the model at the origin, and of those at 1 along each axis, if there are any

    @classmethod
    def random(cls, normalize: str | None, count: int) -> "SliceAxes":
        """Texts for ``count`` random directions, normalised or not."""
        return cls((_unit(normalize),) * count)

    @classmethod
    def between(cls, count: int) -> "SliceAxes":
        """Texts for a slice through ``count`` models, two on a line or curve, three on a plane."""
        units = ("0 = first model, 1 = second model",) if count == 2 else ("1 = second model", "1 = third model")
        return cls(units, MODELS[:count])

    @classmethod
    def towards(cls, normalize: str) -> "SliceAxes":
        """Texts for the line from a model in the normalised direction of another one."""
        return cls((f"{_unit(normalize)} towards the second model",), MODELS[:1])

    @classmethod
    def principal(cls, variances: Sequence[float], normalize: str | None) -> "SliceAxes":
        """Texts for the first two principal components, with their shares of the variance."""
        shares = [f"{_share(share)} of the variance" for share in variances[:2]]
        # A normalised direction has another share of the variance, so its unit is shown instead.
        notes = [UNITS.get(normalize or "", share) for share in (*shares, "", "")[:2]]
        return cls(
            tuple(", ".join(filter(None, [f"principal component {k + 1}", notes[k]])) for k in (0, 1)), ("origin",)
        )

    @classmethod
    def eigenvectors(cls, numbers: Sequence[int], values: Sequence[float]) -> "SliceAxes":
        """Texts for the eigenvectors with these ``numbers``, counted from 0, and eigenvalues ``values``."""
        pairs = zip(numbers, values, strict=True)
        return cls(tuple(f"eigenvector {number + 1}, eigenvalue {value:.3g}" for number, value in pairs))

    @classmethod
    def read(cls, description: Mapping[str, Any]) -> "SliceAxes":
        """The texts in a stored ``description`` of a slice; in files of earlier versions they follow from its kind."""
        stored: Any = description.get("axes")
        if form_fault(stored, {"units": [str], "models": [str]}) is None:
            return cls(tuple(stored["units"]), tuple(stored["models"]))
        kind = description.get("kind")
        return _EARLIER.get(kind if isinstance(kind, str) else "", _of_earlier_random)(description)

    @property
    def description(self) -> dict[str, list[str]]:
        """The texts as metadata of JSON types, for `read`."""
        return {"units": list(self.units), "models": list(self.models)}

    @property
    def between_models(self) -> bool:
        """Whether coordinates are fractions of the distance between models."""
        return len(self.models) > 1


def _share(share: float) -> str:
    """``share`` in per cent, never rounded to all or nothing unless it differs by rounding alone."""
    if 0.995 <= share < 0.9999:
        return f"{math.floor(1000 * share) / 10:.1f}%"
    return "< 1%" if 0.0001 < share < 0.005 else f"{share:.0%}"


def _unit(normalize: str | None) -> str:
    return "direction not normalised" if normalize is None else UNITS.get(normalize, "")


def _of_earlier_random(recipe: Mapping[str, Any]) -> SliceAxes:
    normalize = recipe.get("normalize", recipe.get("normalization", ""))
    return SliceAxes.random(normalize if normalize is None else str(normalize), 2)


_EARLIER: dict[str, Callable[[Mapping[str, Any]], SliceAxes]] = {
    "interpolation line": lambda _: SliceAxes.between(2),
    "bezier curve": lambda _: SliceAxes.between(2),
    "polygon curve": lambda _: SliceAxes.between(2),
    "three-point plane": lambda _: SliceAxes.between(3),
    "normalised interpolation line": lambda recipe: SliceAxes.towards(str(recipe.get("normalize"))),
    "pca plane": lambda recipe: SliceAxes.principal(recipe.get("explained_variance") or [], recipe.get("normalize")),
    "eigenvector plane": lambda recipe: SliceAxes.eigenvectors(recipe["eigenvectors"], recipe["eigenvalues"]),
}
