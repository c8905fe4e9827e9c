"""Process-wide state that threads change together: the first thread sets it, the last one restores it."""

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

__all__ = ["OwnLock", "Shared"]


class Shared:
    """A value of process-wide state that several threads can hold at the same time if they need the same value.

    The first holder applies its value, the last one restores the earlier state. A thread that needs another value waits
    until no thread holds the present one. If a thread that holds a value requests another one, it releases its own
    while it waits, so that two threads never wait for each other.

    Args:
        apply: Function that sets the state to a value and returns the function that restores the earlier state.
    """

    def __init__(self, apply: Callable[[Any], Callable[[], None]]):
        self._apply = apply
        self._undo: Callable[[], None] | None = None
        self._value: Hashable = None
        self._holders = 0
        self._changed = threading.Condition()
        self._of_thread = threading.local()

    def is_held(self, value: Hashable) -> bool:
        """Whether this thread holds ``value``."""
        return getattr(self._of_thread, "value", None) == value

    @contextlib.contextmanager
    def held(self, value: Hashable) -> Iterator[None]:
        """Hold ``value``, which must not be None, inside the block."""
        outer = getattr(self._of_thread, "value", None)
        if outer == value:
            yield
            return
        try:
            self._switch(outer, value)
            yield
        finally:
            self._switch(self._of_thread.value, outer)

    def _switch(self, old: Hashable, new: Hashable) -> None:
        with self._changed:
            if old is not None:
                self._release()
            if new is not None:
                self._changed.wait_for(lambda: self._holders == 0 or self._value == new)
                self._take(new)

    def _take(self, value: Hashable) -> None:
        if not self._holders:
            self._undo, self._value = self._apply(value), value
        self._holders += 1
        self._of_thread.value = value

    def _release(self) -> None:
        self._holders -= 1
        self._of_thread.value = None
        if not self._holders and self._undo is not None:
            self._undo()
            self._undo = None
        self._changed.notify_all()


class OwnLock:
    """A reentrant lock that can be an attribute of objects to copy: the copy gets a new lock.

    The ``with`` statement yields whether this is the thread's outermost entry.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0

    def __enter__(self) -> bool:
        self._lock.acquire()
        self._depth += 1
        return self._depth == 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return OwnLock, ()
