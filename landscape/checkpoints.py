"""Trained models in files that describe themselves and cannot run code when loaded."""

import hashlib
import io
import json
import pickle
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from landscape.errors import InputError
from landscape.files import make_folder, written_whole
from landscape.models import build_model, is_own
from landscape.runtime import own_torch_state

__all__ = ["Checkpoint", "load_checkpoint", "prepare_checkpoint", "save_checkpoint"]

KEYS = ("model", "data", "epoch", "metrics", "settings", "versions")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained model with all that is known of it."""

    model: nn.Module  # in eval mode, on the CPU
    # model {name, arguments}, data {name, split, limit, source}, epoch, metrics, settings, versions
    metadata: dict
    path: Path
    sha256: str  # of the file's bytes

    @property
    def model_name(self) -> str:
        return self.metadata["model"]["name"]

    @property
    def identity(self) -> dict:
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
    model_arguments: dict | None = None,
    data: dict,
    epoch: int,
    metrics: dict,
    settings: dict,
) -> Path:
    """Write weights and metadata to ``path``, whole or not at all; equal content gives equal bytes.

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
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    # torch.save writes the file's own name into the file; a buffer has none.
    torch.save({"model_state_dict": weights, **_plain(metadata)}, buffer := io.BytesIO())
    make_folder(path.parent)
    with written_whole(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
    return path


@own_torch_state()
def load_checkpoint(path: str | Path, *, model: str | None = None) -> Checkpoint:
    """Read what :func:`save_checkpoint` wrote; only tensors and plain values are ever unpickled.

    ``model`` builds the network by that name instead of the stored one. A network of the user's own needs it: the
    code of a FILE.py:FUNCTION is run only where the caller names it, never because a checkpoint does.

    Raises:
        InputError: the file is missing, truncated, foreign, its weights do not fit the model it names, or that
            model is code and ``model`` does not name it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist; train it first, or give another file")
    content = path.read_bytes()
    stored = _unpickled(content, path)
    _check_layout(stored, path)
    network = _rebuilt(stored, path, model)
    metadata = {key: stored[key] for key in KEYS}
    return Checkpoint(network.eval(), metadata, path, hashlib.sha256(content).hexdigest())


def _rebuilt(stored: dict, path: Path, model: str | None) -> nn.Module:
    name, arguments = stored["model"]["name"], stored["model"]["arguments"]
    if model is None and is_own(name):
        raise InputError(
            f"checkpoint {path} is of {name!r}, code that is run only if you name it: "
            f"load_checkpoint(path, model={name!r}), or --model {name!r} on the command line"
        )
    try:
        network = build_model(name if model is None else model, **arguments)
        network.load_state_dict(stored["model_state_dict"])
    except (InputError, RuntimeError, TypeError) as error:
        named, reason = "the model it names" if model is None else repr(model), " ".join(str(error).split())
        raise InputError(f"checkpoint {path} does not fit {named}: {reason}") from error
    return network


def _plain(metadata: dict) -> dict:
    def converted(value):
        return value.item() if hasattr(value, "item") else str(value)

    return json.loads(json.dumps(metadata, default=converted))


def _unpickled(content: bytes, path: Path):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on foreign formats, which are refused below anyway
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the unpickler fail in any way at all
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise InputError(
                f"checkpoint {path} holds pickled code, which is never run; write it with save_checkpoint"
            ) from error
        raise InputError(f"{path} is no checkpoint, or a damaged one; train again") from error


def _check_layout(stored, path: Path) -> None:
    advice = "write it with save_checkpoint"
    if not isinstance(stored, dict):
        raise InputError(f"checkpoint {path} holds a {type(stored).__name__}, not a checkpoint; {advice}")
    if stored and all(isinstance(value, torch.Tensor) for value in stored.values()):
        raise InputError(f"checkpoint {path} is a bare state dict and does not name its model; {advice}")
    if missing := [key for key in ("model_state_dict", *KEYS) if key not in stored]:
        raise InputError(f"checkpoint {path} lacks {', '.join(missing)}; {advice}")
    for key in ("model_state_dict", "model", "data", "metrics", "settings", "versions"):
        if not isinstance(stored[key], dict):
            raise InputError(f"checkpoint {path}: {key} is a {type(stored[key]).__name__}, no dict; {advice}")
    named = isinstance(stored["model"].get("name"), str) and "arguments" in stored["model"]
    if not named or "name" not in stored["data"]:
        raise InputError(f"checkpoint {path} does not name its model and its data; {advice}")
