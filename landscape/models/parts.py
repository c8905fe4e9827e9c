"""Parts that the networks share: activations by name, initial weights, the check of image shapes."""

import math
from collections.abc import Callable, Sequence

from torch import nn

from landscape.checks import check_choice
from landscape.errors import InputError

__all__ = ["activation_layer", "checked_images", "initialize"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}

# relu and gelu: 1 / sqrt(mean of f(z)^2) for the activation f and a standard Gaussian z (He et al. 2015, section
# 2.2); tanh: as in nn.init.calculate_gain; sigmoid: one over its slope at zero (Glorot and Bengio 2010, section 4.2.1).
GAINS = {"relu": math.sqrt(2), "gelu": 1.5335, "tanh": 5 / 3, "sigmoid": 4.0}


def activation_layer(name: str) -> nn.Module:
    """The activation ``name`` as a module that does not overwrite its inputs.

    Raises:
        InputError: the name is unknown.
    """
    check_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def initialize(model: nn.Module, activation: str, *, last: nn.Linear) -> None:
    """Draw the weights of all convolutions and linear layers from a Gaussian that preserves the signal's variance.

    The standard deviation is gain / sqrt(number of inputs of a unit). The gain belongs to ``activation``; it is 1 for
    the ``last`` layer, which no activation follows. Biases are set to 0.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            gain = 1.0 if module is last else GAINS[activation]
            nn.init.normal_(module.weight, std=gain / math.sqrt(module.weight[0].numel()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def checked_images(input_shape: Sequence[int], model: str) -> tuple[int, int, int]:
    """``input_shape`` as (channels, height, width).

    Raises:
        InputError: it is not the shape of an image.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise InputError(f"{model} needs images (channels, height, width), not inputs {tuple(input_shape)}")
    channels, height, width = input_shape
    return channels, height, width
