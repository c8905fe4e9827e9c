"""A bar over products, of which the number is not known beforehand."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
from tqdm import tqdm

from landscape.curvature.products import Product

__all__ = ["counted"]


@contextlib.contextmanager
def counted(
    product: Product, name: str, progress: bool, total: int | None = None
) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Yield ``product.matvec``, with a bar on a terminal if ``progress``."""
    with tqdm(desc=name, unit=" products", total=total, disable=None if progress else True) as bar:

        def matvec(vector: np.ndarray) -> np.ndarray:
            found = product.matvec(vector)
            bar.update()
            return found

        yield matvec
