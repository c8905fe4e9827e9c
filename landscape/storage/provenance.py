"""What made a result: content fingerprints and versions."""

import functools
import hashlib
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

import torch

from landscape.runtime import own_torch_state

__all__ = ["fingerprint", "versions"]


@own_torch_state()
def fingerprint(tensors: Iterable[torch.Tensor]) -> str:
    """SHA-256 (hex) over shapes, dtypes and bytes of ``tensors``, in their order; the device does not matter."""
    digest = hashlib.sha256()
    for tensor in tensors:
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose arithmetic the numbers depend on."""
    found = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "scipy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
