"""Fully connected networks."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from landscape.errors import InputError
from landscape.models.parts import activation_layer, initialize

__all__ = ["SimpleNet"]


class SimpleNet(nn.Module):
    """Fully connected network with one hidden layer of ``hidden`` units: 784-20-10 by default; inputs are flattened.

    Raises:
        InputError: ``hidden`` is below 1, or the activation is unknown.
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (1, 28, 28),
        classes: int = 10,
        *,
        hidden: int = 20,
        activation: str = "relu",
    ):
        super().__init__()
        if hidden < 1:
            raise InputError(f"hidden is {hidden}; the hidden layer needs at least 1 unit")
        self.hidden = nn.Linear(math.prod(input_shape), hidden)
        self.activation = activation_layer(activation)
        self.fc = nn.Linear(hidden, classes)
        initialize(self, activation, last=self.fc)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.activation(self.hidden(inputs.flatten(1))))
        return logits
