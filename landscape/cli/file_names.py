"""Names of result files, chosen so that results of one network never replace those of another."""

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
    """The end of the names of files that belong to a kind of model; empty for the linear model."""
    return SUFFIXES.get(model_name, f"_{plain_name(model_name)}")


def checkpoint_suffix(
    out: Path, checkpoint: Checkpoint, pattern: str, owner: Callable[[Path], str | None], *, force: bool = False
) -> str:
    """The end of the names of the files of ``checkpoint`` in ``out``.

    It is that of its model; if another checkpoint has such files, the name of the checkpoint is appended.

    Args:
        out: Folder of the results.
        checkpoint: The checkpoint of the results.
        pattern: Name of one of the files, with {} in place of the suffix.
        owner: Function that returns the SHA-256 of the checkpoint to which a file belongs.
        force: Replace results of another checkpoint.
    """
    plain, stem = result_suffix(checkpoint.model_name), plain_name(checkpoint.path.stem)
    suffixes = [plain, f"{plain}_{stem}", f"{plain}_{stem}_{checkpoint.sha256[:8]}"]
    return own_suffix(
        suffixes, lambda suffix: file_owner(out / pattern.format(suffix), owner), checkpoint.sha256, force=force
    )


def comparison_label(out: Path, view: str, checkpoints: Sequence[Checkpoint], *, force: bool = False) -> str:
    """The label of the figures and the table of ``checkpoints`` in ``out``.

    It is ``view``; if other checkpoints have that label, the names of the checkpoints are appended.
    """
    key = " ".join(sorted(checkpoint.sha256 for checkpoint in checkpoints))
    names = plain_name("_".join(checkpoint.path.stem for checkpoint in checkpoints))[:60]
    longer = [f"{view}_{names}", f"{view}_{names}_{hashlib.sha256(key.encode()).hexdigest()[:8]}"]
    return own_suffix(
        [view, *longer], lambda label: file_owner(out / f"comparison_{label}.json", owners_in_json), key, force=force
    )


def own_suffix(suffixes: Sequence[str], owner: Callable[[str], str | None], mine: str, *, force: bool) -> str:
    """The first of ``suffixes`` whose results belong to ``mine``, or else the first one without results.

    With ``force`` the results of others under the first suffix are replaced; if all suffixes are in use, those under
    the last one are.

    Args:
        suffixes: Possible ends of file names, from the shortest to one that no other owner has.
        owner: Function that returns the owner of the results with a suffix; None if there are none.
        mine: The owner for which a suffix is chosen.
        force: Replace results of others.
    """
    owners = ranks.from_first(lambda: {suffix: owner(suffix) for suffix in suffixes})
    if existing := [suffix for suffix, who in owners.items() if who == mine]:
        return existing[0]
    if force:
        return suffixes[0]
    chosen = next((suffix for suffix, who in owners.items() if who is None), suffixes[-1])
    if chosen != suffixes[0]:
        print(
            f"The results here belong to another network and are not replaced; names of the new ones end in {chosen}",
            flush=True,
        )
    return chosen


def file_owner(path: Path, owner: Callable[[Path], str | None]) -> str | None:
    """The owner of the file at ``path``: None if there is no file, "" if the file does not name it."""
    return (owner(path) or "") if path.exists() else None


def owner_in_npz(path: Path) -> str | None:
    """The SHA-256 of the checkpoint of the surface at ``path``; None if it does not name one."""
    return _section(Surface.load(path).metadata, "checkpoint").get("sha256")


def owners_in_json(path: Path) -> str | None:
    """The SHA-256 of the checkpoint, or of all checkpoints, of the record at ``path``; None if it cannot be read."""
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
