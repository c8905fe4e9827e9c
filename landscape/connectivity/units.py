"""An algebra of units: which of them each place of an activation holds, and how they depend on one another.

A unit is a number. Places that move together hold the same one; units that move with others are related to these: the
entries of a query to the head in which they are, the head to the group whose key it shares. Whatever a network does to
activations, it does one of few things to their units:

- `Units.join`: what meets at one place is one unit;
- `Units.relate`: every child has one parent, and where the parent goes the child goes with it;
- `Units.combine`: factors that vary along different axes become one, related to each of them;
- `Units.reduce`: the units of a sum, in whatever order, are children of one block.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

__all__ = ["PINNED", "SAME", "Factor", "Units"]

SAME, PINNED = 0, 1  # places that hold one value for all units, and places that stand for themselves


@dataclass(frozen=True, eq=False)
class Factor:
    """Units that vary along some axes, and along no others."""

    axes: tuple[str, ...]
    codes: np.ndarray  # of the units, an axis for each of ``axes``

    def aligned(self, axes: Sequence[str]) -> np.ndarray:
        """The codes with the ``axes`` in this order, of length one where the units do not vary."""
        codes = self.codes.transpose([self.axes.index(axis) for axis in axes if axis in self.axes])
        return np.expand_dims(codes, tuple(k for k, axis in enumerate(axes) if axis not in self.axes))


class Units:
    """Numbers of units, those that are one, those that stay where they are, and their relations."""

    def __init__(self) -> None:
        self.root = np.arange(2)  # unit -> the unit that stands for all that were joined with it
        self.pinned = np.array([False, True])
        self.relations: list[tuple[np.ndarray, np.ndarray]] = []  # children and their parents; one relation an entry

    def fresh(self, *sizes: int, pinned: bool = False) -> np.ndarray:
        """New units, an array of ``sizes``."""
        first, count = len(self.root), int(np.prod(sizes))
        new = np.arange(first, first + count)
        self.root = np.append(self.root, new)
        self.pinned = np.append(self.pinned, np.full(count, pinned))
        return new.reshape(sizes)

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        """Note that the units at equal places are one; those that meet what stands for itself are pinned."""
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
        """Note that where a parent goes its children go; a child that has two parents makes them one."""
        children, parents = (self.root[codes].ravel() for codes in np.broadcast_arrays(children, parents))
        kept = (children > PINNED) & (parents > PINNED)
        pairs = np.unique(np.stack([children[kept], parents[kept]]), axis=1)
        self.relations.append((pairs[0], pairs[1]))
        repeated = np.flatnonzero(pairs[0][1:] == pairs[0][:-1])
        self.join(pairs[1][repeated], pairs[1][repeated + 1])

    def combine(self, factors: Iterable[Factor]) -> Factor | None:
        """The units of the places at which all ``factors`` meet; None where none of them may move."""
        met = self._met(factors)
        moving = [factor for factor in met if not self.pinned[self.root[factor.codes[factor.codes != SAME]]].all()]
        axes = tuple(dict.fromkeys(axis for factor in moving for axis in factor.axes))
        if not axes:
            return None
        whole = next((factor for factor in moving if set(factor.axes) == set(axes)), None)
        others = [self._within(factor, axes) for factor in met if factor is not whole]
        aligned = [factor.aligned(axes) for factor in others if factor.axes]
        shape = np.broadcast_shapes(*(codes.shape for codes in aligned), whole.aligned(axes).shape if whole else ())
        codes = whole.aligned(axes) if whole else self.fresh(*shape)
        if aligned and (codes == SAME).any():
            codes = np.where(codes == SAME, self.fresh(*shape), codes)
        for parents in aligned:
            self.relate(codes, parents)
        return Factor(axes, codes)

    def _met(self, factors: Iterable[Factor]) -> list[Factor]:
        """One factor for each set of axes: those of one set are joined."""
        by_axes: dict[frozenset[str], Factor] = {}
        for factor in factors:
            codes = self.root[factor.codes]
            if (codes == PINNED).any():  # each place for itself
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
        """The ``factor``, or what it pins of ``axes`` where it varies along further ones."""
        inside = tuple(axis for axis in factor.axes if axis in axes)
        if len(inside) == len(factor.axes):
            return factor
        sizes = (factor.codes.shape[factor.axes.index(axis)] for axis in inside)
        return Factor(inside, self.fresh(*sizes, pinned=True))

    def reduce(self, factor: Factor, axes: Iterable[str]) -> Factor | None:
        """The blocks of units that a sum over ``axes`` puts together; None where there is one block."""
        over = [axis for axis in factor.axes if axis in axes]
        kept = tuple(axis for axis in factor.axes if axis not in axes)
        if not over:
            return factor
        codes = self.root[factor.aligned((*kept, *over))]
        rows = np.sort(codes.reshape(int(np.prod(codes.shape[: len(kept)])), -1), axis=1)
        distinct, number = np.unique(rows, axis=0, return_inverse=True)
        blocks = self.fresh(len(distinct), pinned=len(distinct) == 1)
        for often in np.unique(counts := _repetitions(distinct)):  # units that occur twice are no others' equals
            self.relate(np.where(counts == often, distinct, SAME), blocks[:, None])
        return Factor(kept, blocks[number.reshape(codes.shape[: len(kept)])]) if len(distinct) > 1 else None

    def copies(self, codes: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Children of the units ``codes``, one for each of the copies with a ``number``."""
        pairs, place = np.unique(np.stack([codes.ravel(), number.ravel()]), axis=1, return_inverse=True)
        children = np.where(pairs[0] > PINNED, self.fresh(pairs.shape[1]), pairs[0])
        self.relate(children, pairs[0])
        return children[place.ravel()].reshape(codes.shape)


def _repetitions(rows: np.ndarray) -> np.ndarray:
    """How often each entry occurs in its row of the sorted ``rows``."""
    counts = np.empty(rows.shape, np.int64)
    for row, into in zip(rows, counts, strict=True):
        _, inverse, often = np.unique(row, return_inverse=True, return_counts=True)
        into[:] = often[inverse]
    return counts
