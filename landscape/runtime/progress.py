"""How far along work is, and how long the rest of it will take."""

import contextlib
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from tqdm import TqdmWarning, tqdm

__all__ = ["progress_bar", "with_time_left"]

Job = TypeVar("Job")
SHORT = 5.0  # seconds below which nothing is said
FIRST_LINE = 10.0  # seconds until the first line of a log
KNOWN = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f} {unit}, {remaining} left"
UNKNOWN = "{desc}: {n:.0f} {unit} | {elapsed}, {rate_fmt}"  # how many there will be
SPARSE = 1.1  # ratio of the times of one line of a log and the next: some fifty lines an hour


def progress_bar(
    show: bool,
    name: str,
    total: float | None,
    *,
    unit: str = "it",
    initial: float = 0,
    lines: bool = True,
) -> "tqdm[Any] | Lines":
    """A bar with `update(n)`, to be used in a ``with`` statement.

    On a terminal and in a notebook it moves; where the standard error is a file or a pipe it is a few lines, the last
    one when the work ends, or nothing without ``lines``. Without ``show``, or without a standard error, nothing is
    written.
    """
    moves = "ipykernel" in sys.modules or _on_terminal()
    if not show or sys.stderr is None or not (moves or lines):
        return tqdm(total=total, initial=initial, disable=True)
    if not moves:
        return Lines(name, total, unit, initial)
    kind = _notebook_bar() if "ipykernel" in sys.modules else tqdm
    return kind(desc=name, total=total, unit=unit, initial=initial, bar_format=UNKNOWN if total is None else KNOWN)


class Lines:
    """A bar where a moving one cannot be read: few lines, further and further apart, and one when the work ends."""

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
        left = ""
        if self.total and self.n > self.initial:
            left = f", about {seconds * (self.total - self.n) / (self.n - self.initial):.0f} s left"
        self._write(f"{self._amount()} after {seconds:.0f} s{left}")

    def _amount(self) -> str:
        unit = "" if self.unit == "it" else f" {self.unit}"
        return f"{self.n:,.0f} of {self.total:,.0f}{unit}" if self.total else f"{self.n:,.0f}{unit}"

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a log that is gone must not end the work
            print(f"{self.name}: {text}", file=sys.stderr, flush=True)


def _on_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # none, another object in its place, or a closed file
        return False


def _notebook_bar() -> "type[tqdm[Any]]":
    """The bar of the notebook's own widgets, or the one of text where these are not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # of missing widgets
        from tqdm.auto import tqdm as bar
    return bar


def with_time_left(jobs: Sequence[Job]) -> Iterator[Job]:
    """Yield ``jobs`` and print, after each that took long, how many are done and the time that the others will take."""
    began = time.perf_counter()
    for done, job in enumerate(jobs):
        seconds = time.perf_counter() - began
        if done and seconds > SHORT:
            left = seconds / done * (len(jobs) - done)
            print(f"{done} of {len(jobs)} done, about {max(1, round(left / 60))} min left", flush=True)
        yield job
