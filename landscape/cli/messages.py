"""Messages of the scripts: settings, written files, options without effect, advice added to errors of the library."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from landscape.errors import InputError
from landscape.storage.caching import was_reused

__all__ = ["advised", "describe", "note_unused", "optional", "refuse_unused", "wrote"]


def wrote(path: Path) -> None:
    """Print that the file at ``path`` was written, or that it held the same result already and was kept."""
    print(f"{'Kept' if was_reused(path) else 'Wrote'} {path}", flush=True)


@contextlib.contextmanager
def advised(advice: str) -> Iterator[None]:
    """Add ``advice``, which may name options, to every InputError of the library; its own messages name none."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{error}; {advice}") from error


@contextlib.contextmanager
def optional(what: str) -> Iterator[None]:
    """Print why ``what`` is left out if the library refuses it, and continue."""
    try:
        yield
    except InputError as error:
        print(f"No {what}: {error}", flush=True)


def refuse_unused(where: str, *groups: tuple[Any, Any], **options: tuple[object, object]) -> None:
    """Raise InputError for options that differ from their defaults but have no effect in the mode ``where``.

    Args:
        where: The mode, such as "with --from".
        groups: Pairs of settings and the same settings with their defaults.
        options: name -> (value, default).
    """
    if unused := _unused(where, *groups, **options):
        raise InputError(f"{unused}; leave {'them' if ', ' in unused else 'it'} out")


def note_unused(where: str, *groups: tuple[Any, Any], **options: tuple[object, object]) -> None:
    """Like `refuse_unused`, but print a line instead of raising an error."""
    if unused := _unused(where, *groups, **options):
        print(f"Note: {unused}", flush=True)


def _unused(where: str, *groups: tuple[Any, Any], **options: tuple[object, object]) -> str:
    pairs = dict(options)
    for one, two in groups:
        pairs |= {field.name: (getattr(one, field.name), getattr(two, field.name)) for field in fields(one)}
    names = [f"--{name.replace('_', '-')}" for name, (value, default) in pairs.items() if value != default]
    return f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} no effect {where}" if names else ""


def describe(*settings: Any, **others: object) -> str:
    """All ``settings`` (dataclasses, also inside dataclasses) and ``others`` with their values, in one line."""
    pairs = _pairs({key: value for group in settings for key, value in asdict(group).items()} | others)
    return ", ".join(f"{key} {value}" for key, value in pairs)


def _pairs(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        yield from _pairs(value) if isinstance(value, dict) else [(key, value)]
