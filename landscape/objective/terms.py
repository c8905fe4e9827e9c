"""The results of callable losses and metrics for a batch, converted to one form."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from landscape.errors import InputError
from landscape.objective.losses import Weighted

__all__ = ["LOSS", "REGULARIZER", "Term", "check_name", "named", "terms_of"]

LOSS = "loss"  # the name of the loss among the terms
REGULARIZER = "regularizer"  # the name of the term that depends on the parameters alone
TAKEN = ("accuracy", "standard_error", "per_sample")  # names of other fields of a surface
FORMS = "a tensor [batch] with one value a sample, a scalar tensor that is their mean, or Weighted(values, weights)"


class Term(NamedTuple):
    """One value and weight for each sample, or the mean over the batch with the weight of the batch."""

    values: Tensor  # [batch] or a scalar
    weights: Tensor | None  # of the same shape; None if all samples have the same weight

    @property
    def per_sample(self) -> bool:
        return self.values.ndim == 1


def terms_of(result: Any, what: str = "the loss", name: str = LOSS) -> dict[str, Term]:
    """The terms of the ``result`` of a loss or metric by name: the entries of a dict, or one term called ``name``.

    Raises:
        InputError: the result has none of the forms in `FORMS`, or a name is taken.
    """
    if isinstance(result, Mapping):
        if name != LOSS:
            raise InputError(f"{what} gives a {type(result).__name__}; it must give {FORMS}")
        return {key: _term(value, f"the term {key!r} of {what}", key) for key, value in _entries(result, what)}
    return {name: _term(result, what, name)}


def check_name(name: Any, what: str) -> None:
    """Raise InputError unless ``name`` can be the name of a quantity."""
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{what} has the name {name!r}; the names of quantities are text")
    if name in TAKEN:
        raise InputError(f"{what} has the name {name!r}, which is taken by another field of a surface; choose another")


def named(name: str) -> str:
    """The words for the term ``name`` in a message."""
    return "the loss" if name == LOSS else f"the quantity {name!r}"


def _entries(result: Mapping[Any, Any], what: str) -> list[tuple[str, Any]]:
    if not result:
        raise InputError(f"{what} gives an empty {type(result).__name__}; it must give at least one term")
    for key in result:
        check_name(key, f"a term of {what}")
    return list(result.items())


def _term(result: Any, what: str, name: str) -> Term:
    if isinstance(result, Weighted):
        values, weights = result.values, result.weights
        if not isinstance(values, Tensor) or not isinstance(weights, Tensor) or values.shape != weights.shape:
            raise InputError("Weighted takes two tensors [batch], the values and the weights of the samples")
        return Term(_real(values, what, name), weights.detach())
    if not isinstance(result, Tensor):
        dicts = ", or a dict of these" if name == LOSS else ""
        raise InputError(f"{what} gives {type(result).__name__}; it must give {FORMS}{dicts}")
    return Term(_real(result, what, name), None)


def _real(values: Tensor, what: str, name: str) -> Tensor:
    """``values``, if they are real numbers.

    Raises:
        InputError: they are complex, or they are losses and not floating-point numbers; quantities may be integers.
    """
    if values.is_complex() or (name == LOSS and not values.is_floating_point()):
        raise InputError(f"{what} gives values of {values.dtype}; it must give real floating-point numbers")
    return values
