"""What the losses of an objective depend on besides the point and the data."""

from typing import Any

from torch import nn

from landscape.objective.code import PLAIN, digest_of, names_read
from landscape.objective.objectives import Objective
from landscape.objective.terms import LOSS, REGULARIZER
from landscape.storage.recipe import Rounded, Unidentified

__all__ = ["objective_identity"]


def objective_identity(objective: Objective) -> dict[str, Any]:
    """What the losses depend on besides point and data: network, settings, and the loss with all it computes with.

    The losses of a first batch distinguish networks that have the same weights but different code.
    """
    contract = objective.contract
    code: dict[str, Any] = {}
    for name, function in ((LOSS, contract.loss), ("metrics", contract.metrics), (REGULARIZER, contract.regularizer)):
        if function and not isinstance(function, str):
            code[f"{name} code"] = digest_of(function) or Unidentified(f"what the callable {name} computes with")
    read = names_read({"loss": contract.loss, REGULARIZER: contract.regularizer, **contract.metrics})
    if attributes := _attributes(objective.model, read):
        code["read from the network"] = attributes
    return {"objective": objective.description, "first losses": Rounded(objective.contract.first_losses), **code}


def _attributes(model: nn.Module, names: set[str]) -> dict[str, str]:
    """The plain values that the modules of ``model`` hold under ``names``, such as a coefficient of the loss."""
    return {
        f"{place}.{name}".lstrip("."): repr(value)
        for place, module in model.named_modules()
        for name, value in vars(module).items()
        if name in names and name != "training" and isinstance(value, PLAIN)
    }
