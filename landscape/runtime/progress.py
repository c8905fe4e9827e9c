"""Progress bars, and the time that is left."""

import contextlib
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from tqdm import TqdmWarning, tqdm

__all__ = ["progress_bar", "with_time_left"]

Job = TypeVar("Job")
SHORT = 5.0  # seconds; no time left is printed before
FIRST_LINE = 10.0  # seconds until the first line of a log
KNOWN = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f} {unit}, {remaining} left"
UNKNOWN = "{desc}: {n:.0f} {unit} | {elapsed}, {rate_fmt}"  # without a total
SPARSE = 1.1  # ratio of the times of successive lines in a log, which gives about fifty lines an hour


def progress_bar(
    show: bool,
    name: str,
    total: float | None,
    *,
    unit: str = "it",
    initial: float = 0,
    lines: bool = True,
) -> "tqdm[Any] | Lines":
    """A progress bar with the method `update(n)`, to be used in a ``with`` statement.

    On a terminal and in a notebook the bar moves. If the standard error is a file or a pipe, a few lines are written
    instead, the last one at the end of the work; without ``lines`` they are left out. Nothing is written without
    ``show`` or without a standard error.
    """
    moves = "ipykernel" in sys.modules or _on_terminal()
    if not show or sys.stderr is None or not (moves or lines):
        return tqdm(total=total, initial=initial, disable=True)
    if not moves:
        return Lines(name, total, unit, initial)
    kind = _notebook_bar() if "ipykernel" in sys.modules else tqdm
    return kind(desc=name, total=total, unit=unit, initial=initial, bar_format=UNKNOWN if total is None else KNOWN)


class Lines:
    """A progress bar for logs: a few lines at growing intervals, and one at the end of the work."""

    def __init__(self, name: str, total: float | None, unit: str, initial: float = 0):
        self.name, self.total, self.unit, self.n = name, total, unit.strip(), initial
        self.initial, self.began = initial, time.perf_counter()
        self.next_line = FIRST_LINE

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self.began
        self._write(f"{self._amount()} in {seconds:,.1f} s")

    def update(self, n: float = 1) -> None:
        self.n += n
        seconds = time.perf_counter() - self.began
        if seconds < self.next_line:
            return
        self.next_line = max(seconds + FIRST_LINE, seconds * SPARSE)
        remaining = ""
        if self.total and self.n > self.initial:
            remaining = f", about {seconds * (self.total - self.n) / (self.n - self.initial):.0f} s left"
        self._write(f"{self._amount()} after {seconds:.0f} s{remaining}")

    def _amount(self) -> str:
        unit = "" if self.unit == "it" else f" {self.unit}"
        return f"{self.n:,.0f} of {self.total:,.0f}{unit}" if self.total else f"{self.n:,.0f}{unit}"

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a closed log must not end the work
            print(f"{self.name}: {text}", file=sys.stderr, flush=True)


def _on_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # the standard error is missing, replaced or closed
        return False


def _notebook_bar() -> "type[tqdm[Any]]":
    """tqdm's bar of notebook widgets, or its text bar if the widgets are not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # about missing widgets
        from tqdm.auto import tqdm as bar
    return bar


def with_time_left(jobs: Sequence[Job]) -> Iterator[Job]:
    """Yield ``jobs``; before each but the first, print the number of finished jobs and the estimated time left."""
    began = time.perf_counter()
    for finished, job in enumerate(jobs):
        seconds = time.perf_counter() - began
        if finished and seconds > SHORT:
            remaining = seconds / finished * (len(jobs) - finished)
            print(f"{finished} of {len(jobs)} finished, about {max(1, round(remaining / 60))} min left", flush=True)
        yield job
