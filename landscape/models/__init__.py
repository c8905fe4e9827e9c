"""Models by name, so that a checkpoint can say which one it holds."""

import inspect

from torch import nn

from landscape.errors import InputError
from landscape.models.cnn import TinyCNN
from landscape.models.linear import LinearMNIST

__all__ = ["MODELS", "LinearMNIST", "TinyCNN", "build_model"]

MODELS = {"linear-mnist": LinearMNIST, "tiny-cnn": TinyCNN}


def build_model(name: str, **arguments) -> nn.Module:
    """A new model ``name``, its weights drawn from torch's global generator.

    Example:
        >>> build_model("linear-mnist", input_shape=(1, 8, 8)).fc.in_features
        64

    Raises:
        InputError: unknown name, or arguments that the model does not take.
    """
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}; use one of {', '.join(MODELS)}")
    try:
        inspect.signature(MODELS[name]).bind(**arguments)
        return MODELS[name](**arguments)
    except TypeError as error:
        raise InputError(f"model {name!r} cannot be built with {arguments}: {error}") from error
