"""Where the model and the data of a visualisation script come from, and what its files are called."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from landscape import ranks
from landscape.checkpoints import Checkpoint, load_checkpoint
from landscape.datasets import Data, load_dataset
from landscape.errors import InputError
from landscape.files import plain_name

__all__ = [
    "DEFAULT_CHECKPOINT",
    "distinct_names",
    "load_checkpoint_data",
    "load_or_train",
    "load_shared_data",
    "result_suffix",
]

DEFAULT_CHECKPOINT = Path("mnist_linear_model.pth")  # what train_mnist.py writes
SUFFIXES = {"linear-mnist": "", "tiny-cnn": "_cifar10"}


def load_or_train(path: Path, *, data_dir: Path, device: str, model: str | None = None) -> Checkpoint:
    """Load a checkpoint; the default one is trained first, by train_mnist.py, where it is missing.

    ``model`` names the code of a network of the user's own, see :func:`load_checkpoint`.
    """
    ranks.from_first(lambda: _train_default(path, data_dir, device))
    return load_checkpoint(path, model=model)


def _train_default(path: Path, data_dir: Path, device: str) -> None:
    if path == DEFAULT_CHECKPOINT and not path.exists():
        print(f"{path} is missing: training it first with train_mnist.py", flush=True)
        script = Path(__file__).parents[1] / "train_mnist.py"
        options = ["--data-dir", str(data_dir), "--device", device, "--out", str(path)]
        alone = ranks.without_ranks(os.environ)
        if subprocess.run([sys.executable, str(script), *options], check=False, env=alone).returncode:
            raise InputError("the default model could not be trained; see the messages above")


def load_checkpoint_data(checkpoint: Checkpoint, split: str, data_dir: Path) -> Data:
    """The data that the model was trained on ("train") or tested on ("test"), as its checkpoint names them."""
    source = checkpoint.metadata["data"]
    limit = source.get("limit") if split == "train" else None
    return ranks.first_ahead(lambda: load_dataset(source["name"], split=split, data_dir=data_dir, limit=limit))


def load_shared_data(
    checkpoints: Sequence[Checkpoint], split: str, data_dir: Path, *, subset: int | None = None, seed: int
) -> list[Data]:
    """The data of each checkpoint, or ``subset`` random samples of them; the same data are loaded once."""
    loaded: dict[tuple, Data] = {}
    sources = [(c.metadata["data"]["name"], c.metadata["data"].get("limit")) for c in checkpoints]
    for source, checkpoint in zip(sources, checkpoints, strict=True):
        if source not in loaded:
            data = load_checkpoint_data(checkpoint, split, data_dir)
            loaded[source] = data if subset is None else data.subset(subset, seed=seed)
    return [loaded[source] for source in sources]


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


def result_suffix(model_name: str) -> str:
    """What tells the files of one kind of model from those of another: nothing for the linear one."""
    return SUFFIXES.get(model_name, f"_{plain_name(model_name)}")
