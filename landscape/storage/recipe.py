"""Recipes: the plain values on which a result depends, and the rule by which two recipes are the same."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from landscape.escaping import one_line
from landscape.storage.numbers import plain_number

__all__ = [
    "Rounded",
    "Unidentified",
    "difference",
    "differences",
    "is_identified",
    "renamed",
    "short_digest",
    "unfinished_path",
]

ROUNDING = 1e-3  # relative change of a number of `Rounded` by the rounding of another machine, at most
LONGEST = 60  # characters of a value in a message
DIGEST, DIGEST_SHOWN = re.compile("[0-9a-f]{64}"), 12


class Rounded(list[float]):
    """Computed numbers in a recipe, which another machine may round differently."""


class Unidentified(str):
    """The name of a part of a recipe that cannot be identified; it counts as changed."""


def difference(stored: Mapping[str, Any], requested: Mapping[str, Any]) -> str | None:
    """The first entry in which two recipes differ, such as "its loss is mse, not cross_entropy"; None if they agree.

    Recipes are JSON values; ``stored`` may come from a file. Numbers of `Rounded` in ``requested`` agree if they differ
    by at most a thousandth of the sum of their size and the mean size of all of them; all other values agree if they
    are equal. An absent entry counts as None.

    Example:
        >>> difference({"training": {"lr": 0.1, "seed": 0}}, {"training": {"lr": 0.2, "seed": 0}})
        'its training lr is 0.1, not 0.2'
    """
    return next(iter(differences(stored, requested)), None)


def differences(stored: Mapping[str, Any], requested: Mapping[str, Any]) -> list[str]:
    """Every entry in which two recipes differ, see `difference`."""
    for part in _parts(requested):
        if isinstance(part, Unidentified):
            return [f"{part} cannot be identified, so it may have changed"]
    return [_message(*entry) for entry in _different(stored, requested, ())]


def is_identified(recipe: Mapping[str, Any]) -> bool:
    """Whether a result of this ``recipe`` can be recognised later: no part of it is `Unidentified`."""
    return not any(isinstance(part, Unidentified) for part in _parts(recipe))


def renamed(recipe: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """``recipe`` of a file of an earlier version with its old names replaced by ``names`` (old -> new)."""
    return {names.get(name, name): value for name, value in recipe.items()}


def short_digest(recipe: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that distinguish recipes in the name of a file; numbers of `Rounded` do not count."""
    return hashlib.sha256(json.dumps(_exact(recipe), sort_keys=True, default=plain_number).encode()).hexdigest()[:8]


def unfinished_path(path: Path, recipe: Mapping[str, Any], suffix: str | None = None) -> Path:
    """The file in which unfinished work on ``path`` with this ``recipe`` is stored, for a killed run to be resumed.

    Example:
        >>> unfinished_path(Path("out/surface.npz"), {"seed": 0}).name
        'surface.de7d7744.unfinished.npz'
    """
    return path.with_name(f"{path.stem}.{short_digest(recipe)}.unfinished{path.suffix if suffix is None else suffix}")


def _different(stored: Any, requested: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """(names of the entry from outside to inside, stored value, requested value) of each one that differs."""
    if isinstance(stored, Mapping) and isinstance(requested, Mapping):
        requested = {str(key): value for key, value in requested.items()}  # keys of JSON are strings
        for key in dict.fromkeys((*requested, *stored)):
            yield from _different(stored.get(key), requested.get(key), (*place, str(key)))
    elif not _same(stored, requested):
        yield place, stored, requested


def _message(place: tuple[str, ...], stored: Any, requested: Any) -> str:
    name, old, new = " ".join(place), _shown(stored), _shown(requested)
    return f"its {name} is {old}, not {new}" if old != new else f"its {name} is another one"


def _same(stored: Any, requested: Any) -> bool:
    if isinstance(requested, Rounded):
        return isinstance(stored, list) and len(stored) == len(requested) and _close(stored, requested)
    if isinstance(stored, list | tuple) and isinstance(requested, list | tuple):
        return len(stored) == len(requested) and all(map(_same, stored, requested))
    if isinstance(stored, Mapping) and isinstance(requested, Mapping):
        return not any(_different(stored, requested, ()))
    if isinstance(stored, bool) != isinstance(requested, bool):
        return False
    return bool(stored == requested or (_is_nan(stored) and _is_nan(requested)))


def _close(stored: list[Any], requested: Rounded) -> bool:
    """Whether all numbers are equal up to the rounding of another machine."""
    mean = math.fsum(abs(number) for number in requested if math.isfinite(number)) / max(len(requested), 1)

    def same(old: Any, new: float) -> bool:
        if not isinstance(old, int | float):
            return False
        if not math.isfinite(new):
            return old == new or (_is_nan(old) and _is_nan(new))
        return abs(old - new) <= ROUNDING * (abs(new) + mean)

    return all(same(old, new) for old, new in zip(stored, requested, strict=True))


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _parts(value: Any) -> list[Any]:
    """``value`` and all values inside it."""
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [value, *(part for entry in inside for part in _parts(entry))]


def _exact(value: Any) -> Any:
    """``value`` without numbers of `Rounded`."""
    if isinstance(value, Mapping):
        return {str(key): _exact(entry) for key, entry in value.items() if not isinstance(entry, Rounded)}
    return [_exact(entry) for entry in value] if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    text = one_line(str(value))
    if DIGEST.fullmatch(text):
        return text[:DIGEST_SHOWN]
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
