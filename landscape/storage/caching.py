"""Stored results, which are recognised by their recipe and quality and not by the name of their file."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from landscape.errors import InputError
from landscape.runtime import ranks
from landscape.storage.locks import locked
from landscape.storage.reading import is_there
from landscape.storage.recipe import difference

__all__ = ["Reading", "cached", "kept_result", "look_up", "was_reused"]

Result = TypeVar("Result")
Recipe = Mapping[str, Any]
Reading = Callable[[Path], tuple[Result, Recipe] | None]  # a result with its recipe; None if the file holds none
Judgement = Callable[[Result], str | None]
_reused: set[tuple[Path, str]] = set()  # files, and entries in them, of the results that `cached` did not compute


def accepted(_: object) -> None:
    """The judgement that accepts every result of the recipe."""


def cached(
    path: str | Path,
    recipe: Recipe,
    compute: Callable[[], Result],
    *,
    read: Reading[Result],
    write: Callable[[Path, Result], object] | None = None,
    accept: Judgement[Result] = accepted,
    force: bool = False,
    entry: str = "",
    alone: bool = False,
) -> Result:
    """The result stored at ``path`` if it has this ``recipe`` and is accepted; otherwise compute it and store it.

    If a stored result is computed again, the reason is printed in one line: "PATH is computed again: its X is A, not
    B". Two processes do not compute the same result: the second one waits for the first and uses what it has stored.

    Args:
        path: The file.
        recipe: Everything on which the result depends, see `difference`.
        compute: Function that computes a new result.
        read: Function that returns the result in the file with its recipe; None if the file holds no such result.
        write: Function that stores a new result in the file; None if ``compute`` stores it.
        accept: Function that says why a result of this recipe is not good enough, such as "its error bound is 0.1, not
            0.01"; None if it is.
        force: Compute even if a result is stored.
        entry: Name of the result inside the file, if there are several; others can be computed meanwhile.
        alone: Decide on this rank alone; required inside work that only one rank does.
    """
    path = Path(path)
    look = partial(look_up, path, recipe, read=read, accept=accept, entry=entry, alone=alone)
    seen = _version(path)
    name = (path.absolute(), entry)
    _reused.add(name)  # until it turns out that there is something to compute
    if not force and (stored := look()) is not None:
        return stored
    with _one_at_a_time(path, entry) if alone or ranks.is_first_rank() else contextlib.nullcontext():
        if not force and _decided(lambda: _version(path) != seen, alone) and (stored := look()) is not None:
            return stored
        _reused.discard(name)
        result = compute()
        if write is not None:
            write(path, result)
        return result


def was_reused(path: str | Path) -> bool:
    """Whether the latest call of `cached` for all of the file at ``path`` returned what it held already."""
    return (Path(path).absolute(), "") in _reused


def look_up(
    path: str | Path,
    recipe: Recipe,
    *,
    read: Reading[Result],
    accept: Judgement[Result] = accepted,
    entry: str = "",
    alone: bool = False,
) -> Result | None:
    """The stored result that `cached` would return; None, with the reason printed, if it would compute a new one."""
    path = Path(path)

    def look() -> Result | None:
        outcome = kept_result(path, recipe, read, accept)
        result, reason = outcome
        if reason:
            print(f"{path}{f' ({entry})' if entry else ''} is computed again: {reason}", flush=True)
        return result

    return _decided(look, alone)


def kept_result(
    path: Path, recipe: Recipe, read: Reading[Result], accept: Judgement[Result] = accepted
) -> tuple[Result | None, str | None]:
    """(the stored result that `cached` would return, or None; the reason why a stored result is not returned)."""
    if not is_there(path) or (content := read(path)) is None:
        return None, None
    result, stored = content
    reason = difference(stored, recipe) or accept(result)
    return (None, reason) if reason else (result, None)


def _decided(decide: Callable[[], Result], alone: bool) -> Result:
    """What ``decide`` says on this rank if that works ``alone``, otherwise on the first one."""
    return decide() if alone else ranks.from_first(decide)


def _version(path: Path) -> tuple[int, ...] | None:
    """What tells the file from the one that replaces it; None if there is none."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns
    return None


@contextlib.contextmanager
def _one_at_a_time(path: Path, entry: str) -> Iterator[None]:
    """A block that one process at a time enters for the same result, unless nothing can be locked in its folder."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(InputError):
            stack.enter_context(locked(path.with_name(f"{path.name} {entry}") if entry else path))
        yield
