"""Class probabilities of single samples."""

import torch
from torch import Tensor, nn

from landscape.datasets import Data
from landscape.runtime import own_torch_state

__all__ = ["predict"]


@own_torch_state()
@torch.no_grad()
def predict(model: nn.Module, data: Data) -> Tensor:
    """Class probabilities [N, C] of the samples of ``data``: softmax of the logits of ``model`` in its present mode.

    They are computed, and stay, on the device of the model.
    """
    device = next((parameter.device for parameter in model.parameters()), data.inputs.device)
    return torch.softmax(model(data.inputs.to(device)), dim=1)
