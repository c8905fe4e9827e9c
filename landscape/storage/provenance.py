"""The origin of results: fingerprints of content, and versions of packages."""

import functools
import hashlib
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

import torch

from landscape.runtime import own_torch_state
from landscape.runtime.shards import whole

__all__ = ["fingerprint", "versions"]


@own_torch_state()
def fingerprint(tensors: Iterable[torch.Tensor]) -> str:
    """SHA-256 digest of shapes, dtypes and bytes of ``tensors`` in their order, independent of device and shards."""
    digest = hashlib.sha256()
    for tensor in tensors:
        tensor = whole(tensor.detach()).cpu().contiguous()
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages on whose arithmetic the results depend."""
    installed = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "scipy"):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "absent"
    return installed
