"""A bar over products, of which the number is not known beforehand."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from landscape.curvature.products import Product
from landscape.runtime.progress import progress_bar

__all__ = ["counted"]


@contextlib.contextmanager
def counted(
    product: Product, name: str, progress: bool, total: int | None = None
) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Yield ``product.matvec``, with a bar if ``progress``."""
    with progress_bar(progress, name, total, unit="products") as bar:

        def matvec(vector: np.ndarray) -> np.ndarray:
            found = product.matvec(vector)
            bar.update()
            return found

        yield matvec
