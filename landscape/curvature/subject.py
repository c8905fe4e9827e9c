"""The subject of a measurement: a product, or an objective with a point from which a product is made."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from torch import nn

from landscape.checks import check_choice
from landscape.curvature.products import Product, ggn_product, hessian_product
from landscape.errors import InputError, InputTypeError
from landscape.objective.objectives import Objective
from landscape.points import Point
from landscape.runtime.progress import progress_bar

__all__ = ["Multiplications", "Operator", "counted", "product_of", "recorded"]

Operator = Literal["hessian", "ggn"]
MAKERS = {"hessian": hessian_product, "ggn": ggn_product}


@contextlib.contextmanager
def product_of(
    subject: Product | Objective,
    point: nn.Module | Point | None,
    operator: Operator | None,
    parameters: str | Sequence[str] | None,
) -> Iterator[Product]:
    """Yield ``subject`` if it is a product, else a product of this objective at ``point``, released afterwards.

    Raises:
        InputError: a point, operator or parameters are passed with a product, or the operator is unknown.
        InputTypeError: ``subject`` is neither a product nor an objective, or an objective is passed without a point.
    """
    if isinstance(subject, Product):
        for name, value in {"point": point, "operator": operator, "parameters": parameters}.items():
            if value is not None:
                raise InputError(
                    f"{name} was passed with a product, which already has one; leave it out, or make another product "
                    "with hessian_product or ggn_product"
                )
        yield subject
        return
    if not isinstance(subject, Objective):
        raise InputTypeError(
            f"a product or an objective is needed, not {type(subject).__name__}; make one with "
            "product = hessian_product(objective(model, data), model)"
        )
    if point is None:
        raise InputTypeError(
            "an objective needs a point; make product = hessian_product(objective, model) and pass the product"
        )
    if operator is not None:
        check_choice("operator", operator, MAKERS)
    product = MAKERS[operator or "hessian"](subject, point, parameters=("*",) if parameters is None else parameters)
    try:
        yield product
    finally:
        product.release()


class Multiplications:
    """The map v -> H v of ``product``, with its own count of multiplications."""

    def __init__(self, product: Product, update: Callable[[], object]):
        self.product, self.update, self.count = product, update, 0
        self.dimension, self.dtype = product.dimension, product.numpy_dtype

    def __call__(self, vector: np.ndarray) -> np.ndarray:
        """H v [D] in float64 for ``vector`` [D]."""
        image = self.product.matvec(vector)
        self.count += 1
        self.update()
        return image


@contextlib.contextmanager
def counted(product: Product, name: str, progress: bool, total: int | None = None) -> Iterator[Multiplications]:
    """Yield the map v -> H v with a progress bar; ``total`` is the number of products, None if it is unknown."""
    with progress_bar(progress, name, total, unit="products") as bar:
        yield Multiplications(product, bar.update)


def recorded(product: Product, began: float, **settings: object) -> dict[str, Any]:
    """The metadata of a result: the matrix, the settings of the measurement, and the seconds since ``began``."""
    return {**product.description, **settings, "seconds": time.perf_counter() - began}
