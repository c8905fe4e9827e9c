"""Seeds of random generators, checked before they are used."""

import operator
from typing import Any

from landscape.errors import InputError

__all__ = ["checked_seed"]


def checked_seed(seed: Any) -> int:
    """``seed`` as a plain int from 0 to 2**64 - 1; a negative seed stands for seed + 2**64, as in torch.

    Raises:
        InputError: it is not a whole number (True and 1.0 are refused), or it has more than 64 bits.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        number = None
    if number is None or type(seed) is bool:
        raise InputError(f"a seed is a whole number, such as 42, not {seed!r}")
    if not -(2**63) <= number < 2**64:
        raise InputError(f"a seed has at most 64 bits: take one from 0 to {2**64 - 1}, not {number}")
    return number % 2**64
