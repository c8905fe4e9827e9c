"""Packages that are imported only where a user asks for what they do."""

import importlib
from types import ModuleType

from landscape.errors import InputError

__all__ = ["imported"]


def imported(module: str, package: str, what: str) -> ModuleType:
    """The ``module`` of the ``package`` without which ``what`` cannot be done.

    Raises:
        InputError: the package is not installed, or cannot be imported.

    Example:
        >>> imported("json", "json", "this format").__name__
        'json'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"{what} needs the package {package}: pip install {package}") from error
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{what} needs the package {package}, which cannot be imported: {reason}") from error
