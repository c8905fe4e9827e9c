"""Fully connected networks of any depth and width."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from landscape.errors import InputError
from landscape.models.parts import activation_layer

__all__ = ["VARIANTS", "MLPClassifier"]

# Hidden layers and units in each.
VARIANTS = {
    "shallow-small": {"depth": 1, "width": 50},
    "shallow-wide": {"depth": 1, "width": 500},
    "medium": {"depth": 2, "width": 100},
    "deep-small": {"depth": 4, "width": 100},
    "deep-large": {"depth": 4, "width": 250},
}


class MLPClassifier(nn.Module):
    """Fully connected network with ``depth`` hidden layers of ``width`` units: 2-100-100-2 by default.

    Inputs are flattened. Hidden weights are Gaussian with variance 2 / n_in for relu and gelu (He et al. 2015,
    equation 10) and 2 / (n_in + n_out) for the other activations (Glorot and Bengio 2010, equation 12), which is also
    used for the last layer; biases are 0.

    Raises:
        InputError: there is no hidden layer or no unit in it, or the activation is unknown.
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (2,),
        classes: int = 2,
        *,
        depth: int = 2,
        width: int = 100,
        activation: str = "relu",
    ):
        super().__init__()
        if depth < 1 or width < 1:
            raise InputError(f"depth is {depth} and width {width}; both must be at least 1")
        sizes = [math.prod(input_shape), *[width] * depth]
        layers = [(nn.Linear(before, after), activation_layer(activation)) for before, after in pairwise(sizes)]
        self.hidden = nn.Sequential(*(module for pair in layers for module in pair))
        self.fc = nn.Linear(width, classes)
        for linear, _ in layers:
            if activation in ("relu", "gelu"):
                nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            else:
                nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.xavier_normal_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.hidden(inputs.flatten(1)))
        return logits
