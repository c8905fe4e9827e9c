"""Distribution of tasks among the ranks of torchrun, and on each rank among processes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from landscape.errors import InputError
from landscape.runtime import ranks

__all__ = ["run_tasks"]

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_tasks(work: Callable[[Task], Result], tasks: Sequence[Task], jobs: int) -> Iterator[Result]:
    """Yield the results of ``work`` for the tasks of this rank, in the order in which they finish.

    The tasks run in ``jobs`` processes with one thread each; ``work`` and ``tasks`` are pickled. The generator ends
    when all ranks have finished their tasks. On Ctrl-C it ends its processes.

    Raises:
        InputError: ``jobs`` is below one, or a process was killed.
    """
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; use at least 1")
    mine = tasks[ranks.rank() :: ranks.count()]
    jobs = min(jobs, len(mine))
    if jobs == 1 and ranks.count() == 1:
        yield from map(work, mine)
    elif mine:
        # Only the first rank writes files (landscape.storage.files), but new processes do not belong to any rank.
        yield from _in_processes(work, mine, jobs)
    ranks.gathered(None)


def _in_processes(work: Callable[[Task], Result], tasks: Sequence[Task], jobs: int) -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")  # a forked torch may hang
    before, children = os.environ.get("OMP_NUM_THREADS"), set(multiprocessing.active_children())
    os.environ["OMP_NUM_THREADS"] = "1"  # more threads would compete, because every process uses all cores by default
    try:
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin) as pool:
            try:
                for future in as_completed([pool.submit(work, task) for task in tasks]):
                    yield future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in set(multiprocessing.active_children()) - children:
                    process.terminate()
                raise
    except BrokenProcessPool as error:
        raise InputError("a process was killed, perhaps for lack of memory; run again, with fewer jobs") from error
    finally:
        os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)


def _begin() -> None:
    """Ignore Ctrl-C, which the parent handles, and end when the parent ends for any reason."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
