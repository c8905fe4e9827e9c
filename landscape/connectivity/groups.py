"""Groups of units that can be permuted, derived from the relations between the units of a network.

A permutation of units leaves the function of a network unchanged if it respects all relations, that is, if children
move with their parents. Therefore units are ordered along axes: a child lies along the axes of its parents and, if
these do not distinguish it, along one of its own. For example, the heads of an attention layer form an axis, and the
dimensions of a head form an axis within it. Units can be permuted along every axis in any way, and differently for each
place on the axes within which it lies.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal, NoReturn

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from landscape.connectivity.units import PINNED, SAME, Units
from landscape.errors import InputError

__all__ = ["Axis", "Group", "Place", "Positions", "Reading", "groups_of"]


@dataclass(frozen=True)
class Place:
    """An axis of a parameter or buffer."""

    tensor: str
    axis: int


@dataclass(frozen=True)
class Reading:
    """The input ("read") or output ("made") of a layer."""

    call: int  # the number of the layer call in the forward pass
    side: Literal["read", "made"] = "read"


@dataclass(frozen=True)
class Axis:
    """Units that can be permuted in any way, separately for each place on the axes within which they lie."""

    name: str
    size: int
    within: tuple[int, ...] = ()  # numbers of these axes in the group


@dataclass(frozen=True, eq=False)
class Positions:
    """The positions of units along an axis of a tensor."""

    axes: tuple[int, ...]  # numbers of the axes of the group along which the units are ordered
    index: np.ndarray  # [sizes of the axes, r]: the r positions of each unit


@dataclass(frozen=True, eq=False)
class Group:
    """Units whose permutations along the axes leave the function unchanged, if carried out at all places."""

    axes: list[Axis]
    places: dict[Place, list[Positions]] = field(default_factory=dict)  # where parameters and buffers hold the units
    readings: dict[Reading, list[Positions]] = field(default_factory=dict)  # where inputs and outputs of layers do

    @property
    def name(self) -> str:
        """The name of the first layer that makes the units."""
        return self.axes[0].name


@dataclass(eq=False)
class _Class:
    """Units that no relation distinguishes, ordered along axes."""

    members: np.ndarray  # units in C order along the axes
    axes: tuple[int, ...]  # numbers of the axes


def groups_of(units: Units, held: dict[Place | Reading, np.ndarray]) -> list[Group]:
    """The groups of ``units``, of which ``held`` names those along each axis of tensors and activations.

    Raises:
        InputError: Units are combined with each other in a way that no order along axes describes.
    """
    return _Ordering(units, held).groups()


class _Ordering:
    """The search for classes of equivalent units, and for the axes along which they are ordered."""

    def __init__(self, units: Units, held: dict[Place | Reading, np.ndarray]):
        self.units = units
        self.relations = _closed(units)
        self.held = {key: units.root[codes] for key, codes in held.items()}
        self.pinned = units.pinned[units.root]
        self.pinned[[SAME, PINNED]] = True
        self.met: set[tuple[int, ...]] = set()

    def groups(self) -> list[Group]:
        while True:
            colours = self._colours()
            numbers, sizes = np.unique(colours, return_counts=True)
            self.pinned[np.isin(colours, numbers[sizes == 1])] = True  # it is the only unit of its kind
            if (classes := self._classes(colours)) is not None:
                return self._grouped(classes)

    def _colours(self) -> np.ndarray:
        """A number for each unit, equal for units that neither tensors nor relations distinguish.

        This is colour refinement (Weisfeiler and Leman 1968) with hashes as colours.
        """
        size = len(self.units.root)
        colours = np.where(self.pinned, _mixed(np.arange(size) + 1), np.uint64(0))
        for number, codes in enumerate(self.held.values()):
            often = np.bincount(codes, minlength=size)
            colours += np.where((often > 0) & ~self.pinned, _mixed(often + _mixed(number)), np.uint64(0))
        kinds = 0
        while kinds < (kinds := len(np.unique(colours))):
            more = np.zeros(size, np.uint64)
            for number, (children, parents) in enumerate(self.relations):
                np.add.at(more, children, _mixed(colours[parents] + _mixed(2 * number)))
                np.add.at(more, parents, _mixed(colours[children] + _mixed(2 * number + 1)))
            colours = np.where(self.pinned, colours, _mixed(colours + more))
        return colours

    def _classes(self, colours: np.ndarray) -> list[_Class] | None:
        """Every class, ordered along axes; None if units had to be related or pinned, so that colours have changed."""
        movable = ~self.pinned & (self.units.root == np.arange(len(self.pinned)))
        self.axes: list[tuple[int, tuple[int, ...]]] = []  # size and axes within which it lies
        self.rank = self._ranks()
        pending = {int(colour): np.flatnonzero(movable & (colours == colour)) for colour in np.unique(colours[movable])}
        above = self._parents(pending, colours)
        self.placed: dict[int, _Class] = {}
        while pending:
            ready = [key for key in pending if not any(parent in pending for parent, _ in above[key])]
            if not ready:  # classes depend on each other in a circle
                self._refuse(np.concatenate(list(pending.values())), [])
            for key in sorted(ready, key=lambda key: int(self.rank[pending[key]].min())):
                placed = self._placed(pending.pop(key), above[key])
                if placed is None:
                    return None
                self.placed[key] = placed
        return list(self.placed.values())

    def _ranks(self) -> np.ndarray:
        """A rank for each unit: by the first tensor that holds it and its position there, else by its number."""
        size = len(self.units.root)
        ranks = np.arange(size) + 2**50
        for number, codes in reversed(list(enumerate(self.held.values()))):
            first = np.full(size, 2**50)
            np.minimum.at(first, codes, np.arange(len(codes)))
            ranks = np.where(first < 2**50, first + number * 2**25, ranks)
        return ranks

    def _parents(self, members: dict[int, np.ndarray], colours: np.ndarray) -> dict[int, list[tuple[int, np.ndarray]]]:
        """For every class the classes of its parents, with the parent of each member."""
        above: dict[int, list[tuple[int, np.ndarray]]] = {key: [] for key in members}
        for children, parents in self.relations:
            movable = ~self.pinned[children] & ~self.pinned[parents]
            children, parents = children[movable], parents[movable]
            for key in np.unique(colours[children]):
                order = np.searchsorted(children, members[int(key)])
                mine = parents[order]
                if not any(np.array_equal(mine, others) for _, others in above[int(key)]):
                    above[int(key)].append((int(colours[mine[0]]), mine))
        return above

    def _placed(self, members: np.ndarray, above: list[tuple[int, np.ndarray]]) -> _Class | None:
        """The ``members`` along the axes of their parents and, if these do not distinguish them, along a new axis.

        None if the parents had to be related to new units first.
        """
        along: dict[int, np.ndarray] = {}
        fits = True
        for key, parents in above:
            parent = self.placed[key]
            number = np.empty(len(self.pinned), np.int64)
            number[parent.members] = np.arange(len(parent.members))
            sizes = [self.axes[axis][0] for axis in parent.axes]
            for axis, index in zip(parent.axes, np.unravel_index(number[parents], sizes), strict=True):
                fits &= axis not in along or np.array_equal(along[axis], index)
                along[axis] = index
        base = tuple(sorted(along))
        sizes = [self.axes[axis][0] for axis in base]
        flat = np.ravel_multi_index([along[axis] for axis in base], sizes) if base else np.zeros(len(members), int)
        each, rest = divmod(len(members), int(np.prod(sizes)))
        if not fits or rest or not (np.bincount(flat, minlength=int(np.prod(sizes))) == each).all():
            if not self._meet(members, [parents for _, parents in above]):
                self._refuse(members, [parents for _, parents in above])
            return None
        if each > 1:
            self.axes.append((each, base))
            base = (*base, len(self.axes) - 1)
        return _Class(members[np.lexsort((self.rank[members], flat))], base)

    def _meet(self, members: np.ndarray, parents: list[np.ndarray]) -> bool:
        """Relate each set of parents that are connected by common children to a new unit, their parent.

        Returns:
            Whether there are such sets, apart from one set of all parents.
        """
        size = len(self.units.root)
        for first, second in combinations(range(len(parents)), 2):
            key = (int(members.min()), first, second)
            if key in self.met:
                continue
            self.met.add(key)
            graph = coo_matrix((np.ones(len(members)), (parents[first], parents[second])), shape=(size, size))
            component = connected_components(graph, directed=False)[1]
            numbers = np.unique(component[parents[first]])
            if len(numbers) == 1:
                continue
            sets = self.units.fresh(len(numbers))
            self.pinned = np.append(self.pinned, np.full(len(numbers), False))
            for each in (parents[first], parents[second]):
                children = np.unique(each)
                self.relations.append((children, sets[np.searchsorted(numbers, component[children])]))
            return True
        return False

    def _refuse(self, members: np.ndarray, parents: list[np.ndarray]) -> NoReturn:
        units = np.concatenate([members, *parents])
        name = next(
            (k.tensor for k, codes in self.held.items() if isinstance(k, Place) and np.isin(units, codes).any()), ""
        )
        raise InputError(
            f"cannot align: units of {name!r} are combined with one another, not each with its own (broadcasting units "
            "against units)"
        )

    def _grouped(self, classes: list[_Class]) -> list[Group]:
        """The groups: axes belong together if one lies within the other, or if units are ordered along both."""
        owner = {int(unit): each for each in classes if each.axes for unit in each.members}
        positions: dict[Place | Reading, list[Positions]] = {}
        for key, codes in self.held.items():
            present = dict.fromkeys(owner[int(unit)] for unit in np.unique(codes) if int(unit) in owner)
            positions[key] = [self._positions(codes, each) for each in present]
        linked = [(axis, outer) for axis, (_, within) in enumerate(self.axes) for outer in within]
        linked += [pair for parts in positions.values() for each in parts for pair in combinations(each.axes, 2)]
        component = _components(len(self.axes), linked)
        groups = []
        for number in np.unique(component):
            axes = np.flatnonzero(component == number).tolist()
            mine = {key: [each for each in parts if each.axes[0] in axes] for key, parts in positions.items()}
            if any(parts for key, parts in mine.items() if isinstance(key, Place)):
                groups.append(self._group(axes, {key: parts for key, parts in mine.items() if parts}))
        first = {key: number for number, key in enumerate(self.held)}
        return _with_own_names(sorted(groups, key=lambda group: min(first[key] for key in group.places)))

    def _positions(self, codes: np.ndarray, each: _Class) -> Positions:
        order = np.argsort(codes, kind="stable")
        places = order[np.isin(codes[order], each.members)]
        rows = places.reshape(len(each.members), -1)  # of the members in the order of their numbers
        rows = rows[np.argsort(np.argsort(each.members))]
        return Positions(each.axes, rows.reshape(*(self.axes[axis][0] for axis in each.axes), -1))

    def _group(self, axes: list[int], positions: dict[Place | Reading, list[Positions]]) -> Group:
        local = {axis: number for number, axis in enumerate(axes)}
        names: dict[int, str] = {}
        for key, parts in positions.items():
            if isinstance(key, Place):
                for axis in (axis for each in parts for axis in each.axes):
                    names.setdefault(axis, key.tensor.rpartition(".")[0] or key.tensor)
        outer = {axis for _, within in (self.axes[axis] for axis in axes) for axis in within}
        of_group = []
        for axis in axes:
            size, within = self.axes[axis]
            kind = "blocks of " if axis in outer else "inside " if within else ""
            of_group.append(Axis(kind + names[axis], size, tuple(local[each] for each in within)))
        renumbered = {
            key: [Positions(tuple(local[axis] for axis in each.axes), each.index) for each in parts]
            for key, parts in positions.items()
        }
        places = {key: parts for key, parts in renumbered.items() if isinstance(key, Place)}
        readings = {key: parts for key, parts in renumbered.items() if isinstance(key, Reading)}
        return Group(of_group, places, readings)


def _closed(units: Units) -> list[tuple[np.ndarray, np.ndarray]]:
    """All relations of ``units``, after the parents of one child are joined and the parents of pinned units pinned."""
    while True:
        relations = [np.unique(units.root[np.stack(pair)], axis=1) for pair in units.relations if len(pair[0])]
        before = units.root
        for children, parents in relations:
            repeated = np.flatnonzero(children[1:] == children[:-1])
            units.join(parents[repeated], parents[repeated + 1])
        if units.root is before:
            closed = [(children, parents) for children, parents in relations]
            _pin_parents(units.pinned, closed)
            return closed


def _pin_parents(pinned: np.ndarray, relations: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Pin the parents of pinned children, until there are no more."""
    count = -1
    while count != (count := int(pinned.sum())):
        for children, parents in relations:
            pinned[parents[pinned[children]]] = True


def _components(count: int, linked: list[tuple[int, int]]) -> np.ndarray:
    rows, columns = np.array(linked, int).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    component: np.ndarray = connected_components(graph, directed=False)[1]
    return component


def _mixed(numbers: np.ndarray | int) -> np.ndarray:
    """Hashes of 64 bits of ``numbers``, by splitmix64 (Steele et al. 2014, "Fast Splittable Pseudorandom Number
    Generators")."""
    with np.errstate(over="ignore"):
        mixed: np.ndarray = np.asarray(numbers).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def _with_own_names(groups: list[Group]) -> list[Group]:
    """The groups, with a number appended to the names of axes that occur again."""
    occurrences: dict[str, int] = defaultdict(int)
    for group in groups:
        for number, axis in enumerate(group.axes):
            occurrences[axis.name] += 1
            if occurrences[axis.name] > 1:
                group.axes[number] = replace(axis, name=f"{axis.name} ({occurrences[axis.name]})")
    return groups
