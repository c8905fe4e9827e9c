"""What a classifier says of single samples."""

import torch
from torch import Tensor, nn

from landscape.datasets import Data

__all__ = ["predict"]


@torch.no_grad()
def predict(model: nn.Module, data: Data) -> Tensor:
    """Class probabilities [N, C] of every sample of ``data``, softmax of the logits of ``model`` as it is."""
    return torch.softmax(model(data.inputs), dim=1)
