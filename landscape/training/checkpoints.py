"""Trained models in files that describe themselves and cannot run code when loaded."""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape.checks import check_type
from landscape.datasets import Data, Split, load_dataset
from landscape.errors import InputError
from landscape.escaping import one_line
from landscape.models import construct, is_own
from landscape.models.own import OwnCodeError
from landscape.presenting import Presented
from landscape.runtime import own_torch_state, ranks
from landscape.storage.files import make_folder
from landscape.storage.forms import Optional, form_fault
from landscape.storage.states import StoredState, read_state
from landscape.storage.tensors import read_tensors, write_tensors
from landscape.storage.weights import BoundedBuilding, fitting_weights, unwrapped_weights

__all__ = [
    "UNKNOWN_DATA",
    "Checkpoint",
    "load_checkpoint",
    "load_checkpoint_data",
    "prepare_checkpoint",
    "save_checkpoint",
    "stored_metadata",
]

UNKNOWN_DATA = "unknown"  # the name of the data in files of other programs
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

    model: nn.Module  # in eval mode, on the CPU unless the caller built it elsewhere
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
    """Create the folder of ``path`` before training begins.

    Raises:
        InputError: ``path`` is a folder, or its folder cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"cannot write the checkpoint {path}: it is a folder; add a file name")
    make_folder(path.parent)


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
def load_checkpoint(path: str | Path, *, model: str | nn.Module | None = None, **arguments: Any) -> Checkpoint:
    """Read a file written by :func:`save_checkpoint`, or with ``model`` the weights in a file of another program.

    Only tensors and plain values are unpickled. Other programs' files are state dicts of torch.save (also inside the
    checkpoints of Lightning and of most training scripts), safetensors files and archives of torch.export, of which the
    weights are read and the program is not. Names of weights may begin with the prefix of a wrapper ("module.",
    "_orig_mod.", "model.", "net."). The content of our own files is compared with the digest in them (those of the
    first versions have none).

    Args:
        path: The file.
        model: The network that the weights belong to: an ``nn.Module``, into which they are loaded, or the name that
            builds one, instead of the stored name. It is required for files of other programs, and for a network
            defined in the user's own code: FILE.py:FUNCTION is run only if the caller names it, never because a
            checkpoint does.
        **arguments: Those of ``build_model`` for a named network, if the file is of another program.

    Example:
        >>> torch.save({"state_dict": {"net.weight": torch.ones(1, 2), "net.bias": torch.zeros(1)}}, "mine.ckpt")
        >>> load_checkpoint("mine.ckpt", model=nn.Linear(2, 1)).model.weight
        Parameter containing:
        tensor([[1., 1.]], requires_grad=True)

    Raises:
        InputError: the file is missing, damaged, edited, or holds no weights; they do not fit the network; or that
            network is code which ``model`` does not name.
    """
    call = "load_checkpoint(path)"
    check_type(path, str | PathLike, call, "the path of a file (model.load_state_dict(state) takes a state dict)")
    path = Path(path)
    if model is None:
        stored, raw = read_tensors(path, "checkpoint", "train it first, or give another file")
        _check_layout(stored, path)
        network, sha256 = _rebuilt(stored, path, None, len(raw)), hashlib.sha256(raw).hexdigest()
    else:
        state = read_state(path)
        stored, sha256 = _with_metadata(state, model, arguments), state.sha256
        network = _rebuilt(stored, path, model, state.size)
    return Checkpoint(network.eval(), {key: stored[key] for key in KEYS}, path, sha256)


def stored_metadata(path: Path) -> dict[str, Any]:
    """The metadata of the checkpoint at ``path``, whose network is not built.

    Raises:
        InputError: The file is missing, damaged, or no checkpoint of `save_checkpoint`.
    """
    stored, _ = read_tensors(path, "checkpoint", "train it first, or give another file")
    _check_layout(stored, path)
    return {key: stored[key] for key in KEYS}


def load_checkpoint_data(checkpoint: Checkpoint, split: Split, data_dir: Path) -> Data:
    """The data that the model was trained on ("train") or tested on ("test"), as its checkpoint names them."""
    source = checkpoint.metadata["data"]
    limit = source.get("limit") if split == "train" else None
    return ranks.first_ahead(lambda: load_dataset(source["name"], split=split, data_dir=data_dir, limit=limit))


def _with_metadata(state: StoredState, model: str | nn.Module, arguments: dict[str, Any]) -> dict[str, Any]:
    """The content of the file, if it is one of ours; otherwise its weights with the little that is known of them."""
    content = state.content
    if isinstance(content, dict) and content.keys() >= {"model_state_dict", *KEYS} and not form_fault(content, FORM):
        return content
    name = model if isinstance(model, str) else type(model).__name__
    unknown: dict[str, Any] = {"metrics": {}, "settings": {}, "versions": {}, "data": {"name": UNKNOWN_DATA}}
    about = {"model": {"name": name, "arguments": arguments}, "epoch": state.epoch}
    return {"model_state_dict": state.weights, **about, **unknown}


def _rebuilt(stored: dict[str, Any], path: Path, model: str | nn.Module | None, size: int) -> nn.Module:
    name, arguments = stored["model"]["name"], stored["model"]["arguments"]
    if model is None and is_own(name):
        raise InputError(
            f"checkpoint {path} is of {name!r}, code that is run only if you name it: "
            f"load_checkpoint(path, model={name!r})"
        )
    built = name if model is None else model
    # Any error of a built-in network is caused by the arguments in the file; in the user's own code it may be a bug,
    # which has to keep its traceback.
    own = isinstance(built, nn.Module) or is_own(built)
    expected = (InputError, RuntimeError, TypeError) if own else Exception
    try:
        if isinstance(built, nn.Module):
            network = built
        else:
            with BoundedBuilding(size):
                network = construct(built, **arguments)
        network.load_state_dict(fitting_weights(stored["model_state_dict"], network))
    except OwnCodeError:  # which names the file and the line itself
        raise
    except expected as error:
        named = type(model).__name__ if isinstance(model, nn.Module) else repr(model)
        named = "the model it names" if model is None else named
        reason = one_line(str(error))[:500] or type(error).__name__
        raise InputError(f"checkpoint {path} does not fit {named}: {reason}") from error
    return network


def _plain(metadata: dict[str, Any]) -> dict[str, Any]:
    def converted(value: Any) -> Any:
        return value.item() if hasattr(value, "item") else str(value)

    plain: dict[str, Any] = json.loads(json.dumps(metadata, default=converted))
    return plain


def _check_layout(stored: object, path: Path) -> None:
    advice = "load it with its network, load_checkpoint(path, model=network), or write it with save_checkpoint"
    if not isinstance(stored, dict):
        raise InputError(f"checkpoint {path} holds a {type(stored).__name__}, not a checkpoint; {advice}")
    if "pytorch-lightning_version" in stored:
        raise InputError(f"{path} is no checkpoint but one of Lightning, which names no model; {advice}")
    if stored and all(isinstance(value, torch.Tensor) for value in stored.values()):
        raise InputError(f"checkpoint {path} is a bare state dict and does not name its model; {advice}")
    if missing := [key for key in ("model_state_dict", *KEYS) if key not in stored]:
        keys = one_line(", ".join(map(str, list(stored)[:6])))[:200] or "nothing"
        states = [key for key in ("state_dict", "model", "net", "weights") if _holds_tensors(stored.get(key))]
        hint = f"its {states[0]!r} is a state dict: {advice}" if states else advice
        raise InputError(f"checkpoint {path} lacks {', '.join(missing)} (it holds {keys}); {hint}")
    if fault := form_fault(stored, FORM):
        named = "does not name its model and its data: " if fault.startswith(("model l", "data l")) else ""
        raise InputError(f"checkpoint {path}: {named}{one_line(fault)[:200]}; {advice}")


def _holds_tensors(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(part, torch.Tensor) for part in value.values())
