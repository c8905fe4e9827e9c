"""How long the rest of a list of jobs will take."""

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["with_time_left"]

Job = TypeVar("Job")
SHORT = 5.0  # seconds below which nothing is said


def with_time_left(jobs: Sequence[Job]) -> Iterator[Job]:
    """Yield ``jobs`` and print, after each that took long, how many are done and the time that the others will take."""
    began = time.perf_counter()
    for done, job in enumerate(jobs):
        seconds = time.perf_counter() - began
        if done and seconds > SHORT:
            left = seconds / done * (len(jobs) - done)
            print(f"{done} of {len(jobs)} done, about {max(1, round(left / 60))} min left", flush=True)
        yield job
