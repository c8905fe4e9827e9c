"""Results that are computed once: recognised by their recipe and their quality, never by the name of their file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from landscape.runtime import ranks
from landscape.storage.reading import is_there
from landscape.storage.recipe import difference

__all__ = ["Reading", "cached", "kept_result", "look_up"]

Result = TypeVar("Result")
Recipe = Mapping[str, Any]
Reading = Callable[[Path], tuple[Result, Recipe] | None]  # a result with its recipe; None where the file holds none
Judgement = Callable[[Result], str | None]


def accepted(_: object) -> None:
    """The judgement where a result of the recipe is always good enough."""


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
    """The result kept at ``path`` if it is of this ``recipe`` and accepted, else that of ``compute``, which is kept.

    Why a result that is there is computed again is printed in one line: "PATH is computed again: its X is A, not B".

    Args:
        path: the file.
        recipe: all that the numbers depend on, see `difference`.
        compute: makes a new result.
        read: gives what is in the file with its recipe, None where there is no such result.
        write: keeps a new result in the file; None where ``compute`` does so itself.
        accept: says in which way a result of this recipe is less than what is asked for, such as "its error bound is
            0.1, not 0.01"; None where it is as good.
        force: compute in any case.
        entry: which result it is of those in the file, for the message.
        alone: do not decide together with the other ranks, inside what a single one of them does.
    """
    kept = None if force else look_up(path, recipe, read=read, accept=accept, entry=entry, alone=alone)
    if kept is not None:
        return kept
    result = compute()
    if write is not None:
        write(Path(path), result)
    return result


def look_up(
    path: str | Path,
    recipe: Recipe,
    *,
    read: Reading[Result],
    accept: Judgement[Result] = accepted,
    entry: str = "",
    alone: bool = False,
) -> Result | None:
    """What `cached` would serve, None where it would compute; why one that is there does not serve is printed."""
    path = Path(path)

    def look() -> Result | None:
        found = kept_result(path, recipe, read, accept)
        result, reason = found
        if reason:
            print(f"{path}{f' ({entry})' if entry else ''} is computed again: {reason}", flush=True)
        return result

    return look() if alone else ranks.from_first(look)


def kept_result(
    path: Path, recipe: Recipe, read: Reading[Result], accept: Judgement[Result] = accepted
) -> tuple[Result | None, str | None]:
    """(the result at ``path`` that `cached` would serve, why one that is there does not serve); None for neither."""
    if not is_there(path) or (found := read(path)) is None:
        return None, None
    result, stored = found
    reason = difference(stored, recipe) or accept(result)
    return (None, reason) if reason else (result, None)
