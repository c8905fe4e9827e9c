"""Properties of a network that follow from the types of its layers, without watching a pass."""

from torch import nn
from torch.nn.modules import module as torch_module

from landscape.objective.forwards import has_own_forward

__all__ = ["changes_inputs", "is_plain", "works_by_row"]

ELEMENTWISE = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh),
    *(nn.Sigmoid, nn.LogSigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.Dropout),
)
BY_ROW = (nn.Sequential, nn.Linear, nn.Flatten, *ELEMENTWISE)  # Flatten: only of later axes
WEIGHTED = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
)
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
PLAIN = (*BY_ROW, *WEIGHTED, *POOLS, nn.Dropout1d, nn.Dropout2d, nn.Softmax, nn.LogSoftmax)
OWN = "landscape.models."  # networks of this package, whose forward passes have the same properties


def is_plain(model: nn.Module) -> bool:
    """Whether ``model`` consists only of unmodified layers of torch and networks of this package.

    In eval mode the passes of such a network read every parameter from its own memory, change none, draw no random
    numbers, create no constants, compute in the dtype of their input, and store nothing outside of their module.
    """
    return not _has_global_hooks() and all(map(_is_unaltered, model.modules()))


def changes_inputs(model: nn.Module) -> bool:
    """Whether a layer of a plain ``model`` writes into its input, which may be the input of the network."""
    return any(getattr(module, "inplace", False) for module in model.modules())


def works_by_row(model: nn.Module) -> bool:
    """Whether the layers of ``model`` prove that each row of its output depends only on the same row of its input."""
    return is_plain(model) and all(
        type(module) in BY_ROW and not (isinstance(module, nn.Flatten) and module.start_dim < 1)
        for module in model.modules()
    )


def _is_unaltered(module: nn.Module) -> bool:
    kind = type(module)
    own = kind.__module__.startswith(OWN)
    if not (own or kind in PLAIN) or not kind.forward.__module__.startswith(OWN if own else "torch.nn.modules."):
        return False
    if has_own_forward(module) or any(map(callable, vars(module).values())) or not _has_usual_parameters(module, own):
        return False
    return not any(
        (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    )


def _has_usual_parameters(module: nn.Module, own: bool) -> bool:
    """Whether ``module`` holds no other parameters than those that its forward pass reads."""
    present = {name: value for name, value in module._parameters.items() if value is not None}
    if own:
        usual = not present or type(module).__module__ == f"{OWN}normalization"
    else:
        usual = (isinstance(module, WEIGHTED) and present.keys() <= {"weight", "bias"}) or not present
    return usual and all(type(value) is nn.Parameter for value in present.values())


def _has_global_hooks() -> bool:
    names = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")
    return any(getattr(torch_module, name, None) for name in (*names, "_global_backward_pre_hooks"))
