"""Import matplotlib, also where MPLBACKEND names a backend that it does not know."""

import contextlib
import os
import sys

__all__: list[str] = []

if "matplotlib" not in sys.modules and (wanted := os.environ.pop("MPLBACKEND", None)) is not None:
    # Notebooks and editors leave their own backend in the environment of all that they start; matplotlib cannot be
    # imported with one that it does not know, so that it is told afterwards.
    import matplotlib

    os.environ["MPLBACKEND"] = wanted
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = wanted
