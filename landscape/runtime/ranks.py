"""Several processes (ranks) started by torchrun, which share the points of a grid or the batches of every point.

Every rank runs the whole script. Evaluations are divided among the ranks and end with the same result on all of them;
only rank 0 writes files, standard output and progress bars. The ranks exchange only values on the CPU, so that the gloo
backend works for every device. Before an evaluation they compare their settings (`check_agreement`). If one rank fails,
all end, with one line that names it.

Scripts work inside `joined`. Elsewhere a process knows of no others, except inside `together`, where all those work on
one network that is in shards.
"""

import contextlib
import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

from landscape.errors import InputError

__all__ = [
    "Disagreement",
    "check_agreement",
    "count",
    "first_ahead",
    "from_first",
    "gathered",
    "is_first_rank",
    "joined",
    "rank",
    "together",
]

PATIENCE = timedelta(hours=12)  # time to wait for the slowest rank, which may be training a model
START = timedelta(minutes=5)  # time to wait for all ranks to begin
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LOST = ("onnection", "gloo", "Broken pipe")  # parts of torch's messages about a rank that no longer answers
ENDED = "another rank has ended (killed, or out of memory), so this one cannot continue"
FAILED = 2  # exit code of ranks that end because another one has failed


class Disagreement(InputError):
    """A rank is about to do something else than rank 0. All ranks raise this error; only that rank prints it."""

    def __init__(self, number: int, what: str):
        super().__init__(f"rank {number} {what}; start all ranks with the same options, checkpoints and data")
        self.number = number


Result = TypeVar("Result")
# The module torch.distributed inside `joined`, else None: outside, a collective call could wait for ever, and drawing a
# figure must not load torch. Of type Any, because builds of torch may lack parts of the module.
_distributed: Any = None
_group: Any = None  # of processes, the one that works together; None: all processes


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Work together with the other ranks inside the block; without torchrun the block is run as usual.

    Raises:
        InputError: only some of the launcher's environment variables are set; the other ranks do not begin in time; or
            the block fails on this rank, whose number is in the message. If another rank failed before, this one ends
            without a message.
    """
    global _distributed
    if _distributed or not _launched():
        yield
        return
    from torch import distributed
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    try:
        store, number, size = next(rendezvous("env://", timeout=START))
        # After a restart the store still holds the addresses of the killed processes: pytorch/pytorch issue 135712.
        store = PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        store.set(f"begun {number}", "")
        store.wait([f"begun {other}" for other in range(size)], START)
        distributed.init_process_group("gloo", store=store, rank=number, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} cannot join the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} ({reason}); start all of them with torchrun"
        ) from error
    _distributed = distributed
    try:
        with contextlib.ExitStack() as stack:
            if not is_first_rank():
                silence = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(silence))
                stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")  # rank 0 shows the same warnings
            yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt if is_first_rank() else SystemExit(130) from None
    except Exception as error:
        reported = _reported_once(error, number, store)
        raise reported from (None if reported is error else error)  # an error is not the cause of itself
    finally:
        _distributed = None
        distributed.destroy_process_group()


@contextlib.contextmanager
def together(group: Any) -> Iterator[None]:
    """Work together with the other processes of a ``group`` of torch.distributed, which the caller has initialised.

    Raises:
        InputError: another rank has ended in the meantime.
    """
    global _distributed, _group
    from torch import distributed

    before, _distributed, _group = (_distributed, _group), distributed, group
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in LOST):
            raise
        raise InputError(f"rank {rank()}: {ENDED}") from error
    finally:
        _distributed, _group = before


def _launched() -> bool:
    """Whether a launcher such as torchrun started several processes."""
    size = os.environ.get("WORLD_SIZE") or "1"
    if size == "1":
        return False
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        raise InputError(
            f"WORLD_SIZE is {size}, as of {size} processes, but {', '.join(missing)} is not set; start with torchrun, "
            "or unset WORLD_SIZE to work alone"
        )
    if not all(os.environ[name].isdecimal() for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")):
        values = ", ".join(f"{name}={os.environ[name]!r}" for name in NEEDED)
        raise InputError(f"{values}: rank, size and port must be whole numbers; start with torchrun")
    return True


def _reported_once(error: Exception, number: int, store: Any) -> BaseException:
    """``error`` in one line with the number of this rank, or a silent exit if another rank has reported its own."""
    if isinstance(error, Disagreement):
        return error if error.number == number else SystemExit(FAILED)
    try:
        first = store.add("failures", 1) == 1
    except RuntimeError:  # the rank that held the store has ended
        first = False
    if not first:
        return SystemExit(FAILED)
    if isinstance(error, InputError):
        reason = str(error)
    elif isinstance(error, RuntimeError) and any(word in str(error) for word in LOST):
        reason = ENDED
    elif isinstance(error, OSError):
        reason = f"{error.filename or 'input/output'}: {error.strerror or error}"
    else:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        line = (str(error).splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {line} ({frame.filename}, line {frame.lineno})"
    return InputError(f"rank {number}: {reason}")


def rank() -> int:
    """The number of this process, from 0."""
    return _distributed.get_rank(_group) if _distributed else 0


def count() -> int:
    """The number of processes that work together."""
    return _distributed.get_world_size(_group) if _distributed else 1


def is_first_rank() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def from_first(work: Callable[[], Result]) -> Result:
    """Run ``work`` on rank 0 only and return its result on all ranks."""
    if not _distributed:
        return work()
    _check_same_step("waits for rank 0")
    result: list[Any] = [work() if is_first_rank() else None]
    first = 0 if _group is None else _distributed.get_global_rank(_group, 0)
    _distributed.broadcast_object_list(result, first, _group)
    value: Result = result[0]
    return value


def first_ahead(work: Callable[[], Result]) -> Result:
    """Run ``work`` on rank 0 first and then on the other ranks, which can read the files that it has written."""
    ahead = [work()] if is_first_rank() else []
    from_first(lambda: None)
    return ahead[0] if ahead else work()


def gathered(value: Result) -> list[Result]:
    """The values of all ranks, in the order of the ranks; every rank gets the same list."""
    if not _distributed:
        return [value]
    _check_same_step("exchanges values")
    return _all_of(value)


def _check_same_step(step: str) -> None:
    """Raise Disagreement unless all ranks are at the same kind of exchange: otherwise they would wait for ever."""
    first, *others = _all_of(step)
    for number, other in enumerate(others, 1):
        if other != first:
            raise Disagreement(number, f"{other} where rank 0 {first}")


def _all_of(value: Result) -> list[Result]:
    values: list[Any] = [None] * count()
    _distributed.all_gather_object(values, value, _group)
    return values


def check_agreement(settings: dict[str, Any]) -> None:
    """Raise Disagreement unless the ``settings`` of the computation, name -> value, are equal on all ranks."""
    first, *others = gathered(settings)
    for number, other in enumerate(others, 1):
        for name in first:
            if first[name] != other.get(name):
                theirs, ours = _short(other.get(name)), _short(first[name])
                detail = f" ({theirs} instead of {ours})" if theirs != ours else ""
                raise Disagreement(number, f"has another {name} than rank 0{detail}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
