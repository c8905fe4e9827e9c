"""The choice of the device, and the state of the global random generators."""

import os
import random
from typing import Any

import numpy as np
import torch

from landscape.errors import InputError

__all__ = [
    "has_bf16",
    "random_state",
    "restore_random_state",
    "seed_everything",
    "select_device",
]


def select_device(name: str | torch.device = "auto") -> torch.device:
    """The device called ``name``; "auto" chooses CUDA if available, else MPS (Apple), else the CPU.

    If torchrun has started several processes, "auto" chooses the CUDA device of the local rank.

    Raises:
        InputError: the name is unknown, or this machine does not have the device.

    Example:
        >>> select_device("cpu")
        device(type='cpu')
    """
    if str(name) == "auto":
        if torch.cuda.is_available():
            local = int(os.environ.get("LOCAL_RANK", 0))
            return torch.device("cuda", local % torch.cuda.device_count()) if local else torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise InputError(f"unknown device {str(name)!r}; use auto, cpu, cuda, cuda:N or mps") from None
    if (device.index or 0) >= _count(device.type):
        raise InputError(f"device {str(name)!r} is not available on this machine; use auto or cpu")
    return device


def _count(kind: str) -> int:
    """The number of devices of a ``kind``, whichever torch knows, on this machine."""
    try:
        module = torch.get_device_module(kind)
    except RuntimeError:  # a kind without computations, such as meta, or without support in this torch
        return 0
    return int(module.device_count()) if module.is_available() else 0


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware of ``device`` multiplies in bf16; on other devices torch emulates that slowly."""
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of the global generators of Python, numpy and torch (CPU and CUDA), as plain values and tensors."""
    legacy: Any = np.random.get_state(legacy=True)  # a tuple, although the type stub allows a dict
    kind, keys, *rest = legacy
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Restore the global generators to a state from :func:`random_state`."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    torch.cuda.set_rng_state_all(state["cuda"])
