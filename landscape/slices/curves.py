"""Curves through control points: coordinate -> point, with the recipe that rebuilds them."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import torch
from torch import Tensor

from landscape.checks import check_choice
from landscape.errors import InputError
from landscape.points import Point, in_precision, precise
from landscape.results.axes import SliceAxes
from landscape.runtime import own_torch_state
from landscape.slices.interpolations import difference
from landscape.slices.networks import Networks
from landscape.slices.planes import Slice
from landscape.storage.provenance import fingerprint

__all__ = ["Curve", "CurveForm", "check_form", "control_weights"]

CurveForm = Literal["bezier", "polygon"]


@dataclass(frozen=True, eq=False, repr=False)
class Curve(Slice):
    """t in [0, 1] -> sum_k w_k(t) points[k], k = 0..n: exactly the first point at 0 and exactly the last one at 1.

    Bezier: w_k(t) = C(n, k) t^k (1 - t)^(n - k). Polygon: w_k(t) = max(0, 1 - |n t - k|). The weights add up to one, so
    that it is the affine map of a `Slice` at w_1(t), ..., w_n(t), with directions points[k] - points[0].
    """

    points: tuple[Point, ...] = ()  # the first network, the bends, the second network
    form: CurveForm = "bezier"

    @classmethod
    def through(cls, points: tuple[Point, ...], recipe: dict[str, Any], held: Networks | None = None) -> "Curve":
        """The curve of these control points between two networks; ``recipe["kind"]`` says which.

        Raises:
            InputError: points whose whole numbers differ, or a recipe of no curve.
        """
        form = str(recipe.get("kind")).removesuffix(" curve")
        check_form(form)
        origin, *others = points
        directions = tuple(difference(point, origin) for point in others)
        return cls(origin, directions, recipe, 2, held, SliceAxes.between(2), tuple(points), cast(CurveForm, form))

    @property
    def dimension(self) -> int:
        return 1

    def weights(self, coordinates: Tensor) -> Tensor:
        """w_1, ..., w_n [K, n] at ``coordinates`` t [K, 1]."""
        return control_weights(self.form, coordinates[:, 0], len(self.directions))[:, 1:]

    @own_torch_state()
    def __call__(self, *coordinates: float) -> Point:
        self.check_coordinates(coordinates)
        time = torch.tensor(coordinates, dtype=torch.float64)
        weights = control_weights(self.form, time, len(self.directions))[0].tolist()
        return {name: self._mixed(name, weights) for name in self.origin}

    def _mixed(self, name: str, weights: list[float]) -> Tensor:
        """The parameter ``name`` at the point where the control points have such ``weights``."""
        first = self.origin[name]
        if name in self._fixed:
            return first.clone()
        mixed = sum(weight * precise(point[name]) for weight, point in zip(weights, self.points, strict=True))
        return torch.as_tensor(mixed).to(first)

    @own_torch_state()
    def to(self, dtype: torch.dtype) -> "Curve":
        points = tuple({name: in_precision(value, dtype) for name, value in point.items()} for point in self.points)
        return Curve.through(points, self.recipe, self.held)

    @cached_property
    def _fixed(self) -> set[str]:
        """Parameters that are the same at all control points; whole numbers always are."""

        def stays(name: str, value: Tensor) -> bool:
            return all(p[name].dtype == value.dtype and torch.equal(p[name], value) for p in self.points)

        return {name for name, value in self.origin.items() if stays(name, value)}

    @cached_property
    def fingerprint(self) -> str:
        kind = torch.tensor([*self.recipe["kind"].encode()])  # the same points make another curve of another kind
        return fingerprint([kind, *(v for point in self.points for v in point.values()), *self._varying])


def check_form(form: str) -> None:
    """Refuse what is no form of a curve."""
    check_choice("kind of curve", form, WEIGHTS)


def control_weights(form: CurveForm, t: Tensor, count: int) -> Tensor:
    """w_0, ..., w_n [K, n + 1] at ``t`` [K], for n = ``count``.

    Raises:
        InputError: a t outside [0, 1].
    """
    if bool(((t < 0) | (t > 1)).any()):
        raise InputError("a curve runs from 0 to 1; evaluate it with alpha_range=(0, 1)")
    return WEIGHTS[form](t[:, None], torch.arange(count + 1, dtype=t.dtype))


def _bezier(t: Tensor, k: Tensor) -> Tensor:
    count = len(k) - 1
    binomial = torch.tensor([math.comb(count, i) for i in range(count + 1)], dtype=t.dtype)
    return binomial * t**k * (1 - t) ** (count - k)


def _polygon(t: Tensor, k: Tensor) -> Tensor:
    return (1 - ((len(k) - 1) * t - k).abs()).clamp(min=0)


WEIGHTS = {"bezier": _bezier, "polygon": _polygon}
