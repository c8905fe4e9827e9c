"""The trained networks of the study, with their data, histories and checkpoints."""

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape.datasets import Data, load_dataset
from landscape.models import build_model
from landscape.models.normalization import Normalization
from landscape.runtime.devices import seed_everything, select_device
from landscape.storage.recipe import unfinished_path
from landscape.storage.records import file_hash
from landscape.studies.kit.results_file import StoredResults
from landscape.studies.normalizations.settings import NormalizationStudy
from landscape.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from landscape.training.loop import fit, score

__all__ = ["study_data", "train_normalization"]

SPLIT_SEED = 0  # seed of the split into training and validation data, which all networks share


def study_data(study: NormalizationStudy, data_dir: Path) -> dict[str, Data]:
    """The data of the splits "train", "validation" (a share of every class of the training data) and "test"."""
    data = load_dataset(study.dataset, split="train", data_dir=data_dir, limit=study.subset)
    train, validation = data.divided(study.validation, seed=SPLIT_SEED)
    return {"train": train, "validation": validation, "test": load_dataset(data.name, split="test", data_dir=data_dir)}


def train_normalization(
    study: NormalizationStudy,
    norm: Normalization,
    seed: int,
    data: dict[str, Data],
    path: Path,
    stored: StoredResults,
    device: str = "auto",
) -> tuple[dict[str, Any], Checkpoint]:
    """Train a network, unless its history and its checkpoint at ``path`` exist, and return both.

    An interrupted training continues from a file beside ``path``; on the CPU it gives the same numbers as one without
    interruption. The history has one entry for each epoch: train_loss and train_accuracy (running averages, with
    dropout), batch_losses, validation_loss and validation_accuracy (at its end), lr, seconds.
    """
    settings = asdict(study.training(seed))
    shape, classes = tuple(data["train"].inputs.shape[1:]), len(data["train"].classes)
    model = {"name": "norm-cnn", "arguments": {"input_shape": shape, "classes": classes, "normalization": norm}}
    recipe = {
        "model": model,
        "settings": settings,
        "data": {split: part.description for split, part in data.items()},
        "device": select_device(device).type,
    }

    state = unfinished_path(path, recipe, ".pth")

    def compute() -> dict[str, Any]:
        if stored.force:
            state.unlink(missing_ok=True)
        result = _trained(model, settings, data, path, study.subset, state, device)
        state.unlink(missing_ok=True)
        return result

    result = stored.get(seed, "training", recipe, compute, accept=partial(_checkpoint_fault, path))
    return result, load_checkpoint(path)


def _trained(
    model: dict[str, Any],
    settings: dict[str, Any],
    data: dict[str, Data],
    path: Path,
    limit: int | None,
    state: Path,
    device: str,
) -> dict[str, Any]:
    seed_everything(settings["seed"])
    network = build_model(model["name"], **model["arguments"])
    began = time.perf_counter()
    losses: list[Tensor] = []

    def note_epoch(_: int, __: nn.Module, metrics: dict[str, Any]) -> None:
        nonlocal began
        now = time.perf_counter()
        metrics["batch_losses"] = torch.stack(losses).tolist()  # stored with the metrics in the state of training
        metrics["seconds"], began = round(now - began, 3), now
        losses.clear()

    def note_step(_: int, __: nn.Module, loss: Tensor) -> None:
        losses.append(loss)

    train, validation, test = data["train"], data["validation"], data["test"]
    history = fit(
        network, train, validation, device=device, on_epoch=note_epoch, on_step=note_step, state=state, **settings
    )
    history = [{key.replace("test_", "validation_"): value for key, value in epoch.items()} for epoch in history]
    final = score(network, test, device=device)
    last = {key: value for key, value in history[-1].items() if key not in ("batch_losses", "seconds")}
    save_checkpoint(
        path,
        network,
        model_name=model["name"],
        model_arguments=model["arguments"],
        data={"name": train.name, "split": train.split, "limit": limit, "source": train.source},
        epoch=settings["epochs"],
        metrics={**last, **{f"test_{name}": value for name, value in final.items()}},
        settings=settings,
    )
    return {
        "checkpoint": load_checkpoint(path).sha256,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "test_loss": final["loss"],
        "test_accuracy": final["accuracy"],
        "epochs": history,
    }


def _checkpoint_fault(path: Path, result: dict[str, Any]) -> str | None:
    """The reason why the checkpoint at ``path`` is not the one of ``result``; None if it is."""
    if not path.is_file():
        return f"its checkpoint {path.name} is missing"
    return None if file_hash(path) == result.get("checkpoint") else f"its checkpoint {path.name} was changed"
