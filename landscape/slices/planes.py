"""Slices of parameter space (lines and planes): maps from coordinates to points, with the recipe that rebuilds them."""

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from landscape.checks import check_type
from landscape.errors import InputError, InputTypeError
from landscape.points import (
    Point,
    SharedPoint,
    check_match,
    in_precision,
    is_continuous,
    is_no_step,
    is_step,
    precise,
    whole_step,
)
from landscape.presenting import Presented
from landscape.results.axes import SliceAxes
from landscape.runtime import own_torch_state
from landscape.runtime.shards import in_shards_of, own_shard
from landscape.slices.drawn import CHUNK, DrawnDirection, Draws, Rows
from landscape.slices.flights import Flight
from landscape.slices.lengths import geometry_of
from landscape.slices.networks import Networks
from landscape.storage.provenance import fingerprint

__all__ = [
    "Line",
    "Plane",
    "Slice",
    "check_slice",
]

AnySlice = TypeVar("AnySlice", bound="Slice")


@dataclass(frozen=True, eq=False, repr=False)
class Slice(Presented):
    """The affine map (c_1, ..., c_k) -> origin + sum_i c_i directions[i].

    Statistics and other buffers belong to a network, so a slice records the number of networks it goes through: one if
    it lies around a point, several if it leads from one network to another. For a slice made by hand the number is
    unknown, and an evaluation whose result depends on it asks for it: ``Line(a, (direction,), networks=1)``, or
    ``networks=2`` if the line leads to another network.

    If only some parameters are chosen, the others are not copied: the origin and all points share them with the
    network.
    """

    origin: Point
    directions: tuple[Point, ...]
    recipe: dict[str, Any] = field(default_factory=dict)  # kind, seed, ...: what rebuilds the slice; JSON types only
    networks: int | None = None  # number of networks it goes through; None if unknown
    held: Networks | None = None  # the buffers of these networks; None if unknown, for example if points were passed
    axes: SliceAxes = field(default_factory=SliceAxes)  # units of the coordinates, and the models on the slice

    def __post_init__(self) -> None:
        for direction in self.directions:
            if isinstance(direction, DrawnDirection):
                continue  # it is drawn in the shapes of the origin
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

    @cached_property
    def draws(self) -> Draws | None:
        """The random draws that give the directions whenever they are needed; None if directions are in memory."""
        first = self.directions[0] if self.directions else None
        return first.draws if isinstance(first, DrawnDirection) else None

    @property
    def dimension(self) -> int:
        """The number of coordinates of a point."""
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
            if all(is_no_step(direction[name]) for direction in self.directions):
                point[name] = value  # shared, as in the origin
                continue
            if not is_continuous(value):  # whole numbers never move
                point[name] = value.clone()
                continue
            total = precise(value)
            for number, (coordinate, direction) in enumerate(zip(coordinates, self.directions, strict=True)):
                step = in_shards_of(direction[name], value)
                total = torch.add(total, step, alpha=coordinate, out=total if number else None)
            point[name] = total.to(value)
        return point

    def check_coordinates(self, coordinates: tuple[float, ...]) -> None:
        """Raise InputTypeError unless there is one coordinate for each direction."""
        if len(coordinates) != self.dimension:
            raise InputTypeError(f"this slice takes {self.dimension} coordinate(s), not {len(coordinates)}")

    @own_torch_state()
    def to(self: AnySlice, dtype: torch.dtype) -> AnySlice:
        """The same slice with origin and directions in ``dtype``."""
        origin, *directions = (
            {name: in_precision(value, dtype) for name, value in point.items()}
            for point in (self.origin, *self.directions)
        )
        return replace(self, origin=origin, directions=tuple(directions))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the origin, the directions and the buffers that vary; equal for equal slices only."""
        if self.draws:  # the directions follow from the origin and the settings of the draws
            drawn = f"{fingerprint(self.origin.values())} {self.draws.names} {self.draws.drawing.description}"
            return hashlib.sha256(drawn.encode()).hexdigest()
        directions = [
            value.as_strided((), ()) if is_no_step(value) else value
            for direction in self.directions
            for value in direction.values()
        ]
        return fingerprint([*self.origin.values(), *directions, *self._varying])

    @property
    def is_partial(self) -> bool:
        """Whether this slice was made of points that hold only the chosen parameters, see `within`."""
        return "rest" in self.recipe

    def within(self: AnySlice, network: Point) -> AnySlice:
        """This slice with the parameters of ``network`` added, if its points hold only the chosen parameters.

        Warns:
            UserWarning: the added parameters differ from those that the network had when the points were recorded.
        """
        if not self.is_partial or not self.origin.keys() < network.keys():
            return self
        rest = {name: value for name, value in network.items() if name not in self.origin}
        if fingerprint(rest.values()) != self.recipe["rest"]:
            warnings.warn(
                f"{len(rest)} parameters were not recorded, first {next(iter(rest))!r}, and the network of this "
                "objective has other values there than the recorded run had at its first point: the losses are those "
                "with its values",
                stacklevel=3,
            )
        origin = {name: self.origin.get(name, value) for name, value in network.items()}
        return replace(
            self,
            origin=SharedPoint(origin, rest),
            directions=tuple(whole_step(direction, origin) for direction in self.directions),
        )

    def check_unchanged(self) -> None:
        """Raise InputError if the network that this slice shares parameters with has changed since it was made."""
        if isinstance(self.origin, SharedPoint):
            self.origin.check_unchanged()

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
        """Names of the parameters that at least one direction changes."""
        if self.draws:
            return list(self.draws.names)
        return [name for name in self.origin if any(is_step(direction[name]) for direction in self.directions)]

    @cached_property
    def not_moved(self) -> dict[str, list[str]]:
        """Names of the parameters that no direction changes, by reason.

        The reasons are those of `ignored_parameters`, "whole numbers" (parameters of an integer type), and "zero"
        (every direction is zero there, for example because filter normalisation gives it the norm of zero weights).
        """
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
    def geometry(self) -> dict[str, Any]:
        """Lengths of origin and directions, and the angle between these, see `geometry_of`."""
        return geometry_of(self)

    @torch.no_grad()
    def rows(self, name: str) -> Iterator[Rows]:
        """All directions at ``name``, in pieces of at most `CHUNK` entries; those of this rank, if it is in shards."""
        if self.draws:
            yield from self.draws.rows(name)
            return
        steps = [own_shard(direction[name]).reshape(-1) for direction in self.directions]
        for start in range(0, len(steps[0]), CHUNK):
            stop = min(start + CHUNK, len(steps[0]))
            yield Rows(start, stop, [step[start:stop] for step in steps])


class Line(Slice):
    """The line alpha -> origin + alpha directions[0]."""


class Plane(Slice):
    """The plane (alpha, beta) -> origin + alpha directions[0] + beta directions[1]."""

    def flight(self, other: "Plane", *, steps: int = 24) -> Sequence["Plane"]:
        """``steps`` planes from this one to ``other`` around their common origin, for a film of their surfaces.

        The directions of all of them are orthogonal and as long as the first direction of this plane, so that a
        coordinate is the same distance everywhere. Those of the first plane are the directions of this plane, and
        those of the last plane the directions of ``other``, the second one made orthogonal to the first and perhaps
        reversed; in between the plane turns by equal angles, see `axes_between`. Each plane is made when it is read, so
        that they do not fill the memory.

        Raises:
            InputError: the planes have different origins, one of them has parallel directions, or there are fewer
                than two steps.

        Example:
            >>> origin = {"w": torch.zeros(3)}
            >>> x, y, z = ({"w": row} for row in torch.eye(3))
            >>> planes = Plane(origin, (x, y)).flight(Plane(origin, (x, z)), steps=3)
            >>> [[round(float(value), 3) for value in plane(0, 1)["w"]] for plane in planes]
            [[0.0, 1.0, 0.0], [0.0, 0.707, 0.707], [0.0, 0.0, 1.0]]
        """
        check_type(other, Plane, "plane.flight(other)", "a plane, such as ll.eigenvector_plane(product)")
        axes = SliceAxes(("units of the length of the first plane's first direction",) * 2, self.axes.models)
        return Flight(replace(self, axes=axes), other, steps)


def check_slice(value: object, call: str) -> None:
    """Raise InputTypeError unless ``value`` is a slice, as ``call`` needs; the message shows how to make one."""
    check_type(value, Slice, call, "a plane or a line, such as ll.random_plane(model)")
