"""The parameters that a random direction does not move, with the reasons."""

import fnmatch
import glob
import re
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from landscape.checks import check_type
from landscape.errors import InputError
from landscape.points import named_parameters

__all__ = ["RULE", "ignored_parameters", "reasons_not_to_move"]

RULE = 2  # version of the meaning of "bias" and "norm"; recipes that name no version were made with the first

NORMALIZATION_LAYERS = (
    nn.modules.batchnorm._NormBase,  # BatchNorm and InstanceNorm of every dimension
    nn.GroupNorm,
    nn.LayerNorm,
    *([nn.RMSNorm] if hasattr(nn, "RMSNorm") else []),
)
WEIGHT_LAYERS = (
    nn.Linear,
    nn.Bilinear,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.modules.conv._ConvNd,
)
BIAS = re.compile(r"(^|_)bias(es)?(_|$)|bias$")
LAYER_SCALE = re.compile(r"layer_?scale|(^|_)(gamma|lambda)(_?\d+)?$", re.IGNORECASE)
CHANNELWISE = ("weight", "scale", "gamma", "gain", "g")  # names of the scale in other normalisation layers
NOT_NAMES = re.compile(r"\d+|parametrizations|original\d*")  # parts of names that do not describe the parameter


def ignored_parameters(model: nn.Module, ignore: Sequence[str], *, rule: int = RULE) -> set[str]:
    """Names of the parameters that ``ignore`` matches.

    "bias" stands for one-dimensional parameters with the name of a bias (``bias``, ``bias_ih_l0``, ``in_proj_bias``,
    and the key and value biases of attention). "norm" stands for scales: all parameters of normalisation layers, layer
    scales, and parameters of one number (a temperature, the slope of a PReLU), because a filter of one number has no
    direction except its sign. Normalisation layers are those of torch, and modules without children whose class has
    "norm" in its name or whose parameters all have one value for each channel. Any other entry is the name of a
    parameter or a glob pattern, such as "layer1.*".

    Args:
        model: The network.
        ignore: Kinds, names or patterns.
        rule: 1 for the meaning in recipes that name no rule: "bias" stands for parameters whose name ends in "bias",
            "norm" for torch's normalisation layers and all modules without children with "Norm" in their class name.

    Raises:
        InputError: ``ignore`` is a string, the rule is unknown, or an entry matches nothing.
    """
    return {name for names in reasons_not_to_move(model, ignore, rule=rule).values() for name in names}


def reasons_not_to_move(model: nn.Module, ignore: Sequence[str], *, rule: int = RULE) -> dict[str, list[str]]:
    """The names of `ignored_parameters`, each under the first reason: "bias", "norm", "scale" or a pattern."""
    if isinstance(ignore, str):
        raise InputError(f"ignore takes a sequence of names, not the string {ignore!r}; write ({ignore!r},)")
    check_type(ignore, Sequence, "ignore", 'a sequence of names, such as ("bias", "norm")')
    if rule not in (1, RULE):
        raise InputError(f"unknown rule {rule!r}; recipes are of rule 1 or {RULE}")
    names = [name for name, _ in named_parameters(model)]
    matched: dict[str, set[str]] = {}
    for entry in ignore:
        if entry == "bias":
            matched["bias"] = _biases(model) if rule == RULE else _first_biases(model)
        elif entry == "norm":
            matched["norm"] = _inside(model, _normalizes if rule == RULE else _first_normalizes)
            matched["scale"] = _scales(model) if rule == RULE else set()
        else:
            matched[str(entry)] = _matching(names, entry)
    reasons: dict[str, list[str]] = {}
    for name in names:
        if reason := next((reason for reason, members in matched.items() if name in members), None):
            reasons.setdefault(reason, []).append(name)
    return reasons


def _matching(names: list[str], entry: str) -> set[str]:
    """The names that ``entry`` matches, as a name, as a pattern with literal brackets, or as a pattern."""
    if not isinstance(entry, str):
        raise InputError(f"ignore takes 'bias', 'norm', names or patterns of names, not {entry!r}")
    literal = re.sub(r"\[\*\]", "*", re.sub(r"\[\?\]", "?", glob.escape(entry)))
    for pattern in (literal, entry):
        if entry in names:
            return {entry}
        if matches := [name for name in names if fnmatch.fnmatchcase(name, pattern)]:
            return set(matches)
    raise InputError(f"ignore: {entry!r} matches no parameter; use 'bias', 'norm' or a pattern of names")


def _last(name: str) -> str:
    """The name of a parameter inside its module, without numbers of lists and parts added by a parametrization."""
    parts = [part for part in name.split(".") if not NOT_NAMES.fullmatch(part)]
    return parts[-1] if parts else ""


def _extents(parameter: Tensor) -> int:
    """The number of axes of ``parameter`` longer than one."""
    return sum(size != 1 for size in parameter.shape)


def _biases(model: nn.Module) -> set[str]:
    attention = {
        id(bias)
        for module in model.modules()
        if isinstance(module, nn.MultiheadAttention)
        for bias in (module.bias_k, module.bias_v)
    }
    return {
        name
        for name, parameter in named_parameters(model)
        if id(parameter) in attention or (parameter.ndim <= 1 and BIAS.search(_last(name)))
    }


def _first_biases(model: nn.Module) -> set[str]:
    return {name for name, p in named_parameters(model) if name.endswith("bias") and p.ndim == 1}


def _inside(model: nn.Module, test: Callable[[nn.Module, nn.Module], bool]) -> set[str]:
    inside = {id(p) for module in model.modules() if test(module, model) for p in module.parameters()}
    return {name for name, p in named_parameters(model) if id(p) in inside}


def _first_normalizes(module: nn.Module, _: nn.Module) -> bool:
    own = "Norm" in type(module).__name__ and not any(True for _ in module.children())
    return own or isinstance(module, NORMALIZATION_LAYERS)


def _normalizes(module: nn.Module, model: nn.Module) -> bool:
    """Whether ``module`` is a normalisation layer of torch, or one with only channelwise parameters."""
    if isinstance(module, NORMALIZATION_LAYERS):
        return True
    parameters = dict(module.named_parameters(recurse=False))
    if isinstance(module, WEIGHT_LAYERS) or any(True for _ in module.children()) or not parameters:
        return False
    if any(_extents(parameter) > 1 for parameter in parameters.values()):
        return False  # such as a linear layer with normalised weights
    named = "norm" in type(module).__name__.lower()
    scaling = module is not model and not parameters.keys().isdisjoint(CHANNELWISE)
    return named or (scaling and not isinstance(module, nn.PReLU))


def _scales(model: nn.Module) -> set[str]:
    """Names of the parameters of one number, of layer scales with one number for each channel, and of PReLU slopes."""
    owners = {id(p): module for module in model.modules() for p in module.parameters(recurse=False)}
    return {
        name
        for name, parameter in named_parameters(model)
        if not isinstance(owners[id(parameter)], WEIGHT_LAYERS) and _is_scale(name, parameter, owners[id(parameter)])
    }


def _is_scale(name: str, parameter: Tensor, owner: nn.Module) -> bool:
    if isinstance(owner, nn.PReLU) or parameter.numel() == 1:
        return True
    if _extents(parameter) > 1:
        return False
    channels = parameter.ndim > 1 and parameter.numel() == parameter.shape[0]  # filters of one number
    return channels or bool(LAYER_SCALE.search(_last(name)))
