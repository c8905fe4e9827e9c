"""A network of one's own: a copy that shares no memory with the one that it was made from."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from landscape.errors import InputError
from landscape.points import check_values, copy_of, unwrapped

__all__ = ["converted", "held_by", "private_copy", "require_gradients"]

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def private_copy(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A copy of ``model`` in eval mode, without the wrappers of compilation and of parallel training.

    Parameters and buffers, and tensors that are neither, are on ``device``, those with a fraction in ``dtype``.

    Raises:
        InputError: a model without values of its own (lazy, meta, sharded ...), or one that cannot be copied.
    """
    model = unwrapped(model)
    check_values(model)
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
    given = {id(value) for value in (*model.parameters(), *model.buffers())}
    for name, value in (*private.named_parameters(), *private.named_buffers()):
        if id(value) in given:
            raise InputError(
                f"copy.deepcopy of the model shares {name!r} with the model itself, which would move along; "
                "let its __deepcopy__ copy all parameters and buffers"
            )
    private._apply(lambda tensor: converted(tensor, device, dtype))
    for module in private.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                module.__dict__[name] = converted(value, device, dtype)
    for parameter in private.parameters():  # of a scripted network the copies hang on what they were copied from
        parameter.detach_().requires_grad_(False)
    return private.eval()


def held_by(model: nn.Module) -> list[Any]:
    """Everything that the modules of ``model`` hold, buffers, lists and other attributes, object by object."""
    return tree_leaves([vars(module) for module in model.modules()])


def require_gradients(model: nn.Module) -> None:
    """Let the parameters of ``model`` take part in derivatives, but for those that hold whole numbers."""
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())


def converted(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """``tensor`` on ``device``, in ``dtype`` or its complex counterpart; whole numbers stay what they are."""
    kind = COMPLEX.get(dtype, torch.complex64) if tensor.is_complex() else dtype if tensor.is_floating_point() else None
    moved = tensor.to(device, kind)
    return moved.clone() if moved.is_inference() else moved  # made under torch.inference_mode: no derivatives
