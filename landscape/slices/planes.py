"""Lines and planes through parameter space: coordinates -> point, with the recipe that rebuilds them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from landscape.errors import InputError, InputTypeError
from landscape.points import Point, as_point, check_match, cosine, in_precision, is_continuous, norm, precise
from landscape.presenting import Presented
from landscape.results.axes import SliceAxes
from landscape.runtime import own_torch_state
from landscape.runtime.seeds import checked_seed
from landscape.slices.directions import Distribution, Normalize, normalize_direction, random_directions
from landscape.slices.ignored import RULE, reasons_not_to_move
from landscape.slices.networks import Networks
from landscape.storage.provenance import fingerprint

__all__ = [
    "Line",
    "Plane",
    "Slice",
    "difference",
    "interpolation_line",
    "random_line",
    "random_plane",
    "three_point_plane",
]


@dataclass(frozen=True, eq=False, repr=False)
class Slice(Presented):
    """The affine map (c_1, ..., c_k) -> origin + sum_i c_i directions[i].

    Statistics and other buffers belong to a network, so a slice knows how many networks it goes through: one (it lies
    around a point), or several (it leads from one to another). Of a slice made by hand this is not known, and is asked
    for where it matters; say ``Line(a, (direction,), networks=1)``, or 2 for one that leads to another network.
    """

    origin: Point
    directions: tuple[Point, ...]
    recipe: dict[str, Any] = field(default_factory=dict)  # kind, seed, ...: what rebuilds the slice; JSON types only
    networks: int | None = None  # how many networks it goes through; None: not known
    held: Networks | None = None  # the buffers of these networks; None: not known, as of points
    axes: SliceAxes = field(
        default_factory=SliceAxes
    )  # the units of the coordinates, and the models that lie on the slice

    def __post_init__(self) -> None:
        for direction in self.directions:
            check_match(direction, self.origin, "direction")
            for name, value in direction.items():
                if value.is_complex() and not self.origin[name].is_complex():
                    raise InputError(f"the direction of {name!r} is complex, but the parameter is not")

    @property
    def facts(self) -> dict[str, str]:
        unmoved = ", ".join(f"{reason} {len(names)}" for reason, names in self.not_moved.items())
        return {
            "kind": str(self.recipe.get("kind", "made by hand")),
            **{key: str(self.recipe[key]) for key in ("seed", "normalize") if key in self.recipe},
            "moves": f"{len(self.moved):,} of {len(self.origin):,} parameters{f', not: {unmoved}' if unmoved else ''}",
        }

    @property
    def dimension(self) -> int:
        """How many coordinates a point has."""
        return len(self.directions)

    def weights(self, coordinates: Tensor) -> Tensor:
        """Factors [K, directions] of the directions at ``coordinates`` [K, dimension]: the coordinates themselves."""
        return coordinates

    @own_torch_state()
    def weights_at(self, *coordinates: float) -> list[float]:
        """The factors of the directions at one point."""
        return self.weights(torch.tensor([coordinates], dtype=torch.float64))[0].tolist()

    @own_torch_state()
    def __call__(self, *coordinates: float) -> Point:
        self.check_coordinates(coordinates)
        point = {}
        for name, value in self.origin.items():
            total = value.clone() if precise(value) is value else precise(value)
            for coordinate, direction in zip(coordinates, self.directions, strict=True):
                if is_continuous(value):  # whole numbers never move
                    total += coordinate * direction[name]
            point[name] = total.to(value)
        return point

    def check_coordinates(self, coordinates: tuple[float, ...]) -> None:
        """Refuse more or fewer coordinates than a point has."""
        if len(coordinates) != self.dimension:
            raise InputTypeError(f"this slice takes {self.dimension} coordinate(s), not {len(coordinates)}")

    @own_torch_state()
    def to(self, dtype: torch.dtype) -> "Slice":
        """The same slice computed in ``dtype``."""
        origin, *directions = (
            {name: in_precision(value, dtype) for name, value in point.items()}
            for point in (self.origin, *self.directions)
        )
        return replace(self, origin=origin, directions=tuple(directions))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over origin, directions and varying buffers: two slices with the same one are the same slice."""
        return fingerprint([*(v for point in (self.origin, *self.directions) for v in point.values()), *self._varying])

    @property
    def architecture(self) -> dict[str, Any]:
        """The number of all parameters, and a digest of their names and shapes; JSON types only."""
        shapes = {name: list(value.shape) for name, value in self.origin.items()}
        digest = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()
        return {"parameters": sum(value.numel() for value in self.origin.values()), "shapes": digest[:12]}

    @property
    def _varying(self) -> list[Tensor]:
        """The buffers that differ between the networks of this slice."""
        return [end[name] for end in self.held.ends for name in self.held.varying] if self.held else []

    @cached_property
    def moved(self) -> list[str]:
        """Names of the parameters that some direction moves."""
        return [name for name in self.origin if any(bool(direction[name].any()) for direction in self.directions)]

    @cached_property
    def not_moved(self) -> dict[str, list[str]]:
        """Names of the parameters that no direction moves, by reason: those of `ignored_parameters`, "whole numbers",
        or "zero" (in filter normalisation because the weights are)."""
        known = self.recipe.get("not_moved", {})
        reasons = {name: reason for reason, names in known.items() for name in names}
        by_reason: dict[str, list[str]] = {}
        for name, value in self.origin.items():
            if name not in self.moved:
                reason = reasons.get(name, "zero") if is_continuous(value) else "whole numbers"
                by_reason.setdefault(reason, []).append(name)
        return by_reason

    @property
    def description(self) -> dict[str, Any]:
        """The recipe, the fingerprint, the axes, what is not moved, and the number of networks; JSON types only."""
        varying = self.held.varying if self.held else []
        known = {"networks": self.networks, **({"varying_buffers": varying} if varying else {})}
        return {
            **self.recipe,
            **known,
            "axes": self.axes.description,
            "not_moved": self.not_moved,
            "fingerprint": self.fingerprint,
        }

    @cached_property
    @own_torch_state()
    def geometry(self) -> dict[str, Any]:
        """Lengths of origin and directions, |direction| / |origin|, and the cosine between the directions.

        For parameters in half precision also what rounding to it takes of a step of length one; None for others.
        """
        origin, lengths = norm(self.origin), [norm(direction) for direction in self.directions]
        return {
            "origin_norm": origin,
            "direction_norms": lengths,
            "relative_norms": [length / origin if origin else None for length in lengths],
            "cosine": cosine(*self.directions) if len(self.directions) == 2 else None,
            "rounding": [self._rounding(direction) for direction in self.directions] if self._is_rounded else None,
        }

    @property
    def _is_rounded(self) -> bool:
        """Whether points are rounded to half precision, in which the parameters are."""
        return any(precise(value) is not value for value in self.origin.values())

    def _rounding(self, direction: Point) -> float | None:
        """The share of a step of length one along ``direction`` that the precision of the parameters takes."""
        taken = {}
        for name, value in self.origin.items():
            moved = precise(value) + direction[name] if is_continuous(value) else value
            taken[name] = moved.to(value).to(moved) - moved if is_continuous(value) else torch.zeros_like(value)
        length = norm(direction)
        return norm(taken) / length if length else None


AnySlice = TypeVar("AnySlice", bound=Slice)


class Line(Slice):
    """alpha -> origin + alpha direction."""


class Plane(Slice):
    """(alpha, beta) -> origin + alpha directions[0] + beta directions[1]."""


@own_torch_state()
def random_plane(
    model: nn.Module,
    *,
    seed: int = 42,
    normalize: Normalize | None = "filter",
    ignore: Sequence[str] = ("bias", "norm"),
    orthogonal: bool = False,
    distribution: Distribution = "gaussian",
    rule: int = RULE,
) -> Plane:
    """The plane through the parameters of ``model`` along two random directions, see `random_directions`.

    Example:
        >>> plane = random_plane(torch.nn.Linear(3, 2), seed=0)
        >>> sorted(plane(0.5, -0.5))
        ['bias', 'weight']
    """
    return _random_slice(Plane, "random plane", model, 2, seed, normalize, ignore, orthogonal, distribution, rule)


@own_torch_state()
def random_line(
    model: nn.Module,
    *,
    seed: int = 42,
    normalize: Normalize | None = "filter",
    ignore: Sequence[str] = ("bias", "norm"),
    distribution: Distribution = "gaussian",
    rule: int = RULE,
) -> Line:
    """The line through the parameters of ``model`` along one random direction, see `random_directions`."""
    return _random_slice(Line, "random line", model, 1, seed, normalize, ignore, False, distribution, rule)


def _random_slice(
    slice_type: type[AnySlice],
    kind: str,
    model: nn.Module,
    count: int,
    seed: int,
    normalize: Normalize | None,
    ignore: Sequence[str],
    orthogonal: bool,
    distribution: Distribution,
    rule: int,
) -> AnySlice:
    directions = random_directions(
        model,
        count,
        seed=seed,
        normalize=normalize,
        ignore=ignore,
        orthogonal=orthogonal,
        distribution=distribution,
        rule=rule,
    )
    recipe = {
        "kind": kind,
        "seed": checked_seed(seed),
        "normalize": normalize,
        "ignore": list(ignore),
        "orthogonal": orthogonal,
        "distribution": distribution,
        "rule": rule,
        "not_moved": reasons_not_to_move(model, ignore, rule=rule),
    }
    axes = SliceAxes.random(normalize, count)
    return slice_type(as_point(model), tuple(directions), recipe, 1, Networks.around(model), axes)


@own_torch_state()
def interpolation_line(a: nn.Module | Point, b: nn.Module | Point, *, normalize: Normalize | None = None) -> Line:
    """The line theta(t) = (1 - t) a + t b: a at t = 0, b at t = 1 (Goodfellow et al. 2015, section 3).

    The statistics of BatchNorm follow the policy of the objective, which is "recalibrate" on this line unless told
    otherwise. Other floating-point buffers of the models are interpolated as well, spectral norms are those of the
    weights at every point, and what cannot be interpolated is refused by `evaluate`. Points have no buffers: networks
    with such buffers must be given as models.

    With ``normalize`` the direction b - a is rescaled to the norms of a, see `normalize_direction`: with "filter",
    theta(t) = a + t d with d_f = (b - a)_f |a_f| / |(b - a)_f| for every filter f, so that one unit is as long as on a
    filter-normalised random line. Then t = 1 is **not** b, the line in general misses b, and it counts as a slice
    around a alone: BatchNorm statistics are those of a unless told otherwise.

    Raises:
        InputError: models that do not fit each other or are not finite, an unknown normalisation, or, with one, equal
            models.
    """
    first, held = a, Networks.between((a, b), ((0.0,), (1.0,)))
    a, b = as_point(a), as_point(b)
    check_match(b, a, "second model")
    towards = difference(b, a)
    if normalize is None:
        return Line(a, (towards,), {"kind": "interpolation line"}, 2, held, SliceAxes.between(2))
    direction = normalize_direction(towards, a, normalize)
    if not norm(direction):
        raise InputError("the models are the same wherever the first one is not zero, so no direction is left")
    recipe = {"kind": "normalised interpolation line", "normalize": normalize}
    return Line(a, (direction,), recipe, 1, Networks.around(first), SliceAxes.towards(normalize))


@own_torch_state()
def three_point_plane(a: nn.Module | Point, b: nn.Module | Point, c: nn.Module | Point) -> Plane:
    """The plane through three points: a at (0, 0), b at (1, 0), c at (0, 1) (Garipov et al. 2018, section 3).

    The directions b - a and c - a are not made orthogonal; their cosine is in the metadata of every surface. Buffers
    are treated as on an `interpolation_line`.
    """
    held = Networks.between((a, b, c), ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
    a, b, c = as_point(a), as_point(b), as_point(c)
    check_match(b, a, "second model")
    check_match(c, a, "third model")
    directions, recipe = (difference(b, a), difference(c, a)), {"kind": "three-point plane"}
    plane = Plane(a, directions, recipe, 3, held, SliceAxes.between(3))
    between = plane.geometry["cosine"]
    if not abs(between) < 1 - 1e-9:
        raise InputError("the three points lie on one line (or coincide), so they span no plane")
    return plane


def _change(name: str, a: Tensor, b: Tensor) -> Tensor:
    """a - b, in float32 for half precision, in which the end of a line would miss the second model."""
    if a.device != b.device:
        raise InputError(f"the models are on {b.device} and {a.device} (parameter {name!r}); move them to one device")
    if is_continuous(a) and is_continuous(b):
        return precise(a) - precise(b)
    if a.dtype != b.dtype or not torch.equal(a, b):
        raise InputError(
            f"the parameter {name!r} holds whole numbers or truth values that differ between the models, and nothing "
            "lies between them"
        )
    return torch.zeros_like(a)


def difference(a: Point, b: Point) -> Point:
    """a - b, in float32 for half precision.

    Raises:
        InputError: points that are not finite, on different devices, or whose whole numbers differ.
    """
    changes = {name: _change(name, a[name], b[name]) for name in b}
    if not all(value.isfinite().all() for value in changes.values()):
        raise InputError("a model holds NaN or infinite parameters (did its training diverge?), so no line leads to it")
    return changes
