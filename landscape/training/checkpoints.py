"""Trained models in files that describe themselves and cannot run code when loaded."""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape.datasets import Data, load_dataset
from landscape.errors import InputError
from landscape.escaping import one_line
from landscape.models import construct, is_own
from landscape.presenting import Presented
from landscape.runtime import own_torch_state, ranks
from landscape.storage.files import make_folder
from landscape.storage.forms import Optional, form_fault
from landscape.storage.tensors import read_tensors, write_tensors
from landscape.storage.weights import BoundedBuilding, fitting_weights, unwrapped_weights

__all__ = ["Checkpoint", "load_checkpoint", "load_checkpoint_data", "prepare_checkpoint", "save_checkpoint"]

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
    """A trained model and the metadata that were stored with it."""

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
        """The entry that identifies this checkpoint in the metadata of results computed from it."""
        return {"model": self.model_name, "epoch": self.metadata["epoch"], "sha256": self.sha256}

    @property
    def description(self) -> str:
        """All metadata as text for a log, one entry per line."""
        return "\n".join(f"{key}: {value}" for key, value in {**self.metadata, "sha256": self.sha256}.items())


def prepare_checkpoint(path: str | Path) -> None:
    """Create the folder of ``path`` before training begins, and print a line if an existing file will be replaced.

    Raises:
        InputError: ``path`` is a folder, or its folder cannot be written.
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
    """Write the weights of ``model`` and their metadata to ``path``, and return ``path``.

    The file is written completely or not at all, holds a digest of its content, and is the same byte for byte
    whenever the content is the same. If torch wraps the network (torch.compile, DistributedDataParallel,
    AveragedModel), its weights are stored under their names without the wrapper.

    Args:
        path: The file; an existing one is replaced.
        model: The network whose weights are stored.
        model_name: The name from which ``build_model`` builds the network.
        model_arguments: The arguments of ``build_model`` for it.
        data: The training data: name, split, limit and source.
        epoch: The number of epochs that the network was trained for.
        metrics: Its losses and accuracies; numbers and paths are stored as plain Python values.
        settings: The settings of the training, stored likewise.

    Raises:
        InputError: ``path`` cannot be written.
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
    """Read a file written by :func:`save_checkpoint`; only tensors and plain values are unpickled from it.

    The content is compared with the digest stored in the file (files of the first versions have no digest). Names of
    weights may begin with the prefix of a wrapper, such as "module.".

    Args:
        path: The file.
        model: Builds the network by this name instead of the stored one. It is required for a network defined in the
            user's own code: FILE.py:FUNCTION is run only if the caller names it, never because a checkpoint does.

    Raises:
        InputError: the file is missing, damaged, edited, or not a checkpoint; its weights do not fit the model it
            names; or that model is code which ``model`` does not name.
    """
    path = Path(path)
    stored, raw = read_tensors(path, "checkpoint", "train it first, or give another file")
    _check_layout(stored, path)
    network = _rebuilt(stored, path, model, len(raw))
    metadata = {key: stored[key] for key in KEYS}
    return Checkpoint(network.eval(), metadata, path, hashlib.sha256(raw).hexdigest())


def load_checkpoint_data(checkpoint: Checkpoint, split: str, data_dir: Path) -> Data:
    """The data that the model was trained on ("train") or tested on ("test"), as its checkpoint names them."""
    source = checkpoint.metadata["data"]
    limit = source.get("limit") if split == "train" else None
    return ranks.first_ahead(lambda: load_dataset(source["name"], split=split, data_dir=data_dir, limit=limit))


def _rebuilt(stored: dict[str, Any], path: Path, model: str | None, size: int) -> nn.Module:
    name, arguments = stored["model"]["name"], stored["model"]["arguments"]
    if model is None and is_own(name):
        raise InputError(
            f"checkpoint {path} is of {name!r}, code that is run only if you name it: "
            f"load_checkpoint(path, model={name!r})"
        )
    built = name if model is None else model
    # Any error of a built-in network is caused by the arguments in the file; in the user's own code it may be a bug,
    # which has to keep its traceback.
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
        keys = one_line(", ".join(map(str, list(stored)[:6])))[:200] or "nothing"
        states = [key for key in ("state_dict", "model", "net", "weights") if _holds_tensors(stored.get(key))]
        hint = f"its {states[0]!r} is a state dict: load that into your model and {advice}" if states else advice
        raise InputError(f"checkpoint {path} lacks {', '.join(missing)} (it holds {keys}); {hint}")
    if fault := form_fault(stored, FORM):
        named = "does not name its model and its data: " if fault.startswith(("model l", "data l")) else ""
        raise InputError(f"checkpoint {path}: {named}{one_line(fault)[:200]}; {advice}")


def _holds_tensors(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(part, torch.Tensor) for part in value.values())
