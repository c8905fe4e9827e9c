"""Single parameters of points and directions: their precision, and zero steps that take the memory of one number."""

from collections.abc import Mapping

import torch
from torch import Tensor

from landscape.points.point import Point

__all__ = [
    "as_float64",
    "as_real",
    "in_precision",
    "is_continuous",
    "is_half",
    "is_no_step",
    "is_step",
    "no_step",
    "precise",
    "whole_step",
]


def is_continuous(tensor: Tensor) -> bool:
    """Whether ``tensor`` holds real or complex numbers; integers and booleans are never moved."""
    return tensor.is_floating_point() or tensor.is_complex()


def no_step(like: Tensor) -> Tensor:
    """The step of a parameter that is not moved: zeros of the shape of ``like`` that take the memory of one number."""
    one = torch.zeros((), dtype=precise(like.new_empty(0)).dtype, device=like.device)
    return one.expand(like.shape) if like.numel() > 1 else one.new_zeros(like.shape)


def whole_step(steps: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Point:
    """The direction at the point ``like`` that has these ``steps``, and is zero elsewhere, see `no_step`."""
    return {name: steps[name] if name in steps else no_step(value) for name, value in like.items()}


def is_no_step(tensor: Tensor) -> bool:
    """Whether ``tensor`` is one zero that is expanded, as `no_step` makes it; only that one number is read."""
    return tensor.numel() > 1 and not any(tensor.stride()) and not bool(tensor.as_strided((), ()).any())


def is_step(tensor: Tensor) -> bool:
    """Whether any entry of ``tensor``, a direction at one parameter, is not zero."""
    return not is_no_step(tensor) and bool(tensor.any())


def is_half(tensor: Tensor) -> bool:
    """Whether ``tensor`` is in half precision (float16 or bfloat16) or in a lower one."""
    return tensor.is_floating_point() and tensor.element_size() < 4


def precise(tensor: Tensor) -> Tensor:
    """``tensor``, in float32 if it is in half precision, in which sums and differences are rounded too coarsely."""
    return tensor.float() if is_half(tensor) else tensor


def in_precision(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor`` in ``dtype``, or in its complex counterpart; integers and booleans are left unchanged."""
    if is_no_step(tensor):
        return in_precision(tensor.as_strided((), ()), dtype).expand(tensor.shape)
    if tensor.is_complex():
        return tensor.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def as_float64(tensor: Tensor) -> Tensor:
    """``tensor`` in float64, or complex128 if it is complex; on the CPU if its device is MPS, which has no float64."""
    moved = tensor.cpu() if tensor.device.type == "mps" else tensor
    return moved.to(torch.complex128) if moved.is_complex() else moved.double()


def as_real(tensor: Tensor) -> Tensor:
    """``tensor`` in float64; complex numbers get a last axis of size 2 for their real and imaginary parts."""
    exact = as_float64(tensor.detach()).resolve_conj().resolve_neg()
    return torch.view_as_real(exact) if exact.is_complex() else exact
