"""The classification networks of torchvision, untrained."""

from collections.abc import Sequence

import torch
from torch import nn

from landscape.errors import InputError

__all__ = ["build_torchvision", "check_torchvision"]

# The auxiliary outputs exist only in training mode and cannot be used by a loss that takes the logits alone.
WITHOUT_AUXILIARY = {"aux_logits": False, "init_weights": True}
OPTIONS = {"googlenet": WITHOUT_AUXILIARY, "inception_v3": WITHOUT_AUXILIARY}


def build_torchvision(name: str, input_shape: Sequence[int] = (3, 224, 224), classes: int = 10) -> nn.Module:
    """torchvision's model ``name`` with ``classes`` outputs and new weights, after a trial with one input.

    Raises:
        InputError: the name is unknown, or the network does not take inputs of ``input_shape``.
    """
    from torchvision import models  # seconds to import, needed only here

    check_torchvision(name)
    shape = tuple(input_shape)
    if len(shape) != 3 or shape[0] != 3:
        raise InputError(f"torchvision:{name} needs colour images (3, height, width), not inputs {shape}")
    model: nn.Module = models.get_model(name, weights=None, num_classes=classes, **OPTIONS.get(name, {})).eval()
    try:
        with torch.no_grad():
            model(torch.zeros(1, *shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"torchvision:{name} does not take inputs {shape}: {reason}") from error
    return model.train()


def check_torchvision(name: str) -> None:
    """Raise InputError if torchvision has no classification network ``name``."""
    from torchvision import models

    if name not in models.list_models(module=models):
        listing = "torchvision.models.list_models(torchvision.models) lists them"
        raise InputError(f"torchvision has no classification model {name!r}; {listing}")
