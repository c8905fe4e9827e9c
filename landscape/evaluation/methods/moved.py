"""The moved parameters of a network as one vector, so that many points are one matrix product."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from landscape.objective.objectives import Objective
from landscape.points import Point
from landscape.slices.planes import Slice

__all__ = ["Block", "MovedParameters"]

STACK_BYTES = 64 * 2**20  # weights of the points of one block, side by side
MOST_POINTS = 4096  # of one block


@dataclass(eq=False)
class Block:
    """The moved parameters at the points of a block, which all threads read."""

    stack: Tensor  # [K, P]
    constants: list[dict[Any, list[Tensor]]] = field(init=False)  # at each point, by compiled pass

    def __post_init__(self) -> None:
        self.constants = [{} for _ in self.stack]


class MovedParameters:
    """origin + sum_i c_i directions[i] at K points, [K, P], over the parameters ``names`` of the network.

    Every parameter starts at an even place of the vector, where torch can view pairs of numbers as complex ones. Of
    networks so large that a block is one point, neither origin nor directions are copied, and one vector serves all
    points.
    """

    def __init__(self, objective: Objective, slice_: Slice, names: Sequence[str]):
        self.slice, self.names = slice_, list(names)
        self._attach(objective)
        self.sizes = [(parameter.numel(), parameter.numel() % 2) for parameter in self.parameters.values()]
        self.size = sum(map(sum, self.sizes))
        self._vectors: tuple[Tensor, Tensor] | None = None  # origin [P] and directions [D, P]
        self._stack: Tensor | None = None
        if self.largest_block > 1:
            rows = self._in_rows(slice_.origin, *slice_.directions)
            self._vectors = rows[0], rows[1:]

    def twin(self, objective: Objective) -> "MovedParameters":
        """The same vectors, which are most of the memory of large networks, for the network of ``objective``."""
        twin = object.__new__(MovedParameters)
        vars(twin).update(vars(self), _stack=None)
        twin._attach(objective)
        return twin

    @property
    def largest_block(self) -> int:
        """The number of points that fit into one block."""
        return max(1, min(MOST_POINTS, STACK_BYTES // max(1, self.size * self.objective.dtype.itemsize)))

    def at(self, weights: Tensor) -> Tensor:
        """The parameters [K, P] at points with the ``weights`` [K, directions] of the directions, until the next call.

        Networks of which a block is one point get these one by one.
        """
        if self._vectors:
            origin, directions = self._vectors
            return torch.addmm(origin, weights.to(origin), directions)
        if self._stack is None:
            self._stack = self._in_rows()
        [factors] = weights.tolist()
        for name, piece in self._split(self._stack[0]).items():
            total = self.slice.origin[name].to(piece)
            for factor, direction in zip(factors, self.slice.directions, strict=True):
                total = torch.add(total, direction[name].to(piece), alpha=factor, out=piece)
        return self._stack

    def put(self, values: Tensor) -> None:
        """Put the parameters ``values`` [P] into the network."""
        pieces = self.pieces(values)
        if self.objective.overwrites:
            self.objective.network.place({**self.slice.origin, **pieces})
            return
        for name, value in pieces.items():
            self.parameters[name].data = value

    def pieces(self, stack: Tensor) -> dict[str, Tensor]:
        """The parameters by name that are in ``stack`` [..., P]: views, or rounded to half precision."""
        return {name: piece.to(self.kinds[name]) for name, piece in self._split(stack).items()}

    def _split(self, stack: Tensor) -> dict[str, Tensor]:
        pieces = stack.split([*itertools.chain.from_iterable(self.sizes)], dim=-1)[::2]
        return {
            name: piece.view((*stack.shape[:-1], *parameter.shape))
            for (name, parameter), piece in zip(self.parameters.items(), pieces, strict=True)
        }

    @contextlib.contextmanager
    def replaced(self, weights: dict[str, Tensor]) -> Iterator[None]:
        """Put ``weights`` wherever a module holds the parameters of these names, and put those back."""
        try:
            for held, key, name in self.places:
                held[key] = weights[name]
            yield
        finally:
            for held, key, name in self.places:
                held[key] = self.parameters[name]

    def _attach(self, objective: Objective) -> None:
        self.objective = objective
        parameters = dict(objective.model.named_parameters())
        self.parameters = {name: parameters[name] for name in self.names}
        self.kinds = {name: parameter.dtype for name, parameter in self.parameters.items()}
        names = {id(parameter): name for name, parameter in self.parameters.items()}
        self.places: list[tuple[dict[str, Any], str, str]] = [
            (module._parameters, key, names[id(parameter)])
            for module in objective.model.modules()
            for key, parameter in module._parameters.items()
            if id(parameter) in names
        ]

    def _in_rows(self, *points: Point) -> Tensor:
        """The parameters of every point as one vector, [points, P]; without any, room for one."""
        rows = torch.zeros(max(1, len(points)), self.size, dtype=self.objective.dtype, device=self.objective.device)
        for row, point in zip(rows, points, strict=False):
            for name, piece in self._split(row).items():
                piece.copy_(point[name])
        return rows
