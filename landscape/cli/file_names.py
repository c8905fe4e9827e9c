"""What the files of results are called, so that those of one network never replace those of another."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from landscape.errors import InputError
from landscape.results import Surface
from landscape.runtime import ranks
from landscape.storage.files import plain_name
from landscape.storage.json_files import read_json
from landscape.training.checkpoints import Checkpoint

__all__ = [
    "checkpoint_suffix",
    "comparison_label",
    "file_owner",
    "own_suffix",
    "owner_in_npz",
    "owners_in_json",
    "result_suffix",
]

SUFFIXES = {"linear-mnist": "", "tiny-cnn": "_cifar10"}


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


def comparison_label(out: Path, view: str, checkpoints: Sequence[Checkpoint], *, force: bool = False) -> str:
    """What the figures and the table of ``checkpoints`` in ``out`` are called: ``view``, and names if it is taken."""
    key = " ".join(sorted(checkpoint.sha256 for checkpoint in checkpoints))
    names = plain_name("_".join(checkpoint.path.stem for checkpoint in checkpoints))[:60]
    longer = [f"{view}_{names}", f"{view}_{names}_{hashlib.sha256(key.encode()).hexdigest()[:8]}"]
    return own_suffix(
        [view, *longer], lambda label: file_owner(out / f"comparison_{label}.json", owners_in_json), key, force=force
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
    if own := [suffix for suffix, who in owners.items() if who == mine]:
        return own[0]
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
