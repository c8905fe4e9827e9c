"""Weights in files that other programs wrote; code in such a file is never run.

A file may be a state dict of torch.save, alone or beside other values of a training run (Lightning's .ckpt and the
checkpoints of most scripts), a safetensors file, or an archive of torch.export.
"""

import hashlib
import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.escaping import one_line
from landscape.storage.export_archives import is_export_archive, read_export_archive
from landscape.storage.formats import is_legacy_torch, is_safetensors
from landscape.storage.reading import file_content
from landscape.storage.tensors import read_tensors

__all__ = ["StoredState", "read_state"]

KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "module", "params")
WAY_OUT = "give a file of weights, such as torch.save(model.state_dict(), path) writes"


@dataclass(frozen=True, eq=False)
class StoredState:
    """Weights without their network."""

    weights: dict[str, Tensor]  # under the names in the file
    epoch: int | None  # the epoch that the file tells, None if it tells none
    content: Any  # the whole content of a file of torch.save; None for other files
    sha256: str  # of the bytes of the file
    size: int  # bytes of the file


def read_state(path: str | Path) -> StoredState:
    """The weights in the file ``path``, without a description of their network.

    Raises:
        InputError: the file is missing or damaged, holds code, or no weights are in it.
    """
    path = Path(path)
    raw, content = file_content(path, "state", WAY_OUT), None
    if is_export_archive(raw):
        weights = read_export_archive(raw, path)
    elif is_safetensors(raw):
        weights = _safetensors(raw, path)
    else:
        content = _legacy(raw, path) if is_legacy_torch(raw) else read_tensors(path, "state", WAY_OUT, WAY_OUT)[0]
        weights = _state_in(content, path)
    return StoredState(weights, _epoch(content), content, hashlib.sha256(raw).hexdigest(), len(raw))


def _state_in(content: object, path: Path) -> dict[str, Tensor]:
    """The state dict in ``content``: all of it, or one of its entries.

    Raises:
        InputError: ``content`` holds no state dict.
    """
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds a {type(content).__name__}, no weights; {WAY_OUT}")
    if all(isinstance(value, Tensor) for value in content.values()):
        return dict(content)
    for key in KEYS:
        inner = content.get(key)
        if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
            return {name: value for name, value in inner.items() if isinstance(value, Tensor)}
    keys = one_line(", ".join(map(str, list(content)[:6])))[:200]
    raise InputError(f"{path} holds no weights under {', '.join(KEYS)}, but {keys}; {WAY_OUT}")


def _epoch(content: Any) -> int | None:
    epoch = content.get("epoch") if isinstance(content, Mapping) else None
    return epoch if isinstance(epoch, int) and not isinstance(epoch, bool) else None


def _safetensors(raw: bytes, path: Path) -> dict[str, Tensor]:
    try:
        library = importlib.import_module("safetensors.torch")
    except ImportError as error:
        raise InputError(f"{path} is a safetensors file, which needs a package: pip install safetensors") from error
    try:
        return dict(library.load(raw))
    except Exception as error:  # the library has an exception of its own
        raise InputError(f"{path} is a damaged safetensors file ({one_line(str(error))[:200]}); {WAY_OUT}") from error


def _legacy(raw: bytes, path: Path) -> Any:
    """The content of a file in the format of torch.save before torch 1.6; InputError if it holds code or is damaged."""
    try:
        return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make it fail in any way
        reason = one_line(str(error))[:200] or type(error).__name__
        raise InputError(f"{path} holds code, which is never run, or is damaged ({reason}); {WAY_OUT}") from error
