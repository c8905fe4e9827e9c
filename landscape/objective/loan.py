"""The loan of the caller's own network for a computation: it is moved in place and restored bit for bit."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from landscape.objective.spill import Spilled, SpillFile
from landscape.points import named_parameters
from landscape.runtime.allocator import return_free_memory
from landscape.runtime.shards import is_sharded, own_shard

__all__ = ["PIECE", "Loan"]

PIECE = 2**17  # the number of entries of a parameter that are written at once
ALIGNED = 64  # bytes; the kept values of every parameter begin at a multiple of this


class Loan:
    """Lends ``model`` in eval mode, and restores it at the end.

    What is restored are the parameters and buffers, the training mode of every module, and which parameters require
    gradients. Before a parameter is written for the first time, its values are kept in its own dtype: in memory, or in
    a file in the folder ``spill`` if one is given.
    """

    def __init__(self, model: nn.Module, spill: Path | None):
        self.model, self.spill = model, spill
        self.parameters = dict(named_parameters(model))
        self.sharded = is_sharded(model)
        self._kept: dict[str, Tensor | Spilled] = {}
        self._file: SpillFile | None = None
        self._memory: Tensor | None = None  # one block of bytes for all values that are kept in memory
        self._used = 0  # the number of these bytes that are in use
        self._depth = 0
        # Which parameters require gradients while the network is lent: at first none, or in a network in shards
        # those that did before, because fully_shard takes note of them in its first pass.
        self._gradients = {name: self.sharded and value.requires_grad for name, value in self.parameters.items()}

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Lend the network inside the block; the end of the outermost of nested blocks restores everything."""
        self._depth += 1
        if self._depth > 1:
            try:
                yield
            finally:
                self._depth -= 1
            return
        modes = {module: module.training for module in self.model.modules()}
        gradients = {name: parameter.requires_grad for name, parameter in self.parameters.items()}
        buffers = {buffer: buffer.detach().clone() for buffer in self.model.buffers()}
        return_free_memory()
        try:
            self.model.eval()
            self._require(self._gradients)
            yield
        finally:
            self._depth -= 1
            self._gradients = {name: parameter.requires_grad for name, parameter in self.parameters.items()}
            try:
                self._end(modes, gradients, buffers)
            except KeyboardInterrupt:  # an interrupt in the middle must not leave the network restored in part
                self._end(modes, gradients, buffers)
                raise

    @torch.no_grad()
    def write(self, name: str, pieces: Iterable[tuple[int, Tensor]]) -> None:
        """Write values into the parameter ``name``, rounded to its dtype.

        ``pieces`` are pairs (index of the first entry in the flattened parameter, values of this and the next entries).
        """
        if name not in self._kept:
            self._kept[name] = self._keep(self.memory(name))
        data = self.memory(name).data  # writing to .data does not increase the version counter of the parameter
        target = data.view(-1) if data.is_contiguous() else data.reshape(-1)
        for start, values in pieces:
            target[start : start + values.numel()].copy_(values.reshape(-1))
        if not data.is_contiguous():
            data.copy_(target.view(data.shape))

    def memory(self, name: str) -> Tensor:
        """The part of the parameter ``name`` that this process holds: all of it, or its own shard."""
        return own_shard(self.parameters[name])

    def own(self, name: str, start: int, stop: int) -> Tensor:
        """The original values [stop - start] of the entries from ``start`` to ``stop`` of a parameter, on the CPU."""
        kept = self._kept.get(name)
        if kept is None:
            return self.memory(name).detach().reshape(-1)[start:stop].cpu()
        return kept.piece(start, stop) if isinstance(kept, Spilled) else kept.view(-1)[start:stop]

    @torch.no_grad()
    def restore(self, name: str) -> None:
        """Restore the original values of the parameter ``name``, if it was moved."""
        if name not in self._kept:
            return
        count = self.memory(name).numel()
        starts = range(0, count, PIECE)
        pieces = ((start, self.own(name, start, min(start + PIECE, count))) for start in starts)
        self.write(name, self._released(name, pieces))

    def _released(self, name: str, pieces: Iterable[tuple[int, Tensor]]) -> Iterator[tuple[int, Tensor]]:
        for piece in pieces:
            yield piece
            self.release(name)

    def release(self, name: str) -> None:
        """Free the memory into which the kept values of the parameter ``name`` were read from the file, if any were."""
        kept = self._kept.get(name)
        if isinstance(kept, Spilled):
            kept.release()

    @property
    def is_last(self) -> bool:
        """Whether the present block is the outermost one that uses the network."""
        return self._depth == 1

    def _keep(self, parameter: Tensor) -> Tensor | Spilled:
        values = parameter.detach().reshape(-1)
        if self.spill and len(values):  # a rank may have an empty shard
            self._file = self._file or SpillFile(self.spill)
            return self._file.store((piece.cpu() for piece in values.split(PIECE)), values.dtype)
        size = values.numel() * values.element_size()
        kept = self._room(size).view(values.dtype)
        kept.copy_(values)
        return kept

    def _room(self, size: int) -> Tensor:
        """``size`` bytes of the one block of memory for all parameters, which returns to the system as a whole."""
        if self._memory is None:
            values = map(self.memory, self.parameters)
            sizes = (value.numel() * value.element_size() for value in values)
            self._memory = torch.empty(sum(-(-size // ALIGNED) * ALIGNED for size in sizes), dtype=torch.uint8)
            self._used = 0
        start = self._used
        self._used += -(-size // ALIGNED) * ALIGNED
        return self._memory[start : start + size]

    @torch.no_grad()
    def _end(self, modes: dict[nn.Module, bool], gradients: dict[str, bool], buffers: dict[Tensor, Tensor]) -> None:
        for name in self._kept:
            self.restore(name)
        self._kept, self._memory = {}, None
        if self._file is not None:
            self._file.close()
            self._file = None
        for buffer, value in buffers.items():
            buffer.data.copy_(value)
        for module, training in modes.items():
            module.training = training
        self._require(gradients)

    def _require(self, gradients: dict[str, bool]) -> None:
        for name, parameter in self.parameters.items():
            if parameter.requires_grad != gradients[name]:
                parameter.requires_grad_(gradients[name])
