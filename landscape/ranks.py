"""The processes that torchrun started, where it did: they share the points of a grid, and the first one writes.

Every rank runs the whole script. Evaluations are split between them and end with the same result on all; files,
standard output and progress bars come from rank 0 only. What the ranks exchange are sums on the CPU, so that gloo
serves every device.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import ModuleType
from typing import TypeVar

__all__ = ["count", "first_ahead", "from_first", "gathered", "is_first_rank", "joined", "rank", "without_ranks"]

PATIENCE = timedelta(hours=12)  # for the slowest rank, which may be training a model
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")

Result = TypeVar("Result")
# torch.distributed inside `joined`, else None: elsewhere a collective call could wait for ever, and drawing a figure
# must not load torch.
_distributed: ModuleType | None = None


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Work together with the other ranks inside the block; without torchrun, alone."""
    global _distributed
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or _distributed:
        yield
        return
    from torch import distributed

    store, number, size = next(distributed.rendezvous("env://", timeout=PATIENCE))
    # After a restart the store still holds the addresses of the killed processes: pytorch/pytorch issue 135712.
    store = distributed.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    distributed.init_process_group("gloo", store=store, rank=number, world_size=size, timeout=PATIENCE)
    _distributed = distributed
    try:
        with contextlib.ExitStack() as stack:
            if not is_first_rank():
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
                stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")  # rank 0 gives the same ones
            yield
    finally:
        _distributed = None
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0."""
    return _distributed.get_rank() if _distributed else 0


def count() -> int:
    """How many processes work together."""
    return _distributed.get_world_size() if _distributed else 1


def is_first_rank() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def from_first(work: Callable[[], Result]) -> Result:
    """What ``work`` gives on rank 0, on all ranks; the others wait and do not run it."""
    if not _distributed:
        return work()
    result = [work() if is_first_rank() else None]
    _distributed.broadcast_object_list(result)
    return result[0]


def first_ahead(work: Callable[[], Result]) -> Result:
    """What ``work`` gives on every rank, run on rank 0 before the others: it may leave files that they find."""
    ahead = work() if is_first_rank() else None
    from_first(lambda: None)
    return ahead if is_first_rank() else work()


def gathered(value: Result) -> list[Result]:
    """The ``value`` of every rank, in the order of ranks, on all of them."""
    if not _distributed:
        return [value]
    values = [None] * count()
    _distributed.all_gather_object(values, value)
    return values


def without_ranks(environment: dict[str, str]) -> dict[str, str]:
    """``environment`` for a process of its own, which must not wait for the others."""
    return {name: value for name, value in environment.items() if name not in VARIABLES}
