"""State of the whole process, changed for as long as some thread needs it and put back by the last one."""

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

__all__ = ["OwnLock", "Shared"]


class Shared:
    """A value of process-wide state that several threads may hold at once, as long as they need the same one.

    The first holder applies its value, the last one undoes it. Who needs another value waits until nobody holds this
    one. A thread that holds a value and needs another inside gives its own up while it waits, so that two threads
    never wait for each other.

    Args:
        apply: takes the value, sets the state, and returns what puts the earlier state back.
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
        """Hold ``value``, which is not None."""
        outer = getattr(self._of_thread, "value", None)
        if outer == value:
            yield
            return
        try:
            self._switch(outer, value)
            yield
        finally:
            self._switch(self._of_thread.value, outer)

    def _switch(self, given_up: Hashable, taken: Hashable) -> None:
        with self._changed:
            if given_up is not None:
                self._give_up()
            if taken is not None:
                self._changed.wait_for(lambda: self._holders == 0 or self._value == taken)
                self._take(taken)

    def _take(self, value: Hashable) -> None:
        if not self._holders:
            self._undo, self._value = self._apply(value), value
        self._holders += 1
        self._of_thread.value = value

    def _give_up(self) -> None:
        self._holders -= 1
        self._of_thread.value = None
        if not self._holders and self._undo is not None:
            self._undo()
            self._undo = None
        self._changed.notify_all()


class OwnLock:
    """A lock that one thread may enter again; a copy of its owner gets one of its own.

    As a context manager it tells whether this is the outermost entry.
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
