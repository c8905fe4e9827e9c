"""Where the model and the data of a visualisation script come from, and what its files are called."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from landscape.cli.settings import Evaluation
from landscape.datasets import Data, load_dataset
from landscape.errors import InputError
from landscape.objective.batch_norm import has_batch_norm
from landscape.results import Surface
from landscape.runtime import kept_random_state, ranks
from landscape.storage.files import make_folder, plain_name
from landscape.storage.json_files import read_json
from landscape.storage.locks import locked
from landscape.training.checkpoints import Checkpoint, load_checkpoint, load_checkpoint_data
from landscape.training.loop import Training
from landscape.training.single import train_checkpoint

__all__ = [
    "DEFAULT_CHECKPOINT",
    "DEFAULT_TRAINING",
    "checkpoint_suffix",
    "distinct_names",
    "file_owner",
    "load_or_train",
    "load_shared_data",
    "note_unused_batch_norm",
    "own_suffix",
    "owner_in_npz",
    "owners_in_json",
    "result_suffix",
]

DEFAULT_CHECKPOINT = Path("mnist_linear_model.pth")
DEFAULT_TRAINING = Training(epochs=10, batch_size=64, lr=0.01, seed=42)  # of the network in it
SUFFIXES = {"linear-mnist": "", "tiny-cnn": "_cifar10"}


def load_or_train(
    path: Path, *, data_dir: Path, device: str, model: str | None = None, needed: Mapping[str, int] | None = None
) -> Checkpoint:
    """Load a checkpoint; the default one, a linear classifier of MNIST, is trained first where it is missing.

    ``model`` names the code of a network of the user's own, see :func:`load_checkpoint`. ``needed`` is how many samples
    of each split will be requested: so many must be there before anything is trained.
    """
    if path == DEFAULT_CHECKPOINT and model is None:
        ranks.from_first(lambda: _train_default(path, data_dir, device, needed or {}))
    return load_checkpoint(path, model=model)


def _train_default(path: Path, data_dir: Path, device: str, needed: Mapping[str, int]) -> None:
    make_folder(path.parent)
    with locked(path):  # of two processes one trains, and the other one finds the checkpoint
        if path.exists():
            return
        for split, samples in needed.items():
            load_dataset("auto", split=split, data_dir=data_dir, limit=samples)
        train = load_dataset("auto", split="train", data_dir=data_dir)
        test = load_dataset(train.name, split="test", data_dir=data_dir)
        print(f"{path} is missing: training it first, a linear classifier of {train.name}", flush=True)
        with kept_random_state():
            train_checkpoint(path, "linear-mnist", train, test, DEFAULT_TRAINING, device=device)


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


def result_suffix(model_name: str) -> str:
    """What tells the files of one kind of model from those of another: nothing for the linear one."""
    return SUFFIXES.get(model_name, f"_{plain_name(model_name)}")


def checkpoint_suffix(
    out: Path, checkpoint: Checkpoint, pattern: str, owner: Callable[[Path], str | None], *, force: bool = False
) -> str:
    """What the files of ``checkpoint`` in ``out`` end with: that of its model, and its name where others have that.

    Args:
        out: folder of the results.
        checkpoint: of which the results are.
        pattern: name of one of the files, with {} where the suffix goes.
        owner: the sha256 of the checkpoint that a file is of.
        force: whether the results of another checkpoint may be replaced.
    """
    plain, stem = result_suffix(checkpoint.model_name), plain_name(checkpoint.path.stem)
    suffixes = [plain, f"{plain}_{stem}", f"{plain}_{stem}_{checkpoint.sha256[:8]}"]
    return own_suffix(
        suffixes, lambda suffix: file_owner(out / pattern.format(suffix), owner), checkpoint.sha256, force=force
    )


def own_suffix(suffixes: Sequence[str], owner: Callable[[str], str | None], mine: str, *, force: bool) -> str:
    """The first of ``suffixes`` under which there are results of ``mine``, else the first that is free.

    With ``force`` those under the first one are replaced instead, where all are taken those under the last one.

    Args:
        suffixes: what the names of files may end with, from short to unmistakable.
        owner: whose the results with a suffix are, None where there are none.
        mine: who asks.
        force: replace the results of others.
    """
    owners = ranks.from_first(lambda: {suffix: owner(suffix) for suffix in suffixes})
    if found := [suffix for suffix, who in owners.items() if who == mine]:
        return found[0]
    if force:
        return suffixes[0]
    chosen = next((suffix for suffix, who in owners.items() if who is None), suffixes[-1])
    if chosen != suffixes[0]:
        print(f"The results here are of another network and stay; names of the new ones end in {chosen}", flush=True)
    return chosen


def file_owner(path: Path, owner: Callable[[Path], str | None]) -> str | None:
    """Whose the file is: None where there is none, "" where it does not say."""
    return (owner(path) or "") if path.exists() else None


def owner_in_npz(path: Path) -> str | None:
    """The sha256 of the checkpoint that the surface at ``path`` is of."""
    return _section(Surface.load(path).metadata, "checkpoint").get("sha256")


def owners_in_json(path: Path) -> str | None:
    """The sha256 of the checkpoint, or of all checkpoints, that the record at ``path`` is of."""
    try:
        record = read_json(path, dict, "record", "it is made again")
    except InputError:
        return None
    several = record.get("checkpoints") if isinstance(record, dict) else None
    entries = several if isinstance(several, list) else [_section(record, "checkpoint")]
    return " ".join(sorted(str(entry.get("sha256")) for entry in entries if isinstance(entry, dict)))


def _section(content: object, key: str) -> dict[str, Any]:
    section = content.get(key) if isinstance(content, dict) else None
    return section if isinstance(section, dict) else {}
