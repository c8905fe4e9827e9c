"""The networks and the data of the scripts, loaded from checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from landscape.cli.own_data import OwnData, SampleSet, build_arguments, check_targets, load_own_data
from landscape.cli.settings import DEFAULT_CHECKPOINT, Evaluation, Subject
from landscape.cli.stored_metrics import confirm_metrics
from landscape.datasets import SPLITS, Data, Split, load_dataset
from landscape.errors import InputError
from landscape.objective.batch_norm import has_batch_norm
from landscape.runtime import kept_random_state, ranks
from landscape.storage.files import make_folder
from landscape.storage.locks import locked
from landscape.training.checkpoints import UNKNOWN_DATA, Checkpoint, load_checkpoint, load_checkpoint_data
from landscape.training.loop import Training
from landscape.training.single import train_checkpoint

__all__ = [
    "DEFAULT_TRAINING",
    "distinct_names",
    "load_network",
    "load_shared_data",
    "load_subject",
    "note_unused_batch_norm",
]

DEFAULT_TRAINING = Training(epochs=10, batch_size=64, lr=0.01, seed=42)  # training of the default checkpoint


def load_subject(
    subject: Subject, evaluation: Evaluation, needed: Mapping[str, int]
) -> tuple[Checkpoint, dict[str, Any], dict[str, str]]:
    """Load a network and its data, and compare its stored metrics with those on its data.

    The default checkpoint, a linear classifier of MNIST, is trained first if it is missing.

    Args:
        subject: The network and the data to load.
        evaluation: The device, and the folder of the data sets.
        needed: Split -> number of its samples that will be used; they must exist before anything is trained.

    Returns:
        The checkpoint, its data by split, and a remark on the metrics for the metadata of results.

    Raises:
        InputError: The checkpoint or the data cannot be used, or the metrics differ.
    """
    subject.check()
    path = subject.state or subject.checkpoint
    if path == DEFAULT_CHECKPOINT and subject.model is None and subject.data is None:
        ranks.from_first(lambda: _train_default(path, evaluation, needed))
    own = load_own_data(subject.data) if subject.data else None
    trained = load_network(path, subject.model, own)
    data: dict[str, Any]
    if own:
        data = {split: own[split] for split in needed}
        for samples in data.values():
            check_targets(samples, evaluation.loss)
    else:
        data = {split: load_checkpoint_data(trained, split, evaluation.data_dir) for split in SPLITS if split in needed}
    epoch = "" if trained.metadata["epoch"] is None else f", epoch {trained.metadata['epoch']}"
    print(f"Checkpoint: {trained.path} ({trained.model_name}{epoch})", flush=True)
    note_unused_batch_norm(evaluation, [trained])
    if own:
        return trained, data, {}
    remark = confirm_metrics(trained, evaluation, data.get("test"), accept=subject.accept_mismatch)
    return trained, data, remark


def load_network(path: Path, model: str | None, data: Mapping[str, OwnData] | None) -> Checkpoint:
    """The network of a checkpoint, or the weights of another program in the network that ``model`` builds.

    Raises:
        InputError: as `load_checkpoint`, or the file does not name its data and there are no ``data``.
    """
    arguments = build_arguments(model, data) if model and data else {}
    trained = load_checkpoint(path, model=model, **arguments)
    if data:
        name, split = data["train"].name, data["train"].split
        return replace(trained, metadata=trained.metadata | {"data": {"name": name, "split": split}})
    if trained.metadata["data"]["name"] == UNKNOWN_DATA:
        raise InputError(f"{path} does not name the data of its network; --data FILE.py:FUNCTION returns them")
    return trained


def _train_default(path: Path, evaluation: Evaluation, needed: Mapping[str, int]) -> None:
    make_folder(path.parent)
    with locked(path):  # one of several processes trains, and the others wait for the checkpoint
        if path.exists():
            return
        data_dir = evaluation.data_dir
        for split in SPLITS:
            if split in needed:
                load_dataset("auto", split=split, data_dir=data_dir, limit=needed[split])
        train = load_dataset("auto", split="train", data_dir=data_dir)
        test = load_dataset(train.name, split="test", data_dir=data_dir)
        print(f"{path} is missing: training it first, a linear classifier of {train.name}", flush=True)
        with kept_random_state():
            train_checkpoint(path, "linear-mnist", train, test, DEFAULT_TRAINING, device=evaluation.device)


def load_shared_data(
    checkpoints: Sequence[Checkpoint],
    split: Split,
    data_dir: Path,
    own: Mapping[str, OwnData] | None = None,
    *,
    subset: int | None = None,
    seed: int,
) -> list[SampleSet]:
    """The user's ``own`` data or the data of each checkpoint, or ``subset`` samples; shared data are loaded once."""
    if own:
        chosen = own[split] if subset is None else own[split].subset(subset, seed=seed)
        return [chosen for _ in checkpoints]
    loaded: dict[tuple[Any, ...], Data] = {}
    sources = [(c.metadata["data"]["name"], c.metadata["data"].get("limit")) for c in checkpoints]
    for source, checkpoint in zip(sources, checkpoints, strict=True):
        if source not in loaded:
            data = load_checkpoint_data(checkpoint, split, data_dir)
            loaded[source] = data if subset is None else data.subset(subset, seed=seed)
    return [loaded[source] for source in sources]


def note_unused_batch_norm(evaluation: Evaluation, checkpoints: Sequence[Checkpoint]) -> None:
    """Print a note if a BatchNorm policy is chosen but no network has BatchNorm layers."""
    if evaluation.batch_norm and not any(has_batch_norm(checkpoint.model) for checkpoint in checkpoints):
        print(
            f"Note: --batch-norm {evaluation.batch_norm} changes nothing, because no network has BatchNorm layers",
            flush=True,
        )


def distinct_names(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Names that distinguish the checkpoints.

    A name consists of the model, of its arguments that differ, and of the epoch if it differs. If such names are not
    distinct the names of the files are used, or else their paths.
    """
    epochs = {checkpoint.metadata["epoch"] for checkpoint in checkpoints} - {None}
    names = []
    for checkpoint in checkpoints:
        arguments = checkpoint.metadata["model"]["arguments"]
        parts = [f"{key}={value}" for key, value in arguments.items() if _differs(key, checkpoint, checkpoints)]
        parts += [f"epoch {checkpoint.metadata['epoch']}"] if len(epochs) > 1 else []
        names.append(", ".join([checkpoint.model_name, *parts]))
    files = [checkpoint.path.stem for checkpoint in checkpoints]
    paths = [str(checkpoint.path) for checkpoint in checkpoints]
    return next((options for options in (names, files) if len(set(options)) == len(options)), paths)


def _differs(key: str, checkpoint: Checkpoint, others: Sequence[Checkpoint]) -> bool:
    """Whether another checkpoint has another value of an argument, or leaves it out of the same model."""
    value = checkpoint.metadata["model"]["arguments"][key]
    absent = [None if other.model_name == checkpoint.model_name else value for other in others]
    return any(
        other.metadata["model"]["arguments"].get(key, default) != value
        for other, default in zip(others, absent, strict=True)
    )
