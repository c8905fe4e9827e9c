"""Checks of single arguments, which raise InputError with the same wording everywhere."""

import math
from collections.abc import Iterable
from pathlib import Path
from types import UnionType

from landscape.errors import InputError, InputTypeError

__all__ = [
    "MOST_LEVELS",
    "check_choice",
    "check_count",
    "check_distinct",
    "check_folder",
    "check_number",
    "check_seed",
    "check_type",
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
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most):
        raise InputError(f"{name} is {value}; it must be a whole number from {least:,} to {most:,}")


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
    if Path(path).exists() and not Path(path).is_dir():
        raise InputError(f"{name} is {path}, which is a file; give a folder")


def check_number(
    name: str, value: float, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf
) -> None:
    """Raise InputError unless ``value`` is finite, larger than ``above``, at least ``least`` and at most ``most``."""
    number = isinstance(value, int | float) and math.isfinite(value)
    if not number or value <= above or not least <= value <= most:
        bounds = f" above {above:g}" * (above > -math.inf) + f" of at least {least:g}" * (least > -math.inf)
        bounds += f" and at most {most:g}" * (most < math.inf)
        raise InputError(f"{name} is {value}; it must be a finite number{bounds}")


def check_seed(value: int, name: str = "seed") -> None:
    """Raise InputError unless ``value`` is a whole number from 0 to 2**64 - 1, which every generator accepts."""
    if not isinstance(value, int) or not 0 <= value < 2**64:
        raise InputError(f"{name} is {value}; it must be a whole number from 0 to 2**64 - 1")


def check_distinct(name: str, values: tuple[object, ...]) -> None:
    """Raise InputError if one of ``values`` occurs twice."""
    if twice := [value for value in values if values.count(value) > 1]:
        raise InputError(f"{name} has {twice[0]!r} twice; every value may occur only once")


def check_type(value: object, kind: type | UnionType, call: str, what: str) -> None:
    """Raise InputTypeError unless ``value`` is of ``kind``; ``what`` says in words what ``call`` takes.

    Example:
        >>> check_type(3, str, "plot_title(title)", "a text")
        Traceback (most recent call last):
        landscape.errors.InputTypeError: plot_title(title) takes a text, not int
    """
    if not isinstance(value, kind):
        raise InputTypeError(f"{call} takes {what}, not {type(value).__name__}")
