"""Checks of single arguments, which raise InputError with the same wording everywhere."""

import math
import os
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import TypeGuard

import numpy as np

from landscape.errors import InputError, InputTypeError

__all__ = [
    "MOST_LEVELS",
    "check_choice",
    "check_count",
    "check_distinct",
    "check_flag",
    "check_folder",
    "check_number",
    "check_seed",
    "check_text",
    "check_texts",
    "check_type",
    "checked_path",
    "is_number",
    "is_whole",
]

MOST_LEVELS = 1000  # largest number of bands or panels of one figure
MOST = 2**31 - 1  # largest number of samples, steps or random draws: torch counts some of them in 32 bits


def check_count(name: str, value: int | None, least: int = 1, most: int = MOST) -> None:
    """Raise InputError unless ``value`` is None or a whole number from ``least`` to ``most``.

    Example:
        >>> check_count("levels", 1, least=2)
        Traceback (most recent call last):
        landscape.errors.InputError: levels is 1; it must be a whole number from 2 to 2,147,483,647
    """
    if value is not None and not (is_whole(value) and least <= value <= most):
        raise InputError(f"{name} is {value}; it must be a whole number from {least:,} to {most:,}")


def is_whole(value: object) -> TypeGuard[int]:
    """Whether ``value`` is a whole number of Python or numpy; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a real number of Python or numpy; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_choice(name: str, value: object, choices: Iterable[str | None]) -> None:
    """Raise InputError unless ``value`` is one of ``choices``.

    Example:
        >>> check_choice("view", "top", ("side", "front"))
        Traceback (most recent call last):
        landscape.errors.InputError: unknown view 'top'; use one of side, front
    """
    choices = tuple(choices)
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise InputError(f"unknown {name} {value!r}; use one of {', '.join(map(str, choices))}")


def check_folder(name: str, path: str | Path) -> None:
    """Raise InputError if ``path`` is something else than a folder; it need not exist."""
    if not isinstance(path, str | os.PathLike):
        raise InputTypeError(f"{name} is {path!r}; give the path of a folder")
    if Path(path).exists() and not Path(path).is_dir():
        raise InputError(f"{name} is {path}, which is a file; give a folder")


def check_number(
    name: str, value: float, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf
) -> None:
    """Raise InputError unless ``value`` is finite, larger than ``above``, at least ``least`` and at most ``most``."""
    if not (is_number(value) and math.isfinite(value)) or value <= above or not least <= value <= most:
        bounds = f" above {above:g}" * (above > -math.inf) + f" of at least {least:g}" * (least > -math.inf)
        bounds += f" and at most {most:g}" * (most < math.inf)
        raise InputError(f"{name} is {value}; it must be a finite number{bounds}")


def check_seed(value: int, name: str = "seed") -> None:
    """Raise InputError unless ``value`` is a whole number from 0 to 2**64 - 1, which every generator accepts."""
    if not (is_whole(value) and 0 <= value < 2**64):
        raise InputError(f"{name} is {value}; it must be a whole number from 0 to 2**64 - 1")


def check_distinct(name: str, values: tuple[object, ...]) -> None:
    """Raise InputError if one of ``values`` occurs twice."""
    if twice := [value for value in values if values.count(value) > 1]:
        raise InputError(f"{name} has {twice[0]!r} twice; every value may occur only once")


def check_flag(name: str, value: object) -> None:
    """Raise InputTypeError unless ``value`` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InputTypeError(f"{name} is {value!r}; it must be True or False")


def check_text(name: str, value: object) -> None:
    """Raise InputTypeError unless ``value`` is None or a text."""
    if not isinstance(value, str | None):
        raise InputTypeError(f"{name} is {value!r}; it must be a text, or None")


def check_texts(name: str, values: object) -> None:
    """Raise InputTypeError unless ``values`` is None or a list of texts; a single text is none.

    Example:
        >>> check_texts("names", "first")
        Traceback (most recent call last):
        landscape.errors.InputTypeError: names is 'first'; it must be a list of texts, such as ['first', 'second']
    """
    if values is None:
        return
    if not isinstance(values, Sequence) or isinstance(values, str) or not all(isinstance(v, str) for v in values):
        raise InputTypeError(f"{name} is {values!r}; it must be a list of texts, such as ['first', 'second']")


def checked_path(path: str | os.PathLike[str], name: str = "path") -> Path:
    """``path`` as a `Path`.

    Raises:
        InputTypeError: It is no text and no path, such as None or a number.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputTypeError(f"{name} is {path!r}; it must be the path of a file")
    return Path(path)


def check_type(value: object, kind: type | UnionType, call: str, what: str) -> None:
    """Raise InputTypeError unless ``value`` is of ``kind``; ``what`` says in words what ``call`` takes.

    Example:
        >>> check_type(3, str, "plot_title(title)", "a text")
        Traceback (most recent call last):
        landscape.errors.InputTypeError: plot_title(title) takes a text, not int
    """
    if not isinstance(value, kind):
        raise InputTypeError(f"{call} takes {what}, not {type(value).__name__}")
