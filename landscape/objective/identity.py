"""What losses depend on besides point and data, and whether two results are of the same."""

from typing import Any

import numpy as np

from landscape.objective.code import digest_of
from landscape.objective.objectives import Objective

__all__ = ["difference", "is_known", "objective_identity"]

LOSS_CODE = "loss code"
SAME = 1e-3  # share of the first losses by which another machine's rounding may change them


def objective_identity(objective: Objective) -> dict[str, Any]:
    """What the losses depend on besides point and data: network, loss with all it computes with, and settings."""
    code = {LOSS_CODE: digest_of(objective.loss)} if callable(objective.loss) else {}
    return {"objective": objective.description, "first losses": objective.contract.first_losses, **code}


def is_known(identity: dict[str, Any]) -> bool:
    """Whether results of this ``identity`` can be recognised: not where the code of a callable loss cannot be told."""
    return identity.get(LOSS_CODE, "") is not None


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """The first entry in which two identities differ, in words; None where they are the same."""
    if not is_known(wanted):
        return "the callable loss holds something that cannot be identified, so that it may have changed"
    for key, value in wanted.items():
        if key == "first losses" and _close(found.get(key), value):
            continue
        if found.get(key) != value:
            return f"its {key} is {found.get(key)}, not {value}"
    return None


def _close(found: list[float] | None, wanted: list[float]) -> bool:
    """Equal up to the rounding of another machine: they tell networks of the same weights and other code apart."""
    if found is None or len(found) != len(wanted):
        return False
    size = np.abs(wanted) + np.abs(np.nan_to_num(wanted, posinf=0.0, neginf=0.0)).mean()
    equal = np.isclose(found, wanted, rtol=0, atol=0, equal_nan=True)
    return bool((equal | (np.abs(np.subtract(found, wanted)) <= SAME * size)).all())
