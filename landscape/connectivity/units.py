"""An algebra of units: the units that the elements of an activation hold, and the relations between units.

A unit is a number. Elements that can only be permuted together hold the same unit. A unit that moves with another one
is its child: the entries of a query are children of their head, and a head is a child of the group whose key it shares.
The operations of a network act on units in a few ways:

- `Units.join`: units that meet at one element become one unit.
- `Units.relate`: every child has one parent, and moves with it.
- `Units.combine`: factors that vary along different axes become one factor, whose units are children of theirs.
- `Units.reduce`: units that are summed, in any order, become children of one block.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

__all__ = ["PINNED", "SAME", "Factor", "Units"]

SAME, PINNED = 0, 1  # elements with one value for all units, and elements that cannot be permuted


@dataclass(frozen=True, eq=False)
class Factor:
    """Units that vary along the named axes and are constant along all others."""

    axes: tuple[str, ...]
    codes: np.ndarray  # the units, with one axis for each of ``axes``

    def aligned(self, axes: Sequence[str]) -> np.ndarray:
        """The codes with their axes in the order of ``axes``, of length one for axes along which they are constant."""
        codes = self.codes.transpose([self.axes.index(axis) for axis in axes if axis in self.axes])
        return np.expand_dims(codes, tuple(k for k, axis in enumerate(axes) if axis not in self.axes))


class Units:
    """All units, with the joins and relations between them."""

    def __init__(self) -> None:
        self.root = np.arange(2)  # unit -> the unit that represents all units joined with it
        self.pinned = np.array([False, True])  # unit -> whether it cannot be permuted
        self.relations: list[tuple[np.ndarray, np.ndarray]] = []  # children and their parents, one entry a relation

    def fresh(self, *sizes: int, pinned: bool = False) -> np.ndarray:
        """New units in an array of shape ``sizes``."""
        first, count = len(self.root), int(np.prod(sizes))
        new = np.arange(first, first + count)
        self.root = np.append(self.root, new)
        self.pinned = np.append(self.pinned, np.full(count, pinned))
        return new.reshape(sizes)

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        """Join the units at equal places of both arrays; units that meet `PINNED` are pinned."""
        first, second = (self.root[codes] for codes in np.broadcast_arrays(first, second))
        differ = (first != second) & (first != SAME) & (second != SAME)
        if not differ.any():
            return
        one, other = first[differ], second[differ]
        alone = (one == PINNED) | (other == PINNED)
        self.pinned[np.maximum(one, other)[alone]] = True
        one, other = one[~alone], other[~alone]
        if len(one):
            count = len(self.root)
            graph = coo_matrix((np.ones(len(one)), (one, other)), shape=(count, count))
            component = connected_components(graph, directed=False)[1]
            least = np.full(component.max() + 1, count)
            np.minimum.at(least, component, np.arange(count))
            self.root = least[component][self.root]
            np.logical_or.at(self.pinned, self.root, self.pinned.copy())

    def relate(self, children: np.ndarray, parents: np.ndarray) -> None:
        """Make ``children`` move with their ``parents``; two parents of one child are joined."""
        children, parents = (self.root[codes].ravel() for codes in np.broadcast_arrays(children, parents))
        are_units = (children > PINNED) & (parents > PINNED)
        pairs = np.unique(np.stack([children[are_units], parents[are_units]]), axis=1)
        self.relations.append((pairs[0], pairs[1]))
        repeated = np.flatnonzero(pairs[0][1:] == pairs[0][:-1])
        self.join(pairs[1][repeated], pairs[1][repeated + 1])

    def combine(self, factors: Iterable[Factor]) -> Factor | None:
        """The units of a product of ``factors``; None if none of them can be permuted."""
        merged = self._merged(factors)
        moving = [factor for factor in merged if not self.pinned[self.root[factor.codes[factor.codes != SAME]]].all()]
        axes = tuple(dict.fromkeys(axis for factor in moving for axis in factor.axes))
        if not axes:
            return None
        whole = next((factor for factor in moving if set(factor.axes) == set(axes)), None)
        others = [self._within(factor, axes) for factor in merged if factor is not whole]
        aligned = [factor.aligned(axes) for factor in others if factor.axes]
        shape = np.broadcast_shapes(*(codes.shape for codes in aligned), whole.aligned(axes).shape if whole else ())
        codes = whole.aligned(axes) if whole else self.fresh(*shape)
        if aligned and (codes == SAME).any():
            codes = np.where(codes == SAME, self.fresh(*shape), codes)
        for parents in aligned:
            self.relate(codes, parents)
        return Factor(axes, codes)

    def _merged(self, factors: Iterable[Factor]) -> list[Factor]:
        """One factor for each set of axes: the units of factors with the same axes are joined."""
        by_axes: dict[frozenset[str], Factor] = {}
        for factor in factors:
            codes = self.root[factor.codes]
            if (codes == PINNED).any():  # each of these elements becomes a pinned unit of its own
                codes = np.where(codes == PINNED, self.fresh(*codes.shape, pinned=True), codes)
            key = frozenset(factor.axes)
            if earlier := by_axes.get(key):
                codes = Factor(factor.axes, codes).aligned(earlier.axes)
                self.join(earlier.codes, codes)
                by_axes[key] = Factor(earlier.axes, np.where(earlier.codes == SAME, codes, earlier.codes))
            else:
                by_axes[key] = Factor(factor.axes, codes)
        return list(by_axes.values())

    def _within(self, factor: Factor, axes: Sequence[str]) -> Factor:
        """The ``factor``, or if it varies along further axes, pinned units along those of its axes in ``axes``."""
        inside = tuple(axis for axis in factor.axes if axis in axes)
        if len(inside) == len(factor.axes):
            return factor
        sizes = (factor.codes.shape[factor.axes.index(axis)] for axis in inside)
        return Factor(inside, self.fresh(*sizes, pinned=True))

    def reduce(self, factor: Factor, axes: Iterable[str]) -> Factor | None:
        """The blocks of the units that a sum over ``axes`` adds up; None if there is only one block."""
        over = [axis for axis in factor.axes if axis in axes]
        rest = tuple(axis for axis in factor.axes if axis not in axes)
        if not over:
            return factor
        codes = self.root[factor.aligned((*rest, *over))]
        rows = np.sort(codes.reshape(int(np.prod(codes.shape[: len(rest)])), -1), axis=1)
        distinct, number = np.unique(rows, axis=0, return_inverse=True)
        blocks = self.fresh(len(distinct), pinned=len(distinct) == 1)
        for count in np.unique(counts := _repetitions(distinct)):  # one relation for units that occur once, twice, ...
            self.relate(np.where(counts == count, distinct, SAME), blocks[:, None])
        return Factor(rest, blocks[number.reshape(codes.shape[: len(rest)])]) if len(distinct) > 1 else None

    def copies(self, codes: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Children of the units ``codes``, a different one for each ``number`` of a copy."""
        pairs, place = np.unique(np.stack([codes.ravel(), number.ravel()]), axis=1, return_inverse=True)
        children = np.where(pairs[0] > PINNED, self.fresh(pairs.shape[1]), pairs[0])
        self.relate(children, pairs[0])
        return children[place.ravel()].reshape(codes.shape)


def _repetitions(rows: np.ndarray) -> np.ndarray:
    """The number of times each entry occurs in its row of the sorted ``rows``."""
    counts = np.empty(rows.shape, np.int64)
    for row, out in zip(rows, counts, strict=True):
        _, inverse, occurrences = np.unique(row, return_inverse=True, return_counts=True)
        out[:] = occurrences[inverse]
    return counts
