"""Class probabilities of single samples."""

import torch
from torch import Tensor, nn

from landscape.datasets import Data
from landscape.runtime import own_torch_state

__all__ = ["predict"]


@own_torch_state()
@torch.no_grad()
def predict(model: nn.Module, data: Data) -> Tensor:
    """Class probabilities [N, C] of the samples of ``data``: softmax of the logits of ``model`` in its present mode."""
    return torch.softmax(model(data.inputs), dim=1)
