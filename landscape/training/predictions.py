"""Class probabilities of single samples."""

import torch
from torch import Tensor, nn

from landscape.datasets import Data
from landscape.runtime import own_torch_state

__all__ = ["predict"]


@own_torch_state()
@torch.no_grad()
def predict(model: nn.Module, data: Data | Tensor) -> Tensor:
    """Class probabilities [N, C] of the samples of ``data`` (or inputs): softmax of the logits in the present mode.

    They are computed, and stay, on the device of the model.
    """
    inputs = data if isinstance(data, Tensor) else data.inputs
    device = next((parameter.device for parameter in model.parameters()), inputs.device)
    return torch.softmax(model(inputs.to(device)), dim=1)
