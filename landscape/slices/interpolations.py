"""Lines and planes through networks."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.points import (
    Point,
    as_point,
    check_match,
    is_continuous,
    norm,
    point_moving,
    precise,
    whole_step,
)
from landscape.results.axes import SliceAxes
from landscape.runtime import own_torch_state
from landscape.runtime.shards import in_shards_of
from landscape.slices.chosen import choice_of, chosen_parameters
from landscape.slices.directions import Normalize, normalize_direction
from landscape.slices.networks import Networks
from landscape.slices.planes import Line, Plane

__all__ = ["agree_elsewhere", "difference", "interpolation_line", "three_point_plane"]


@own_torch_state()
def interpolation_line(
    a: nn.Module | Point,
    b: nn.Module | Point,
    *,
    parameters: str | Sequence[str] | None = None,
    normalize: Normalize | None = None,
) -> Line:
    """The line theta(t) = (1 - t) a + t b: a at t = 0, b at t = 1 (Goodfellow et al. 2015, section 3).

    The statistics of BatchNorm follow the policy of the objective, which is "recalibrate" on this line unless told
    otherwise. Other floating-point buffers of the models are interpolated as well, spectral norms are those of the
    weights at every point, and what cannot be interpolated is refused by `evaluate`. Points have no buffers: networks
    with such buffers must be passed as models.

    With ``parameters`` only those are moved, see `chosen_parameters`; the others stay what they are in a, so that the
    line leads to b only where b has the same, as two fine-tunings of one network do.

    With ``normalize`` the direction b - a is rescaled to the norms of a, see `normalize_direction`: with "filter",
    theta(t) = a + t d with d_f = (b - a)_f |a_f| / |(b - a)_f| for every filter f, so that one unit is as long as on a
    filter-normalised random line. Then t = 1 is **not** b, the line in general misses b, and it counts as a slice
    around a alone: BatchNorm statistics are those of a unless told otherwise.

    Raises:
        InputError: models that do not fit each other or are not finite, an unknown normalisation, or, with one, equal
            models; parameters that choose nothing.

    Warns:
        UserWarning: the networks differ in parameters that are not chosen.
    """
    ends = _Ends.of((a, b), ((0.0,), (1.0,)), parameters)
    (towards,) = ends.differences
    if normalize is None:
        recipe = {"kind": "interpolation line", **ends.choice}
        return Line(ends.origin, (whole_step(towards, ends.origin),), recipe, 2, ends.held, SliceAxes.between(2))
    direction = normalize_direction(towards, {name: ends.origin[name] for name in towards}, normalize)
    if not norm(direction):
        raise InputError("the models are the same wherever the first one is not zero, so no direction is left")
    recipe = {"kind": "normalised interpolation line", "normalize": normalize, **ends.choice}
    axes = SliceAxes.towards(normalize)
    return Line(ends.origin, (whole_step(direction, ends.origin),), recipe, 1, Networks.around(a), axes)


@own_torch_state()
def three_point_plane(
    a: nn.Module | Point,
    b: nn.Module | Point,
    c: nn.Module | Point,
    *,
    parameters: str | Sequence[str] | None = None,
) -> Plane:
    """The plane through three points: a at (0, 0), b at (1, 0), c at (0, 1) (Garipov et al. 2018, section 3).

    The directions b - a and c - a are not made orthogonal; their cosine is in the metadata of every surface. Buffers
    and ``parameters`` are treated as on an `interpolation_line`.

    Raises:
        InputError: The points do not belong to one network, or they lie on one line.
    """
    ends = _Ends.of((a, b, c), ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)), parameters)
    directions = tuple(whole_step(towards, ends.origin) for towards in ends.differences)
    recipe = {"kind": "three-point plane", **ends.choice}
    plane = Plane(ends.origin, directions, recipe, 3, ends.held, SliceAxes.between(3))
    between = plane.geometry["cosine"]
    if not abs(between) < 1 - 1e-9:
        raise InputError("the three points lie on one line (or coincide), so they span no plane")
    return plane


def difference(a: Point, b: Point, names: Iterable[str] | None = None) -> Point:
    """a - b in the parameters ``names`` (all by default), in float32 for half precision.

    Raises:
        InputError: points that are not finite, on different devices, or whose whole numbers differ.
    """
    changes = {name: _change(name, a[name], b[name]) for name in (b if names is None else names)}
    if not all(value.isfinite().all() for value in changes.values()):
        raise InputError("a model holds NaN or infinite parameters (did its training diverge?), so no line leads to it")
    return changes


@dataclass(frozen=True)
class _Ends:
    """Networks that a slice leads through: the first one, and how the others differ from it."""

    origin: Point
    differences: tuple[Point, ...]  # of the parameters that are moved
    held: Networks | None
    choice: dict[str, Any]  # what the recipe tells of chosen parameters

    @classmethod
    def of(
        cls,
        sources: Sequence[nn.Module | Point],
        places: Sequence[tuple[float, ...]],
        parameters: str | Sequence[str] | None,
    ) -> "_Ends":
        held = Networks.between(sources, places)
        first = as_point(sources[0]) if parameters is None else point_moving(sources[0], ())
        others = [point_moving(source, ()) for source in sources[1:]]  # which are read here, and not kept
        for other, what in zip(others, ("second", "third"), strict=False):
            check_match(other, first, f"{what} model")
        if parameters is None:
            return cls(first, tuple(difference(other, first) for other in others), held, {})
        names = chosen_parameters(sources[0], parameters)
        differences = tuple(difference(other, first, names) for other in others)
        if not agree_elsewhere(first, others, set(names)) and held:
            held = held.through_first()
        return cls(point_moving(sources[0], names), differences, held, choice_of(first, names, parameters))


def agree_elsewhere(first: Point, others: Sequence[Point], chosen: set[str]) -> bool:
    """Whether the networks have the same parameters apart from the ``chosen`` ones; if not, the user is warned.

    The warning points at the caller of the function that is three levels up.
    """
    rest = {name: value for name, value in first.items() if name not in chosen}
    differing = [name for name, value in rest.items() if not all(_equal(value, other[name]) for other in others)]
    if differing:
        warnings.warn(
            f"the networks differ in {len(differing)} parameter(s) that are not chosen, first {differing[0]!r}: these "
            "stay those of the first network, so that the slice does not lead through the others",
            stacklevel=5,
        )
    return not differing


def _equal(value: Tensor, other: Tensor) -> bool:
    return torch.equal(value, in_shards_of(other, value).to(value))


def _change(name: str, a: Tensor, b: Tensor) -> Tensor:
    """a - b, in float32 for half precision, in which the end of a line would miss the second model."""
    if a.device != b.device:
        raise InputError(f"the models are on {b.device} and {a.device} (parameter {name!r}); move them to one device")
    a = in_shards_of(a, b)
    if is_continuous(a) and is_continuous(b):
        return precise(a) - precise(b)
    if a.dtype != b.dtype or not torch.equal(a, b):
        raise InputError(
            f"the parameter {name!r} holds whole numbers or truth values that differ between the models, and nothing "
            "lies between them"
        )
    return torch.zeros_like(a)
