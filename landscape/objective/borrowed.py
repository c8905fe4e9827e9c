"""The caller's own network in place of a private copy, for networks of which a copy would not fit into memory."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.batch_norm import Policy, has_batch_norm
from landscape.objective.loan import PIECE, Loan
from landscape.objective.network import Network
from landscape.objective.spectral_norm import spectral_layers
from landscape.objective.steps import Steps
from landscape.points import Point, check_values, is_continuous, point_moving, precise, unwrapped
from landscape.slices.networks import buffers_of, varying_names
from landscape.slices.planes import AnySlice, Slice

__all__ = ["BorrowedNetwork"]


class BorrowedNetwork(Network):
    """The caller's network itself, moved tensor by tensor while it is `lent`, and put back afterwards.

    Points are computed in float32 (in float64 for float64 parameters) and rounded to the dtype of the parameters.

    Raises:
        InputError: no parameter can be moved, the network is on another device or in another dtype than ``device`` and
            ``dtype`` say, or the BatchNorm policy would change the network.
    """

    in_place = True
    who, way_out = "copy=False", "make the objective with copy=True"  # in messages

    def __init__(
        self, model: nn.Module, device: torch.device | None, dtype: torch.dtype | None, batch_norm: Policy | None,
        spill: Path | None,
    ):  # fmt: skip
        check_values(model)
        self.model, self.batch_norm, self.has_batch_norm = unwrapped(model), batch_norm, has_batch_norm(model)
        self._settle(device, dtype)
        self.source = point_moving(model, ())
        self.source_buffers = buffers_of(self.model)
        self.ends, self.fixed, self.overwrites, self._values = (), {}, False, {}
        self._loan, self._steps = Loan(self.model, spill), Steps(spill)
        if self.has_batch_norm and batch_norm in ("batch", "recalibrate"):
            self._refuse(f"batch_norm={batch_norm!r} changes the statistics of the network")

    def _settle(self, device: torch.device | None, dtype: torch.dtype | None) -> None:
        values = [value for value in self.model.parameters() if is_continuous(value)]
        if not values:
            raise InputError("the model has no parameters that could be moved; was it frozen, or quantised?")
        self.device = values[0].device
        if device is not None and device.type != self.device.type:
            self._refuse(f"the network is on {self.device}, the objective is to be on {device}")
        others = {value.dtype for value in values if dtype is not None and value.dtype != dtype}
        if others:
            kinds = ", ".join(sorted(str(other).removeprefix("torch.") for other in others))
            raise InputError(
                f"{self.who} moves parameters in their own dtype, which is {kinds} and not {dtype}: pass dtype=None, "
                f"or {self.way_out}"
            )
        self.take_dtype(None, values)

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        with self._loan.taken():
            try:
                yield
            finally:
                if self._loan.is_last:
                    self._steps.close()

    def in_precision(self, slice_: AnySlice) -> AnySlice:
        return slice_  # its points are computed piece by piece, in the precision of `_pieces`

    def move_along(self, slice_: Slice, coordinates: Sequence[float]) -> None:
        """Put the network at ``coordinates`` of ``slice_``; only a piece of a parameter is computed at a time."""
        weights, moved = slice_.weights_at(*coordinates), set(slice_.moved)
        for name in self._loan.parameters:
            if name in moved:
                self._loan.write(name, self._pieces(slice_, name, weights))
            elif not self._is_own(name, slice_.origin[name]):
                self._put(name, slice_.origin[name])

    def _pieces(self, slice_: Slice, name: str, weights: Sequence[float]) -> Iterator[tuple[int, Tensor]]:
        """Yield (first index, values) for pieces of the moved parameter ``name``: origin + sum_k weight_k step_k."""
        origin = slice_.origin[name].detach()
        shared = self._is_own(name, origin)
        for start, stop, steps in self._steps.rows(slice_, name):
            own = self._loan.own(name, start, stop) if shared else origin.reshape(-1)[start:stop].cpu()
            total = precise(own)
            for number, (weight, step) in enumerate(zip(weights, steps, strict=True)):
                total = torch.add(total, step.to(total), alpha=weight, out=total if number else None)
            yield start, total
            self._loan.release(name)

    def _place(self, point: Mapping[str, Tensor], own: Mapping[str, nn.Parameter]) -> None:
        for name in own:
            if self._is_own(name, point[name]):
                self._loan.restore(name)
            else:
                self._put(name, point[name])

    def _is_own(self, name: str, value: Tensor) -> bool:
        """Whether ``value`` shares the memory of the parameter ``name``, and so is its own value."""
        return value.numel() > 0 and value.data_ptr() == self._loan.memory(name).data_ptr()

    def _put(self, name: str, value: Tensor) -> None:
        flat = value.detach().reshape(-1)
        self._loan.write(name, ((start, flat[start : start + PIECE]) for start in range(0, len(flat), PIECE)))

    def note_memory(self, source: nn.Module, elsewhere: set[str], written: set[str]) -> None:
        if written:
            self._refuse(f"the forward pass writes into its parameter {min(written)!r}")

    def take_buffers(self, ends: Sequence[Point]) -> None:
        if varying := varying_names(ends) or [layer.left for layer in spectral_layers(self.model)]:
            self._refuse(f"the buffer {varying[0]!r} changes between the networks of the slice")

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self._loan.parameters)

    def under(self, policy: Policy) -> "Network":
        if self.has_batch_norm and policy != "running":
            self._refuse(f"BatchNorm statistics under the policy {policy!r} are other ones at every point")
        return super().under(policy)

    def of(self, model: nn.Module) -> "Network":
        self._refuse("the losses of another network are needed")

    def twin(self) -> "Network":
        self._refuse("this needs a network of its own")

    def in_double(self) -> "Network":
        self._refuse("this needs float64")

    def _refuse(self, reason: str) -> NoReturn:
        raise InputError(f"{reason}, which {self.who} cannot serve; {self.way_out}")
