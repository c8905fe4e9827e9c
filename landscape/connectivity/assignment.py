"""The best order of units along the axes of a group, by linear assignment, nested for axes that lie inside others."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from landscape.connectivity.groups import Axis, Positions

__all__ = ["Orders", "Scores", "best_orders", "composed", "moved", "unchanged"]

SWEEPS = 20  # improvements in turn, at most, of axes that share a block and a tensor

Orders = list[np.ndarray]  # one array [sizes of the axes it lies within, size] an axis: the unit put in each place
Scores = Mapping[tuple[int, ...], np.ndarray]  # axes -> [their sizes, their sizes]: score of each unit in each place


def unchanged(axes: Sequence[Axis]) -> Orders:
    """The orders that leave every unit in its place."""
    sizes = [(*(axes[k].size for k in axis.within), axis.size) for axis in axes]
    return [np.broadcast_to(np.arange(size[-1]), size).copy() for size in sizes]


def sources(axes: Sequence[Axis], along: Sequence[int], orders: Mapping[int, np.ndarray] | Orders) -> list[np.ndarray]:
    """The coordinates of the unit that ``orders`` put in each place ``along`` some of the axes."""
    grid = np.indices([axes[axis].size for axis in along])
    coordinates = []
    for k, axis in enumerate(along):
        outer = [grid[along.index(number)] for number in axes[axis].within if number in along]
        coordinates.append(orders[axis][tuple([*outer, grid[k]])])
    return coordinates


def moved(axes: Sequence[Axis], positions: Positions, orders: Orders) -> np.ndarray:
    """The positions from which ``orders`` bring entries to ``positions``."""
    index: np.ndarray = positions.index[tuple(sources(axes, positions.axes, orders))]
    return index


def composed(axes: Sequence[Axis], first: Orders, then: Orders) -> Orders:
    """The orders that have the effect of ``first`` and ``then``, one after the other."""
    return [first[k][tuple(sources(axes, (*axis.within, k), then))] for k, axis in enumerate(axes)]


def best_orders(axes: Sequence[Axis], scores: Scores) -> Orders:
    """The orders with the largest total score.

    It is the global maximum unless one tensor holds several axes of a block; such axes are improved in turn, which
    gives a local maximum.
    """
    orders = _Assignment(axes).best(tuple(range(len(axes))), scores)[1]
    return [orders[k] for k in range(len(axes))]


class _Assignment:
    """A recursion over axes: the scores of the outermost axis are the best scores of the axes within it."""

    def __init__(self, axes: Sequence[Axis]):
        self.axes = axes

    def best(self, scope: tuple[int, ...], scores: Scores) -> tuple[float, dict[int, np.ndarray]]:
        """The largest score over the axes in ``scope``, and their orders."""
        outermost = [k for k in scope if not set(self.axes[k].within) & set(scope)]
        if len(outermost) == 1:
            return self._assigned(outermost[0], scope, scores)
        parts = {root: tuple(k for k in scope if k == root or root in self.axes[k].within) for root in outermost}
        alone = {root for root, part in parts.items() if any(set(key) <= set(part) for key in scores)}
        orders: dict[int, np.ndarray] = {}
        total = -np.inf
        for _ in range(SWEEPS):
            for root in sorted(outermost, key=lambda root: root not in alone):
                orders |= self._assigned(root, parts[root], self._conditional(scores, parts[root], orders))[1]
            before, total = total, sum(float(self._fixed(key, s, key, orders)) for key, s in scores.items())
            if not total > before:
                break
        return total, orders

    def _assigned(self, root: int, scope: tuple[int, ...], scores: Scores) -> tuple[float, dict[int, np.ndarray]]:
        size, inner = self.axes[root].size, tuple(k for k in scope if k != root)
        total = np.array(scores.get((root,), np.zeros((size, size))), dtype=np.float64)
        best_within: dict[tuple[int, int], dict[int, np.ndarray]] = {}
        for one, other in np.ndindex(size, size) if inner else ():
            within = {
                tuple(k for k in key if k != root): _at(values, key.index(root), one, other)
                for key, values in scores.items()
                if root in key and len(key) > 1
            }
            value, best_within[one, other] = self.best(inner, within)
            total[one, other] += value
        order = linear_sum_assignment(total, maximize=True)[1]
        pairs = list(enumerate(order.tolist()))
        orders = {root: order} | {k: np.stack([best_within[pair][k] for pair in pairs]) for k in inner}
        return float(total[np.arange(size), order].sum()), orders

    def _conditional(self, scores: Scores, part: tuple[int, ...], orders: Mapping[int, np.ndarray]) -> Scores:
        """The scores along the axes of a ``part`` with the other axes in their ``orders``.

        Scores that involve an axis without an order are left out.
        """
        conditional: dict[tuple[int, ...], np.ndarray] = {}
        for key, values in scores.items():
            mine, others = tuple(k for k in key if k in part), tuple(k for k in key if k not in part)
            if mine and all(k in orders for k in others):
                conditional[mine] = conditional.get(mine, 0) + self._fixed(key, values, others, orders)
        return conditional

    def _fixed(
        self, key: tuple[int, ...], values: np.ndarray, fixed: tuple[int, ...], orders: Mapping[int, np.ndarray]
    ) -> np.ndarray:
        """The sum of ``values`` over the axes ``fixed``, with their units in these ``orders``."""
        if not fixed:
            return values
        front = [key.index(k) for k in fixed]
        rest = [k for k in range(len(key)) if k not in front]
        sizes = [self.axes[k].size for k in key]
        moved = values.transpose([*front, *rest, *(len(key) + k for k in front), *(len(key) + k for k in rest)])
        shape = [sizes[k] for k in rest]
        count = int(np.prod([sizes[k] for k in front]))
        source = np.ravel_multi_index(tuple(sources(self.axes, fixed, orders)), [sizes[k] for k in front]).ravel()
        square = moved.reshape(count, int(np.prod(shape)), count, int(np.prod(shape)))
        total: np.ndarray = square[np.arange(count), :, source, :].sum(0).reshape((*shape, *shape))
        return total


def _at(values: np.ndarray, axis: int, one: int, other: int) -> np.ndarray:
    """The part of ``values`` for the unit ``other`` in the place of the unit ``one`` along an axis."""
    square: np.ndarray = values.take(one, axis).take(other, axis + values.ndim // 2 - 1)
    return square
