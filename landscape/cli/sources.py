"""Where the networks and the data of the scripts come from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from landscape.cli.settings import DEFAULT_CHECKPOINT, Evaluation, Subject
from landscape.cli.stored_metrics import confirm_metrics
from landscape.datasets import Data, load_dataset
from landscape.objective.batch_norm import has_batch_norm
from landscape.runtime import kept_random_state, ranks
from landscape.storage.files import make_folder
from landscape.storage.locks import locked
from landscape.training.checkpoints import Checkpoint, load_checkpoint, load_checkpoint_data
from landscape.training.loop import Training
from landscape.training.single import train_checkpoint

__all__ = ["DEFAULT_TRAINING", "distinct_names", "load_shared_data", "load_subject", "note_unused_batch_norm"]

DEFAULT_TRAINING = Training(epochs=10, batch_size=64, lr=0.01, seed=42)  # of the network in the default checkpoint


def load_subject(
    subject: Subject, evaluation: Evaluation, needed: Mapping[str, int]
) -> tuple[Checkpoint, dict[str, Data], dict[str, str]]:
    """The checkpoint, its data by split, and a remark for the results: how its stored metrics compare with its data.

    The default checkpoint, a linear classifier of MNIST, is trained first where it is missing.

    Args:
        subject: Which checkpoint.
        evaluation: The device, and the folder of the data sets.
        needed: Split -> how many of its samples will be used: so many must be there before anything is trained.
    """
    if subject.checkpoint == DEFAULT_CHECKPOINT and subject.model is None:
        ranks.from_first(lambda: _train_default(subject.checkpoint, evaluation, needed))
    trained = load_checkpoint(subject.checkpoint, model=subject.model)
    print(f"Checkpoint: {trained.path} ({trained.model_name}, epoch {trained.metadata['epoch']})", flush=True)
    note_unused_batch_norm(evaluation, [trained])
    data = {split: load_checkpoint_data(trained, split, evaluation.data_dir) for split in needed}
    remark = confirm_metrics(trained, evaluation, data.get("test"), accept=subject.accept_mismatch)
    return trained, data, remark


def _train_default(path: Path, evaluation: Evaluation, needed: Mapping[str, int]) -> None:
    make_folder(path.parent)
    with locked(path):  # of two processes one trains, and the other one finds the checkpoint
        if path.exists():
            return
        data_dir = evaluation.data_dir
        for split, samples in needed.items():
            load_dataset("auto", split=split, data_dir=data_dir, limit=samples)
        train = load_dataset("auto", split="train", data_dir=data_dir)
        test = load_dataset(train.name, split="test", data_dir=data_dir)
        print(f"{path} is missing: training it first, a linear classifier of {train.name}", flush=True)
        with kept_random_state():
            train_checkpoint(path, "linear-mnist", train, test, DEFAULT_TRAINING, device=evaluation.device)


def load_shared_data(
    checkpoints: Sequence[Checkpoint], split: str, data_dir: Path, *, subset: int | None = None, seed: int
) -> list[Data]:
    """The data of each checkpoint, or ``subset`` random samples of them; the same data are loaded once."""
    loaded: dict[tuple[Any, ...], Data] = {}
    sources = [(c.metadata["data"]["name"], c.metadata["data"].get("limit")) for c in checkpoints]
    for source, checkpoint in zip(sources, checkpoints, strict=True):
        if source not in loaded:
            data = load_checkpoint_data(checkpoint, split, data_dir)
            loaded[source] = data if subset is None else data.subset(subset, seed=seed)
    return [loaded[source] for source in sources]


def note_unused_batch_norm(evaluation: Evaluation, checkpoints: Sequence[Checkpoint]) -> None:
    """Say so where statistics of BatchNorm are chosen and no network has any."""
    if evaluation.batch_norm and not any(has_batch_norm(checkpoint.model) for checkpoint in checkpoints):
        print(
            f"Note: no BatchNorm layer is here, so that --batch-norm {evaluation.batch_norm} changes nothing",
            flush=True,
        )


def distinct_names(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """What tells the checkpoints apart: model, arguments that differ, epoch where it differs; else the file names."""
    epochs = {checkpoint.metadata["epoch"] for checkpoint in checkpoints}
    names = []
    for checkpoint in checkpoints:
        arguments = checkpoint.metadata["model"]["arguments"]
        parts = [f"{key}={value}" for key, value in arguments.items() if _tells(key, checkpoint, checkpoints)]
        parts += [f"epoch {checkpoint.metadata['epoch']}"] if len(epochs) > 1 else []
        names.append(", ".join([checkpoint.model_name, *parts]))
    files = [checkpoint.path.stem for checkpoint in checkpoints]
    paths = [str(checkpoint.path) for checkpoint in checkpoints]
    return next((options for options in (names, files) if len(set(options)) == len(options)), paths)


def _tells(key: str, checkpoint: Checkpoint, others: Sequence[Checkpoint]) -> bool:
    """Whether another checkpoint has another value, or the same model without it (its default)."""
    value = checkpoint.metadata["model"]["arguments"][key]
    absent = [None if other.model_name == checkpoint.model_name else value for other in others]
    return any(
        other.metadata["model"]["arguments"].get(key, default) != value
        for other, default in zip(others, absent, strict=True)
    )
