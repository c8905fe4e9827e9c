"""Linear classifiers."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["LinearMNIST"]


class LinearMNIST(nn.Module):
    """Multinomial logistic regression on flattened inputs: logits = W x + b; 7,850 parameters by default."""

    def __init__(self, input_shape: Sequence[int] = (1, 28, 28), classes: int = 10):
        super().__init__()
        self.fc = nn.Linear(math.prod(input_shape), classes)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.fc(inputs.flatten(1))
        return logits
