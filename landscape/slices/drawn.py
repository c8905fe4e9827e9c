"""Random directions of large networks: drawn anew from their seed, some filters at a time, whenever they are needed."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from landscape.points import as_float64, no_step, precise
from landscape.runtime import own_torch_state
from landscape.slices.directions import Normalize, orthogonal_rows

__all__ = ["Drawing", "DrawnDirection", "Draws", "Rows"]

CHUNK = 2**17  # entries that are drawn at once, in whole filters
TOGETHER = 16  # entries that torch draws together: pieces of multiples of it give the numbers of one whole draw


class Rows(NamedTuple):
    """The entries ``start`` to ``stop`` (exclusive) of a flattened parameter, and those of all directions there."""

    start: int
    stop: int
    steps: list[Tensor]  # [stop - start] of every direction, on the CPU


@dataclass(frozen=True)
class Drawing:
    """How directions are drawn, see `random_directions`."""

    draw: Callable[[torch.Size, torch.Generator], Tensor]
    seed: int
    count: int
    normalize: Normalize | None  # "filter", "layer" or None
    orthogonal: bool

    @property
    def description(self) -> str:
        """Text that distinguishes these directions from others at the same parameters."""
        return f"{self.draw.__name__} {self.seed} {self.count} {self.normalize} {self.orthogonal}"


class Draws:
    """Directions at the parameters ``values`` of a network, of which those of ``names`` are moved.

    Every entry equals that of `random_directions`. Only two things are kept: the state of the generator before each
    parameter, so that each parameter can be drawn by itself, and the norms of all filters, so that the network may be
    moved meanwhile.
    """

    @own_torch_state()
    @torch.no_grad()
    def __init__(self, values: Mapping[str, Tensor], names: Iterable[str], drawing: Drawing):
        self.shapes = {name: value.shape for name, value in values.items()}
        self.kinds = {name: precise(value.new_empty(0)).dtype for name, value in values.items()}
        self.devices = {name: value.device for name, value in values.items()}
        self.drawing = drawing
        self.names, self._scales = list(names), dict[str, Tensor]()
        if drawing.normalize:
            self._scales = {name: self._norms_of(name, values[name]) for name in self.names}
            self.names = [name for name in self.names if bool(self._scales[name].any())]
        self._states: dict[str, Tensor] = {}  # [directions, bytes] of the generator before the parameter is drawn
        self._lengths: dict[str, Tensor] = {}  # [directions, filters] of the directions as they were drawn
        self._measured: set[str] = set()  # names of which these lengths are known

    @own_torch_state()
    @torch.no_grad()
    def rows(self, name: str) -> Iterator[Rows]:
        """All directions at the parameter ``name``, some filters at a time."""
        if not self._states:
            self._learn_states()
        generators, kind = self._generators(name), self.kinds[name]
        columns, spans = self._layout(name)
        room = torch.empty(max((end - begin for begin, end in spans), default=0), columns, dtype=torch.float64)
        for begin, end in spans:
            raw = [self.drawing.draw(torch.Size((end - begin, columns)), generator) for generator in generators]
            if self.drawing.orthogonal:
                raw = orthogonal_rows(raw)
            steps = [step.to(kind) for step in raw]
            for number, step in enumerate(steps if self.drawing.normalize else ()):
                exact, length = room[: end - begin].copy_(step), self._lengths[name][number, begin:end]
                if name not in self._measured:
                    torch.linalg.vector_norm(exact, dim=1, out=length)
                step.copy_(_scaled(exact, length, self._scales[name][begin:end]))
            yield Rows(begin * columns, end * columns, [step.reshape(-1) for step in steps])
        self._measured.add(name)

    @property
    def directions(self) -> list["DrawnDirection"]:
        """All directions as points."""
        return [DrawnDirection(self, number) for number in range(self.drawing.count)]

    def whole(self, number: int, name: str) -> Tensor:
        """Direction ``number`` at the parameter ``name``."""
        if name not in self.names:
            like = torch.empty((), dtype=self.kinds[name], device=self.devices[name])
            return no_step(like.expand(self.shapes[name]))
        direction = torch.empty(self.shapes[name], dtype=self.kinds[name], device="cpu")
        flat = direction.view(-1)
        for rows in self.rows(name):
            flat[rows.start : rows.stop] = rows.steps[number]
        return direction.to(self.devices[name])

    def _generators(self, name: str) -> list[torch.Generator]:
        """One generator for every direction, in the state from which the parameter ``name`` is drawn."""
        generators = [torch.Generator(device="cpu") for _ in range(self.drawing.count)]
        for generator, state in zip(generators, self._states[name], strict=True):
            generator.set_state(state.clone())  # set_state takes no views
        return generators

    def _learn_states(self) -> None:
        """Draw all directions once, to learn the states of the generator in between.

        All memory that is kept is allocated at once: small blocks between large temporary ones would fragment the heap.
        """
        generator, count = torch.Generator(device="cpu").manual_seed(self.drawing.seed), self.drawing.count
        states = torch.empty(len(self.names), count, len(generator.get_state()), dtype=torch.uint8)
        states_of = dict(zip(self.names, states, strict=True))
        filters = [len(self._scales.get(name, ())) for name in self.names]
        lengths = torch.zeros(count, sum(filters), dtype=torch.float64)
        self._lengths = dict(zip(self.names, lengths.split(filters, dim=1), strict=True))
        for number in range(count):
            for name in self.shapes:
                if name in states_of:
                    states_of[name][number] = generator.get_state()
                columns, spans = self._layout(name)
                for begin, end in spans:
                    self.drawing.draw(torch.Size((end - begin, columns)), generator)
        self._states = states_of

    def _layout(self, name: str) -> tuple[int, list[tuple[int, int]]]:
        """The number of entries of a filter of ``name``, and the range (first, end) of the filters of every piece."""
        shape = self.shapes[name]
        single = len(shape) < 2 or self.drawing.normalize == "layer"
        columns = max(1, shape.numel() if single else math.prod(shape[1:]))
        count = shape.numel() // columns
        if not count:
            return columns, []
        unit = TOGETHER // math.gcd(TOGETHER, columns)
        step = max(unit, CHUNK // columns // unit * unit)
        edges = list(range(0, count, step))
        if len(edges) > 1 and (count - edges[-1]) * columns < TOGETHER:  # torch draws fewer numbers in another way
            edges.pop()
        return columns, list(zip(edges, [*edges[1:], count], strict=True))

    def _norms_of(self, name: str, value: Tensor) -> Tensor:
        """The norms of the filters of the parameter ``value``, [filters] in float64."""
        columns, spans = self._layout(name)
        rows = value.detach().reshape(-1, columns)
        norms = torch.zeros(len(rows), dtype=torch.float64)
        for begin, end in spans:
            torch.linalg.vector_norm(as_float64(rows[begin:end].cpu()), dim=1, out=norms[begin:end])
        return norms


class DrawnDirection(dict[str, Tensor]):
    """Direction ``number`` of `Draws` as a point; a parameter is drawn when it is first read, and kept from then on."""

    def __init__(self, draws: Draws, number: int):
        super().__init__()
        self.draws, self.number = draws, number

    def __missing__(self, name: str) -> Tensor:
        if name not in self.draws.shapes:
            raise KeyError(name)
        self[name] = self.draws.whole(self.number, name)
        return self[name]

    def __contains__(self, name: object) -> bool:
        return name in self.draws.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.draws.shapes)

    def __len__(self) -> int:
        return len(self.draws.shapes)

    def keys(self) -> Any:
        return self.draws.shapes.keys()

    def values(self) -> Any:
        return [self[name] for name in self]

    def items(self) -> Any:
        return [(name, self[name]) for name in self]


def _scaled(rows: Tensor, lengths: Tensor, scales: Tensor) -> Tensor:
    """``rows`` [filters, entries] of norms ``lengths``, scaled in place to the norms ``scales``; zero rows stay."""
    rows.div_(lengths[:, None]).mul_(scales[:, None])
    return rows if lengths.all() else rows.masked_fill_(lengths[:, None] == 0, 0.0)
