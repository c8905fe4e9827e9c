"""Training of one network into one checkpoint file; interrupted training is resumed."""

import contextlib
import glob
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from torch import nn

from landscape.datasets import Data
from landscape.errors import InputError
from landscape.models import build_model
from landscape.runtime.devices import seed_everything, select_device
from landscape.storage.files import make_folder
from landscape.storage.locks import locked
from landscape.storage.recipe import difference, unfinished_path
from landscape.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint, stored_metadata
from landscape.training.loop import Training, fit

__all__ = ["check_replacement", "train_checkpoint"]


def train_checkpoint(
    path: str | Path,
    model: str,
    train: Data,
    test: Data,
    training: Training,
    *,
    limit: int | None = None,
    device: str = "auto",
    keep: Literal["last", "best"] = "last",
) -> Checkpoint:
    """Train a new network and write a checkpoint of its last epoch, or of its best one, to ``path``.

    The state of training is stored beside ``path`` after every epoch and removed at the end. If the same call is made
    after an interruption, training is resumed; on the CPU the result has the same bits as an uninterrupted run. A
    second process that trains into the same file waits.

    Args:
        path: Checkpoint to write; an existing one is replaced.
        model: Name of the model, see `build_model`; input shape and classes are those of ``train``.
        train: Training data.
        test: Test data, evaluated after each epoch.
        training: Settings of the training; the initial weights are drawn from its seed.
        limit: The limit with which ``train`` was loaded, for the metadata of the checkpoint.
        device: See ``select_device``.
        keep: "last" writes the last epoch; "best" writes the epoch with the highest test accuracy, so that a checkpoint
            is written after the first epoch and after every improvement.

    Raises:
        InputError: A setting is out of range, the file cannot be written, or the stored state of training is damaged.
    """
    path = Path(path)
    make_folder(path.parent)
    record: dict[str, Any] = {
        "model_name": model,
        "model_arguments": _model_arguments(train),
        "data": {"name": train.name, "split": train.split, "limit": limit, "source": train.source},
        "settings": asdict(training),
    }
    place = select_device(device).type
    with locked(path):
        identity = {**record, "data": [train.fingerprint, test.fingerprint], "on": place, "keep": keep}
        state = unfinished_path(path, identity, ".pth")
        best = _best_so_far(path, state) if keep == "best" else -1.0

        def keep_best(epoch: int, network: nn.Module, metrics: dict[str, Any]) -> None:
            nonlocal best
            if metrics["test_accuracy"] > best:
                best = metrics["test_accuracy"]
                _save(path, network, epoch, metrics, record)

        if state.exists():
            print(f"Resuming the interrupted training in {state}", flush=True)
        elif path.exists():
            print(f"{path} exists and will be replaced by the newly trained model", flush=True)
        seed_everything(training.seed)
        network = build_model(model, **record["model_arguments"])
        hook = keep_best if keep == "best" else None
        history = fit(network, train, test, device=device, on_epoch=hook, state=state, **asdict(training))
        if keep == "last":
            _save(path, network, training.epochs, history[-1], record)
        for unfinished in path.parent.glob(f"{glob.escape(path.stem)}.????????.unfinished.pth"):
            unfinished.unlink(missing_ok=True)
    return load_checkpoint(path)


def check_replacement(path: Path, model: str, train: Data) -> None:
    """Raise InputError if the file at ``path`` does not hold a ``model`` for the data set of ``train``."""
    if not path.exists():
        return
    try:
        stored = stored_metadata(path)
    except InputError as error:
        raise InputError(f"{path} exists and is no checkpoint that can be compared, so it is not replaced") from error
    requested: dict[str, dict[str, Any]] = {
        "data": {"name": train.name, "split": train.split},
        "model": {"name": model, "arguments": _model_arguments(train)},
    }
    known = {"data": {key: stored["data"].get(key) for key in requested["data"]}, "model": stored["model"]}
    if changed := difference(known, requested):
        raise InputError(f"{path} holds another network, which is not replaced: {changed}")


def _model_arguments(train: Data) -> dict[str, Any]:
    return {"input_shape": tuple(train.inputs.shape[1:]), "classes": len(train.classes)}


def _save(path: Path, network: nn.Module, epoch: int, metrics: dict[str, Any], record: dict[str, Any]) -> None:
    save_checkpoint(path, network, epoch=epoch, metrics=metrics, **record)
    name, accuracy = record["data"]["name"], metrics["test_accuracy"]
    print(f"Wrote {path} ({name}, epoch {epoch}, test accuracy {accuracy:.2%})", flush=True)


def _best_so_far(path: Path, state: Path) -> float:
    """The test accuracy of the best epoch before an interruption; training starts anew if its checkpoint is missing."""
    if state.exists():
        with contextlib.suppress(InputError, KeyError):
            return float(load_checkpoint(path).metadata["metrics"]["test_accuracy"])
        state.unlink()
    return -1.0
