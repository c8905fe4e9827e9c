"""Private copies of networks, which share no memory with the original."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from landscape.errors import InputError
from landscape.points import check_values, copy_of, unwrapped

__all__ = ["converted", "held_by", "private_copy", "require_gradients"]

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def private_copy(model: nn.Module, device: torch.device, dtype: torch.dtype | None) -> nn.Module:
    """A copy of ``model`` in eval mode, without the wrappers of compilation and of parallel training.

    Parameters, buffers and other tensors are moved to ``device``, those of floating-point numbers to ``dtype``.

    Raises:
        InputError: a parameter has no values (lazy, meta, sharded ...), or the model cannot be copied.
    """
    check_values(model)
    model = unwrapped(model)
    if not any(True for _ in model.parameters()):
        raise InputError("the model has no parameters that could be moved; was it frozen, or quantised?")
    for name, parameter in model.named_parameters():
        if parameter.is_complex():
            raise InputError(
                f"parameter {name!r} is complex; make it a real one of real and imaginary parts, and use "
                "torch.view_as_complex in forward"
            )
    try:
        private = copy_of(model)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"the model cannot be copied ({reason}); pass one that copy.deepcopy accepts") from error
    original = {id(value) for value in (*model.parameters(), *model.buffers())}
    for name, value in (*private.named_parameters(), *private.named_buffers()):
        if id(value) in original:
            raise InputError(
                f"copy.deepcopy of the model shares {name!r} with the model itself, which would be changed; "
                "let its __deepcopy__ copy all parameters and buffers"
            )
    private._apply(lambda tensor: converted(tensor, device, dtype))
    for module in private.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                module.__dict__[name] = converted(value, device, dtype)
    for parameter in private.parameters():  # copies of a scripted network belong to the graph of the originals
        parameter.detach_().requires_grad_(False)
    return private.eval()


def held_by(model: nn.Module) -> list[Any]:
    """All objects that the modules of ``model`` hold: buffers, entries of lists and other attributes."""
    return tree_leaves([vars(module) for module in model.modules()])


def require_gradients(model: nn.Module) -> None:
    """Make all parameters of ``model`` require gradients, except those of integers."""
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())


def converted(tensor: Tensor, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    """``tensor`` on ``device``, in ``dtype`` (None: its own) or its complex counterpart; integers keep their dtype."""
    kind = dtype if tensor.is_floating_point() else None
    if tensor.is_complex() and dtype is not None:
        kind = COMPLEX.get(dtype, torch.complex64)
    moved = tensor.to(device, kind)
    return moved.clone() if moved.is_inference() else moved  # tensors of torch.inference_mode allow no derivatives
