"""Models by name: a checkpoint stores the name and arguments from which its network is rebuilt."""

import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from landscape.errors import InputError
from landscape.models.cnn import TinyCNN
from landscape.models.gpt import GPT
from landscape.models.linear import LinearMNIST
from landscape.models.mlp import VARIANTS, MLPClassifier
from landscape.models.norm_cnn import NormCNN
from landscape.models.own import build_own, check_own, import_own, is_own
from landscape.models.resnet import ResNet
from landscape.models.simplenet import SimpleNet
from landscape.models.vgg import VGG
from landscape.models.vision import build_torchvision, check_torchvision
from landscape.runtime import own_torch_state

__all__ = [
    "GPT",
    "MODELS",
    "VARIANTS",
    "VGG",
    "LinearMNIST",
    "MLPClassifier",
    "NormCNN",
    "ResNet",
    "SimpleNet",
    "TinyCNN",
    "build_model",
    "check_model",
    "construct",
    "import_own",
    "is_own",
]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "linear-mnist": LinearMNIST,
    "tiny-cnn": TinyCNN,
    "norm-cnn": NormCNN,
    "simplenet": SimpleNet,
    "vgg9": partial(VGG, 9),
    "vgg11": partial(VGG, 11),
    "vgg16": partial(VGG, 16),
    "mlp": MLPClassifier,
    "gpt": GPT,
    **{name: partial(MLPClassifier, depth=sizes["depth"], width=sizes["width"]) for name, sizes in VARIANTS.items()},
}


@own_torch_state()
def build_model(name: str, **arguments: Any) -> nn.Module:
    """Build a new network of the kind ``name``; its weights are drawn from torch's global random generator.

    ``name`` is a key of ``MODELS``, "resnet14" or any other "resnet<6n+2>", "torchvision:NAME", or
    "FILE.py:FUNCTION" for a function in the user's own file: THAT FILE IS RUN. Arguments: ``input_shape`` and
    ``classes`` for all; ``activation`` (relu, sigmoid, tanh, gelu) for simplenet, mlp, vgg and resnet;
    ``normalization`` (batch, layer, group, rms, dyt, piecewise, none) for vgg, resnet and norm-cnn; ``shortcuts`` for
    resnet; ``hidden`` for simplenet; ``depth`` and ``width`` for mlp. The names shallow-small (1 x 50), shallow-wide
    (1 x 500), medium (2 x 100), deep-small (4 x 100) and deep-large (4 x 250) stand for mlp with that depth x width.
    A gpt takes ``layers``, ``heads``, ``width`` and ``tied``; its input_shape is (positions,), its classes are tokens.

    Example:
        >>> build_model("linear-mnist", input_shape=(1, 8, 8)).fc.in_features
        64
        >>> sum(parameter.numel() for parameter in build_model("resnet20").parameters())
        269722

    Raises:
        InputError: the name is unknown, or the model does not take the arguments.
    """
    return construct(name, **arguments)


def construct(name: str, **arguments: Any) -> nn.Module:
    """Like `build_model`, but inside the caller's torch modes, such as those that bound what may be allocated."""
    if is_own(name):
        return build_own(name, **arguments)
    builder = _builder(name)
    try:
        inspect.signature(builder).bind(**arguments)
        return builder(**arguments)
    except TypeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"model {name!r} cannot be built with {arguments}: {reason}") from error


def check_model(name: str, **arguments: Any) -> None:
    """Raise InputError if the model cannot be built for any data; the code of a FILE.py is not run.

    ``arguments`` are those of `build_model` except input_shape and classes.
    """
    if is_own(name):
        check_own(name)
        return
    builder, shape = _builder(name), {"input_shape": (3, 32, 32), "classes": 10}
    try:
        inspect.signature(builder).bind(**shape, **arguments)
    except TypeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"model {name!r} cannot be built with {arguments}: {reason}") from error
    if name.startswith("torchvision:"):
        check_torchvision(name.removeprefix("torchvision:"))
    if name.startswith("resnet"):  # the constructor checks the depth; the meta device allocates and draws nothing
        with torch.device("meta"):
            builder(**shape, **arguments)


def _builder(name: str) -> Callable[..., nn.Module]:
    if name.startswith("torchvision:"):
        return partial(build_torchvision, name.removeprefix("torchvision:"))
    if resnet := re.fullmatch(r"resnet(\d+)", name):
        return partial(ResNet, int(resnet[1]))
    if name not in MODELS:
        known = ", ".join(MODELS)
        raise InputError(
            f"unknown model {name!r}; use one of {known}, resnet<6n+2>, torchvision:NAME, FILE.py:FUNCTION"
        )
    return MODELS[name]
