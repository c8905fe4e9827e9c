"""The trained runs below a folder, found by their summaries."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape.errors import InputError
from landscape.storage.forms import Optional
from landscape.storage.names import path_inside
from landscape.storage.recipe import difference
from landscape.storage.records import read_record, record_fault

__all__ = ["GROUP", "GROUP_FORM", "PROBES", "PROBES_FORM", "RUN_FORM", "SUMMARY", "StudyRun", "find_runs", "group_runs"]

SUMMARY, PROBES = "summary.json", "probes/probes.json"  # below the folder of a run
GROUP = "group/group.json"  # below the folder of a group
PATTERN = f"dataset=*/arch=*/act=*/opt=*/seed=*/{SUMMARY}"
NUMBER = Optional((int, float))  # None stands for a number that is not finite
RUN_FORM = {
    **dict.fromkeys(("place", "dataset", "architecture", "activation", "optimizer"), str),
    **dict.fromkeys(("depth", "width", "seed", "parameters"), int),
    "final": {f"{split}_{name}": NUMBER for split in ("train", "test") for name in ("loss", "accuracy")},
    "recipe": {"training": dict},
    "checkpoints": {str: str},
    "trained_together": Optional([str]),
}

PROBES_FORM = {
    "failed": Optional(str),
    "interpolation": Optional({"value": NUMBER, "monotone": Optional(bool)}),
    "random_rise": Optional({str: NUMBER}),
    "curvature": Optional({"largest_eigenvalue": NUMBER, "trace": NUMBER}),
    "sharpness": Optional({str: {"value": NUMBER}}),
}
GROUP_FORM = {
    "failed": Optional(str),
    "pairs": [{"seeds": Optional([int]), **{way: {"value": NUMBER} for way in ("line", "aligned", "curve")}}],
    "paths": {str: {"paths": [str], "explained_variance": [(int, float)]}},
}


@dataclass(frozen=True)
class StudyRun:
    """One trained network of a study."""

    root: Path  # folder of all experiments
    summary: dict[str, Any]  # content of summary.json

    @property
    def place(self) -> str:
        """The folder of the run, relative to the root."""
        return str(self.summary["place"])

    @property
    def group(self) -> str:
        """The folder of the runs that differ from this one only in the seed, relative to the root."""
        return self.place.rpartition("/")[0]

    @property
    def settings(self) -> dict[str, Any]:
        """All settings except the seed."""
        recipe = self.summary["recipe"]
        return {**recipe, "training": {key: value for key, value in recipe["training"].items() if key != "seed"}}

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of every checkpoint by its path relative to the folder of the run, in the order of epochs."""
        return {name: self.summary["files"].get(name) for name in self.summary["checkpoints"].values()}

    def check(self) -> None:
        """Raise InputError if training diverged."""
        if self.summary["final"]["train_loss"] is None:
            raise InputError(f"the loss of the trained network ({self.place}) is not finite; lower the learning rate")

    def path(self, name: str) -> Path:
        """The path of the file ``name`` of the run."""
        return self.root / self.place / name


def find_runs(root: Path) -> tuple[list[StudyRun], dict[str, str]]:
    """The complete runs below ``root``, largest networks first, and the folders that are left out, with the reason.

    Incomplete runs are left out, and runs whose settings differ from those of the first seed of their group.

    Raises:
        InputError: There is no complete run.
    """
    runs: list[StudyRun] = []
    left_out: dict[str, str] = {}
    settings: dict[str, dict[str, Any]] = {}
    for path in sorted(root.glob(PATTERN)):
        place, record = path.parent.relative_to(root).as_posix(), read_record(path, RUN_FORM)
        if (
            record is None
            or record["place"] != place
            or not _names_checkpoints(record, path.parent)
            or record_fault(path)
        ):
            left_out[place] = "incomplete; train it again with run_full_matrix.py"
            continue
        run = StudyRun(root, record)
        if reason := difference(run.settings, settings.setdefault(run.group, run.settings)):
            left_out[place] = f"its settings differ from those of the first seed of its group: {reason}"
        else:
            runs.append(run)
    if not runs:
        raise InputError(f"{root} holds no trained run; train some with run_full_matrix.py, or give another folder")
    return sorted(runs, key=lambda run: -run.summary["parameters"]), left_out


def _names_checkpoints(record: dict[str, Any], folder: Path) -> bool:
    """Whether the record names at least one checkpoint, and only checkpoints in the ``folder`` of the run."""
    with contextlib.suppress(InputError):
        return bool([path_inside(folder, name) for name in record["checkpoints"].values()])
    return False


def group_runs(runs: Sequence[StudyRun]) -> dict[str, list[StudyRun]]:
    """The runs of each group, sorted by seed; groups are in the order of their first run in ``runs``."""
    groups: dict[str, list[StudyRun]] = {}
    for run in sorted(runs, key=lambda run: run.summary["seed"]):
        groups.setdefault(run.group, []).append(run)
    return {group: groups[group] for group in dict.fromkeys(run.group for run in runs)}
