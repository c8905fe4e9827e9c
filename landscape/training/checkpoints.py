"""Trained models in files that describe themselves and cannot run code when loaded."""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape.errors import InputError
from landscape.escaping import one_line
from landscape.models import construct, is_own
from landscape.presenting import Presented
from landscape.runtime import own_torch_state
from landscape.storage.files import make_folder
from landscape.storage.forms import Optional, form_fault
from landscape.storage.tensors import read_tensors, write_tensors
from landscape.storage.weights import BoundedBuilding, fitting_weights, unwrapped_weights

__all__ = ["Checkpoint", "load_checkpoint", "prepare_checkpoint", "save_checkpoint"]

KEYS = ("model", "data", "epoch", "metrics", "settings", "versions")
FORM = {
    "model_state_dict": dict,
    "model": {"name": str, "arguments": object},
    "data": {"name": str, "split": Optional(str), "limit": Optional(int), "source": Optional(str)},
    "epoch": Optional((int, float)),
    "metrics": {str: object},
    "settings": {str: object},
    "versions": {str: object},
}


@dataclass(frozen=True, eq=False, repr=False)
class Checkpoint(Presented):
    """A trained model with all that is known of it."""

    model: nn.Module  # in eval mode, on the CPU
    # model {name, arguments}, data {name, split, limit, source}, epoch, metrics, settings, versions
    metadata: dict[str, Any]
    path: Path
    sha256: str  # of the file's bytes

    @property
    def facts(self) -> dict[str, str]:
        data = self.metadata["data"]
        return {
            "model": self.model_name,
            "parameters": f"{sum(parameter.numel() for parameter in self.model.parameters()):,}",
            "epoch": str(self.metadata["epoch"]),
            "trained on": " ".join(str(data[key]) for key in ("name", "split") if data.get(key)),
            "file": self.path.name,
            "sha256": self.sha256[:12],
        }

    @property
    def model_name(self) -> str:
        return str(self.metadata["model"]["name"])

    @property
    def identity(self) -> dict[str, Any]:
        """What a result made from this checkpoint keeps of it."""
        return {"model": self.model_name, "epoch": self.metadata["epoch"], "sha256": self.sha256}

    @property
    def description(self) -> str:
        """All metadata for a log, one entry a line."""
        return "\n".join(f"{key}: {value}" for key, value in {**self.metadata, "sha256": self.sha256}.items())


def prepare_checkpoint(path: str | Path) -> None:
    """Make the folder of ``path`` and say when a file there will be replaced: before hours of training.

    Raises:
        InputError: ``path`` is a folder, or in one that cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"cannot write the checkpoint {path}: it is a folder; add a file name")
    make_folder(path.parent)
    if path.exists():
        print(f"{path} exists and will be replaced by the newly trained model")


@own_torch_state()
def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    *,
    model_name: str,
    model_arguments: dict[str, Any] | None = None,
    data: dict[str, Any],
    epoch: int,
    metrics: dict[str, Any],
    settings: dict[str, Any],
) -> Path:
    """Write weights and metadata, with a digest of them, to ``path``, whole or not at all; equal content, equal bytes.

    Of a network that torch has wrapped (compile, DDP, an average of weights) the weights get the names without wrapper.
    ``model_name`` and ``model_arguments`` are what ``build_model`` takes; ``data`` has name, split, limit and
    source. Numbers and paths in the metadata are stored as plain Python values.
    """
    path = Path(path)
    metadata = {
        "model": {"name": model_name, "arguments": model_arguments or {}},
        "data": data,
        "epoch": epoch,
        "metrics": metrics,
        "settings": settings,
        "versions": {name: version(name) for name in ("torch", "numpy")},
    }
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in unwrapped_weights(model).items()}
    make_folder(path.parent)
    write_tensors(path, {"model_state_dict": weights, **_plain(metadata)})
    return path


@own_torch_state()
def load_checkpoint(path: str | Path, *, model: str | None = None) -> Checkpoint:
    """Read what :func:`save_checkpoint` wrote; only tensors and plain values are ever unpickled.

    The content must have the digest that was written with it (files of earlier versions have none). Names of weights
    may have the prefix of a wrapper, such as "module.".

    ``model`` builds the network by that name instead of the stored one. A network of the user's own needs it: the
    code of a FILE.py:FUNCTION is run only where the caller names it, never because a checkpoint does.

    Raises:
        InputError: the file is missing, damaged, edited or foreign, its weights do not fit the model it names, or that
            model is code and ``model`` does not name it.
    """
    path = Path(path)
    stored, raw = read_tensors(path, "checkpoint", "train it first, or give another file")
    _check_layout(stored, path)
    network = _rebuilt(stored, path, model, len(raw))
    metadata = {key: stored[key] for key in KEYS}
    return Checkpoint(network.eval(), metadata, path, hashlib.sha256(raw).hexdigest())


def _rebuilt(stored: dict[str, Any], path: Path, model: str | None, size: int) -> nn.Module:
    name, arguments = stored["model"]["name"], stored["model"]["arguments"]
    if model is None and is_own(name):
        raise InputError(
            f"checkpoint {path} is of {name!r}, code that is run only if you name it: "
            f"load_checkpoint(path, model={name!r})"
        )
    built = name if model is None else model
    # Whatever a built-in network makes of arguments from a file is their fault; code of the user's own explains itself.
    expected = (InputError, RuntimeError, TypeError) if is_own(built) else Exception
    try:
        with BoundedBuilding(size):
            network = construct(built, **arguments)
        network.load_state_dict(fitting_weights(stored["model_state_dict"], network))
    except expected as error:
        named = "the model it names" if model is None else repr(model)
        reason = one_line(str(error))[:500] or type(error).__name__
        raise InputError(f"checkpoint {path} does not fit {named}: {reason}") from error
    return network


def _plain(metadata: dict[str, Any]) -> dict[str, Any]:
    def converted(value: Any) -> Any:
        return value.item() if hasattr(value, "item") else str(value)

    plain: dict[str, Any] = json.loads(json.dumps(metadata, default=converted))
    return plain


def _check_layout(stored: object, path: Path) -> None:
    advice = "write it with save_checkpoint"
    if not isinstance(stored, dict):
        raise InputError(f"checkpoint {path} holds a {type(stored).__name__}, not a checkpoint; {advice}")
    if stored and all(isinstance(value, torch.Tensor) for value in stored.values()):
        raise InputError(f"checkpoint {path} is a bare state dict and does not name its model; {advice}")
    if missing := [key for key in ("model_state_dict", *KEYS) if key not in stored]:
        found = one_line(", ".join(map(str, list(stored)[:6])))[:200] or "nothing"
        inside = [key for key in ("state_dict", "model", "net", "weights") if _holds_tensors(stored.get(key))]
        hint = f"its {inside[0]!r} is a state dict: load that into your model and {advice}" if inside else advice
        raise InputError(f"checkpoint {path} lacks {', '.join(missing)} (it holds {found}); {hint}")
    if fault := form_fault(stored, FORM):
        named = "does not name its model and its data: " if fault.startswith(("model l", "data l")) else ""
        raise InputError(f"checkpoint {path}: {named}{one_line(fault)[:200]}; {advice}")


def _holds_tensors(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(part, torch.Tensor) for part in value.values())
