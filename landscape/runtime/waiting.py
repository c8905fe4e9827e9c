"""How long the threads of torch wait for each other before they let other processes run."""

import os
from collections.abc import MutableMapping

__all__ = ["wait_briefly"]

# About 10 to 50 microseconds, which covers the time between two operations. GNU's default is 300 times as long; on a
# busy machine two threads then spend more time waiting for each other, on cores that others need, than computing.
SPINS = "1000"


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads of GNU's OpenMP, which torch's Linux builds use, wait briefly before they sleep.

    OpenMP reads this when torch loads it, so it must be set before. It changes no result. A choice of the user stays.
    """
    if not environment.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        environment["GOMP_SPINCOUNT"] = SPINS
