"""The progress bar of an evaluation."""

import threading
from types import TracebackType
from typing import Any

from tqdm import tqdm

from landscape.runtime.progress import Lines, progress_bar

__all__ = ["Attempt", "Progress"]


class Progress:
    """A progress bar in points, which any thread may move; points may be announced in several portions."""

    def __init__(self, show: bool, name: str):
        self.bar: tqdm[Any] | Lines = progress_bar(show, name, 0, unit="points")
        self.expected = 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> "Progress":
        self.bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)

    def expect(self, points: int) -> None:
        """Add ``points`` to the total."""
        self.expected += points
        self.bar.total = self.expected

    def advance(self, points: float) -> None:
        """Report ``points`` as finished; a negative number takes back earlier reports."""
        with self._lock:
            self.bar.update(points)

    def attempt(self) -> "Attempt":
        """A block whose reported progress is taken back if it raises."""
        return Attempt(self)


class Attempt:
    """Counts what it reports, to take that back where the work ends in an exception or is of no use."""

    def __init__(self, progress: Progress):
        self.progress, self.reported = progress, 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.take_back()

    def advance(self, points: float) -> None:
        with self._lock:
            self.reported += points
        self.progress.advance(points)

    def take_back(self) -> None:
        """Take back all that was reported."""
        self.progress.advance(-self.reported)
        self.reported = 0.0
