"""One network trained into one checkpoint file, which appears whole; interrupted training is resumed."""

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
from landscape.storage.recipe import unfinished_path
from landscape.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from landscape.training.loop import Training, fit

__all__ = ["train_checkpoint"]


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
    """Train a new network and write its last epoch, or that of the highest test accuracy, to ``path``.

    What is needed to go on is kept beside ``path`` after every epoch, and removed in the end: the same call after an
    interruption resumes training, on the CPU to the same bits. A second process that trains into the same file waits.

    Args:
        path: Checkpoint to write; an existing one is replaced.
        model: Model by name, as for `build_model`; input shape and classes are those of ``train``.
        train: Training data.
        test: Data that every epoch is scored on.
        training: How it is trained; its seed also draws the initial weights.
        limit: The limit that ``train`` was loaded with, for the record.
        device: As for ``select_device``.
        keep: "best" writes a checkpoint after the first epoch and after each better one, "last" after the last.
    """
    path = Path(path)
    make_folder(path.parent)
    arguments = {"input_shape": tuple(train.inputs.shape[1:]), "classes": len(train.classes)}
    record: dict[str, Any] = {
        "model_name": model,
        "model_arguments": arguments,
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
            print(f"Going on with the interrupted training in {state}", flush=True)
        seed_everything(training.seed)
        network = build_model(model, **arguments)
        hook = keep_best if keep == "best" else None
        history = fit(network, train, test, device=device, on_epoch=hook, state=state, **asdict(training))
        if keep == "last":
            _save(path, network, training.epochs, history[-1], record)
        for unfinished in path.parent.glob(f"{glob.escape(path.stem)}.????????.unfinished.pth"):
            unfinished.unlink(missing_ok=True)
    return load_checkpoint(path)


def _save(path: Path, network: nn.Module, epoch: int, metrics: dict[str, Any], record: dict[str, Any]) -> None:
    save_checkpoint(path, network, epoch=epoch, metrics=metrics, **record)
    name, accuracy = record["data"]["name"], metrics["test_accuracy"]
    print(f"Wrote {path} ({name}, epoch {epoch}, test accuracy {accuracy:.2%})", flush=True)


def _best_so_far(path: Path, state: Path) -> float:
    """The test accuracy of the best epoch before the interruption; without its checkpoint training begins anew."""
    if state.exists():
        with contextlib.suppress(InputError, KeyError):
            return float(load_checkpoint(path).metadata["metrics"]["test_accuracy"])
        state.unlink()
    return -1.0
