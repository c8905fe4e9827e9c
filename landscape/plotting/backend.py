"""Importing matplotlib although the environment may name an unknown backend."""

import os
import sys
import warnings

__all__ = ["import_matplotlib"]


def import_matplotlib() -> None:
    """Import matplotlib; if it does not know the backend in MPLBACKEND, ignore that variable with a warning.

    Notebooks and other programs pass this variable on to the processes that they start.
    """
    try:
        import matplotlib  # raises ValueError for an unknown backend
    except ValueError as error:
        name = os.environ.pop("MPLBACKEND", None)
        if name is None:
            raise
        for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[module]  # they are only partly loaded
        warnings.warn(f"MPLBACKEND={name!r} is ignored: {str(error).partition(';')[0]}", stacklevel=2)
        import matplotlib  # noqa: F401
