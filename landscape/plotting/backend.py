"""matplotlib, whatever backend the environment names."""

import os
import sys
import warnings

__all__ = ["import_matplotlib"]


def import_matplotlib() -> None:
    """Import matplotlib; without the backend in MPLBACKEND where it knows none of that name.

    Notebooks and other programs hand this variable on to what they start.
    """
    try:
        import matplotlib  # which refuses an unknown backend
    except ValueError as error:
        name = os.environ.pop("MPLBACKEND", None)
        if name is None:
            raise
        for module in [found for found in sys.modules if found.partition(".")[0] == "matplotlib"]:
            del sys.modules[module]  # half loaded
        warnings.warn(f"MPLBACKEND={name!r} is ignored: {str(error).partition(';')[0]}", stacklevel=2)
        import matplotlib  # noqa: F401
