"""Numbers of numpy in JSON."""

import numpy as np

__all__ = ["plain_number"]


def plain_number(value: object) -> object:
    """A number of numpy as one of Python, for ``json.dumps(content, default=plain_number)``."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"JSON has no {type(value).__name__}")
