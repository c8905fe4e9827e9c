"""What losses depend on besides point and data."""

from typing import Any

from landscape.objective.code import digest_of
from landscape.objective.objectives import Objective
from landscape.objective.terms import LOSS, REGULARIZER
from landscape.storage.recipe import Rounded, Unidentified

__all__ = ["objective_identity"]


def objective_identity(objective: Objective) -> dict[str, Any]:
    """What the losses depend on besides point and data: network, loss with all it computes with, and settings.

    The first losses tell networks of the same weights and other code apart.
    """
    contract, code = objective.contract, {}
    for name, function in ((LOSS, contract.loss), ("metrics", contract.metrics), (REGULARIZER, contract.regularizer)):
        if function and not isinstance(function, str):
            code[f"{name} code"] = digest_of(function) or Unidentified(f"what the callable {name} computes with")
    return {"objective": objective.description, "first losses": Rounded(objective.contract.first_losses), **code}
