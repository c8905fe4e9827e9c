"""A network whose parameters are divided into shards over several ranks, which all evaluate it together."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.batch_norm import Policy
from landscape.objective.borrowed import BorrowedNetwork
from landscape.objective.lockstep import Lockstep
from landscape.points import Point, is_no_step, named_parameters, no_step
from landscape.runtime import ranks
from landscape.runtime.shards import computes_in, group_of, in_shards_of, is_shard, only_kept_apart, own_shard, place_of
from landscape.slices.planes import Slice
from landscape.storage.provenance import fingerprint

__all__ = ["ShardedNetwork"]


class ShardedNetwork(BorrowedNetwork):
    """A network of which every rank moves its own shards in place, and gathers the rest of a layer when it is needed.

    All ranks run the same passes at the same points. If shards are only stored apart and gathered for each pass, as
    fully_shard does, the ranks take different batches in the same pass; if each rank computes a part of a layer (tensor
    parallelism), all take the same batch.
    """

    is_sharded = True
    who = "a network in shards"
    way_out = "gather all weights (get_model_state_dict with full_state_dict=True) into a network that is not in shards"

    def __init__(
        self, model: nn.Module, device: torch.device | None, dtype: torch.dtype | None, batch_norm: Policy | None,
        spill: Path | None,
    ):  # fmt: skip
        super().__init__(model, device, dtype, batch_norm, spill)
        self._group = group_of(self.model)
        self._lockstep = Lockstep(self.model, self._group, self.device)
        # By the id of a slice: its shards, and the slice itself, kept so that its id stays valid.
        self._slices: dict[int, tuple[Slice, Slice]] = {}
        self.shares_data = only_kept_apart(self.model)
        with self.together():
            self._check_replicas()

    def together(self) -> contextlib.AbstractContextManager[None]:
        return ranks.together(self._group)

    def agree(self, **settings: Any) -> None:
        ranks.check_agreement(settings)

    @property
    def description(self) -> dict[str, Any]:
        shards = [value for value in self.parameters.values() if is_shard(value)]
        mesh, rounded = shards[0].device_mesh, computes_in(self.model)  # type: ignore[attr-defined]
        return {
            "sharded": {
                "ranks": ranks.count(),
                "mesh": list(mesh.shape),
                "placements": sorted({str(tuple(value.placements)) for value in shards}),  # type: ignore[attr-defined]
                "passes_in": None if rounded is None else str(rounded).removeprefix("torch."),
                "shares_data": self.shares_data,
            }
        }

    @property
    def weights_eps(self) -> float:
        rounded = computes_in(self.model)
        return max(super().weights_eps, 0.0 if rounded is None else torch.finfo(rounded).eps)

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        with self.together(), super().lent(), self._lockstep.watched():
            try:
                yield
            finally:
                self._slices.clear()  # in place, because copies of this network share the dictionary

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._lockstep.run(function, *arguments)

    def move_along(self, slice_: Slice, coordinates: Sequence[float]) -> None:
        own = self._shards_of(slice_)
        self._lockstep.together(lambda: super(ShardedNetwork, self).move_along(own, coordinates))

    def _place(self, point: Mapping[str, Tensor], own: Mapping[str, nn.Parameter]) -> None:
        shards = self._own_shards(point)
        self._lockstep.together(lambda: super(ShardedNetwork, self)._place(shards, own))

    def _shards_of(self, slice_: Slice) -> Slice:
        """``slice_`` restricted to the shards of this rank."""
        if id(slice_) not in self._slices:
            origin, *directions = map(self._own_shards, (slice_.origin, *slice_.directions))
            shards = replace(slice_, origin=origin, directions=tuple(directions))
            self._slices[id(slice_)] = (shards, slice_)
        return self._slices[id(slice_)][0]

    def _own_shards(self, point: Mapping[str, Tensor]) -> Point:
        parameters = self._loan.parameters
        return {
            name: no_step(self._loan.memory(name))
            if is_no_step(value)
            else own_shard(in_shards_of(value.detach(), parameters[name]))
            for name, value in point.items()
        }

    def _check_replicas(self) -> None:
        """Raise InputError unless everything that several ranks hold has the same values on all of them.

        These are buffers, parameters that are not divided, and shards of which several ranks hold a copy.
        """
        mine = {f"buffer {name!r}": fingerprint([buffer]) for name, buffer in self.model.named_buffers()}
        for name, value in named_parameters(self.model):
            if not is_shard(value):
                mine[f"parameter {name!r}"] = fingerprint([value])
            elif (place := place_of(value)) is not None:
                mine[f"parameter {name!r} ({place})"] = fingerprint([own_shard(value)])
        first: dict[str, tuple[int, str]] = {}
        for number, theirs in enumerate(ranks.gathered(mine)):
            for what, digest in theirs.items():
                other, expected = first.setdefault(what, (number, digest))
                if digest != expected:
                    raise InputError(
                        f"the {what.partition(' (')[0]} of rank {number} is not that of rank {other}, though both must "
                        "be the same network; broadcast it from one rank to the others first"
                    )
