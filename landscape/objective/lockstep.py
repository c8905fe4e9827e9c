"""Passes that all ranks of a network in shards begin together and end together, also if one of them fails."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn

from landscape.errors import InputError
from landscape.runtime.shards import fsdp_modules, is_shard, reshard

__all__ = ["Lockstep"]

Result = TypeVar("Result")
Turns = list[tuple[Any, bool]]  # the modules that a pass enters, and whether it gathers their parameters at that time


class Lockstep:
    """Runs functions of ``model`` on all ranks of a process ``group``, and raises on all of them if one fails.

    During a pass, the modules that fully_shard has divided gather their parameters from all ranks, one module after the
    other. A rank that stopped in the middle would leave the others waiting, so a rank that fails first takes part in
    the remaining gathering, in the order of the last pass of the same function. Then the ranks tell each other whether
    they have failed.
    """

    def __init__(self, model: nn.Module, group: Any, device: torch.device):
        self.model, self.group, self.device = model, group, device
        # One parameter of every module, found now, while all parameters are in shards.
        self._held = {module: _held_by(module) for module in fsdp_modules(model)}
        # By the id of a function: the function itself, kept so that its id stays valid, and its last pass.
        self._turns: dict[int, tuple[Any, Turns]] = {}
        self._entered: Turns = []
        self._depth = 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Record the modules that passes inside the block enter; at its end all parameters are in shards again."""
        self._depth += 1
        hooks = [
            module.register_forward_pre_hook(self._enter, prepend=True)  # before that of fully_shard
            for module in (self._held if self._depth == 1 else ())
        ]
        try:
            yield
        finally:
            self._depth -= 1
            for hook in hooks:
                hook.remove()
            reshard(self.model)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of ``function(*arguments)``, a pass that begins with all parameters in shards.

        Raises:
            InputError: the function fails on another rank; on that rank its own exception is raised.
        """
        reshard(self.model)
        self._entered.clear()
        result = self.together(lambda: function(*arguments), lambda: self._rest_of(function))
        self._turns[id(function)] = (function, [*self._entered])
        return result

    def together(self, work: Callable[[], Result], rest: Callable[[], None] = lambda: None) -> Result:
        """The result of ``work``, if it succeeds on all ranks.

        ``rest`` is called on a rank on which ``work`` fails. It must take part in all communication that the other
        ranks still do in ``work``.

        Raises:
            InputError: ``work`` fails on another rank; on that rank its own exception is raised.
            MemoryError: the memory of another rank is exhausted.
        """
        error: BaseException | None = None
        try:
            result = work()
        except BaseException as raised:  # also KeyboardInterrupt, which the other ranks may not have received
            error = raised
            rest()
        self._agree(error)
        return result

    def _enter(self, module: nn.Module, _: Any) -> None:
        place = self._held[module]
        self._entered.append((module, place is not None and is_shard(place[0]._parameters[place[1]])))

    def _rest_of(self, function: Callable[..., Any]) -> None:
        """Gather what the other ranks gather in the remainder of a pass of ``function``, and end the pass."""
        _, turns = self._turns.get(id(function), (None, []))
        for module, gathers in turns[len(self._entered) :]:
            if gathers:
                module.reshard()
                module.unshard()
        for module in _outermost(self.model):
            if hasattr(module, "reset_iter_state"):
                module.reset_iter_state()

    def _agree(self, error: BaseException | None) -> None:
        """Raise ``error``, or one that names the first other rank that has failed; return if no rank has."""
        from torch import distributed

        failed = torch.tensor(float(error is not None), device=self.device)
        distributed.all_reduce(failed, distributed.ReduceOp.MAX, self.group)
        if not failed:
            return
        reasons: list[Any] = [None] * distributed.get_world_size(self.group)
        distributed.all_gather_object(reasons, None if error is None else _reason(error), self.group)
        if error is not None:
            raise error
        number, (reason, memory) = next((number, told) for number, told in enumerate(reasons) if told)
        raise (MemoryError if memory else InputError)(f"rank {number} has failed: {reason}")


def _held_by(module: nn.Module) -> tuple[nn.Module, str] | None:
    """The (module, name) of one parameter that fully_shard gathers with ``module``; None if it gathers none."""
    inner = {part for other in fsdp_modules(module) if other is not module for part in other.modules()}
    for part in module.modules():
        for name, parameter in part._parameters.items() if part not in inner else ():
            if is_shard(parameter):
                return part, name
    return None


def _outermost(model: nn.Module) -> Iterator[Any]:
    """The modules divided by fully_shard that lie in no other such module."""
    inner: set[nn.Module] = set()
    for module in fsdp_modules(model):
        if module not in inner:
            yield module
            inner.update(module.modules())


def _reason(error: BaseException) -> tuple[str, bool]:
    """(The reason of a failure in one line, whether it is exhausted memory)."""
    memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    line = (str(error).splitlines() or [""])[0]
    return (line if isinstance(error, InputError) else f"{type(error).__name__}: {line}".removesuffix(": ")), memory
