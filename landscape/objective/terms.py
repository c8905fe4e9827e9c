"""What a callable loss or metric gives for a batch, in one form."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from landscape.errors import InputError
from landscape.objective.losses import Weighted

__all__ = ["LOSS", "REGULARIZER", "Term", "check_name", "named", "terms_of"]

LOSS = "loss"  # the name of the loss among the terms
REGULARIZER = "regularizer"  # and of what depends on the parameters alone
TAKEN = ("accuracy", "standard_error", "per_sample")  # what a surface holds beside its quantities
FORMS = (
    "a tensor [batch] with one value a sample, a scalar tensor that is their mean, Weighted(values, weights), or a "
    "dict of these"
)


class Term(NamedTuple):
    """One value a sample with its weight, or the mean over the batch with the weight of the batch."""

    values: Tensor  # [batch] or a scalar
    weights: Tensor | None  # of the same shape; None where all samples weigh the same

    @property
    def per_sample(self) -> bool:
        return self.values.ndim == 1


def terms_of(given: Any, what: str = "the loss", name: str = LOSS) -> dict[str, Term]:
    """The terms of ``given`` by name: those of a dict, or one of ``name``.

    Raises:
        InputError: another form than the contract has, or a name that is taken.
    """
    if isinstance(given, Mapping):
        if name != LOSS:
            raise InputError(f"{what} gives a {type(given).__name__}; it must give {FORMS.partition(', or')[0]}")
        return {key: _term(value, f"{what} gives {key!r}, which", key) for key, value in _entries(given, what)}
    return {name: _term(given, what, name)}


def check_name(name: Any, what: str) -> None:
    """Raise InputError unless ``name`` can stand for a quantity."""
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{what} has the name {name!r}; the names of quantities are text")
    if name in TAKEN:
        raise InputError(f"{what} has the name {name!r}, which stands for something else in a surface; choose another")


def named(name: str) -> str:
    """What the term ``name`` is called in a message."""
    return "the loss" if name == LOSS else f"the quantity {name!r}"


def _entries(given: Mapping[Any, Any], what: str) -> list[tuple[str, Any]]:
    if not given:
        raise InputError(f"{what} gives an empty {type(given).__name__}; it must give at least one term")
    for key in given:
        check_name(key, f"a term of {what}")
    return list(given.items())


def _term(given: Any, what: str, name: str) -> Term:
    if isinstance(given, Weighted):
        values, weights = given.values, given.weights
        if not isinstance(values, Tensor) or not isinstance(weights, Tensor) or values.shape != weights.shape:
            raise InputError("Weighted takes two tensors [batch], the values and the weights of the samples")
        return Term(_real(values, what, name), weights.detach())
    if not isinstance(given, Tensor):
        raise InputError(f"{what} gives {type(given).__name__}; it must give {FORMS}")
    return Term(_real(given, what, name), None)


def _real(values: Tensor, what: str, name: str) -> Tensor:
    """``values``, of which those of a quantity, such as hits, may be whole numbers."""
    if values.is_complex() or (name == LOSS and not values.is_floating_point()):
        raise InputError(f"{what} gives values of {values.dtype}; it must give real floating-point numbers")
    return values
