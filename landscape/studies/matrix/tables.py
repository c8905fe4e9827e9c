"""Tables of the numbers of a study, from its JSON files: one row for each group of seeds, one column a measure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from landscape.storage.records import read_record
from landscape.studies.kit.blocks import Table
from landscape.studies.kit.statistics import Spread
from landscape.studies.matrix.runs import GROUP, GROUP_FORM, PROBES, PROBES_FORM, StudyRun, group_runs

__all__ = [
    "GEOMETRY",
    "OUTCOMES",
    "WAYS",
    "Group",
    "Measure",
    "collect_groups",
    "geometry_of",
    "group_table",
    "mean_of",
]

WAYS = {"line": "straight line", "aligned": "line after alignment", "curve": "Bezier curve"}


@dataclass(frozen=True)
class Measure:
    """A number that is known of every run.

    ``of(summary, probes)`` is its value; None if it is not finite or was not measured.
    """

    label: str
    of: Callable[[dict[str, Any], dict[str, Any]], float | None]


@dataclass(frozen=True)
class Group:
    """The runs of one configuration, which differ only in the seed.

    ``runs`` holds the summary and the probes of each seed; probes that failed are an empty dict.
    """

    place: str  # folder below the folder of all experiments
    runs: tuple[tuple[dict[str, Any], dict[str, Any]], ...]
    record: dict[str, Any]  # numbers of the group: pairs, paths

    def __getitem__(self, key: str) -> Any:
        """The value of a setting that all runs share.

        Settings are dataset, architecture, depth, width, activation, optimizer and parameters.
        """
        return self.runs[0][0][key]

    @property
    def name(self) -> str:
        return ", ".join(str(self[key]) for key in ("dataset", "architecture", "activation", "optimizer"))

    def settings(self, *without: str) -> dict[str, Any]:
        """Settings of data and training, except the seed and the settings ``without``."""
        recipe = self.runs[0][0]["recipe"]
        training = {key: value for key, value in recipe["training"].items() if key not in ("seed", *without)}
        return {"dataset": recipe.get("dataset"), **training}

    def spread(self, measure: Measure) -> Spread:
        """The values of ``measure`` over the seeds."""
        return Spread.of([measure.of(*run) for run in self.runs])

    def barriers(self, way: str) -> Spread:
        """The barriers between each pair of seeds on a way of `WAYS`."""
        return Spread.of([pair[way]["value"] for pair in self.record.get("pairs", [])])


def _final(key: str) -> Callable[[dict[str, Any], dict[str, Any]], float | None]:
    return lambda summary, _: summary["final"][key]


def _gap(summary: dict[str, Any], _: dict[str, Any]) -> float | None:
    test, train = (summary["final"][f"{split}_loss"] for split in ("test", "train"))
    return None if test is None or train is None else test - train


def _probe(*keys: str) -> Callable[[dict[str, Any], dict[str, Any]], float | None]:
    def find(_: dict[str, Any], probes: dict[str, Any]) -> float | None:
        value: Any = probes
        for key in keys:
            value = (value or {}).get(key)
        number: float | None = value
        return number

    return find


OUTCOMES = [
    Measure("test accuracy", _final("test_accuracy")),
    Measure("test loss", _final("test_loss")),
    Measure("training loss", _final("train_loss")),
    Measure("test loss - training loss", _gap),
]
GEOMETRY = [
    Measure("largest eigenvalue", _probe("curvature", "largest_eigenvalue")),
    Measure("trace", _probe("curvature", "trace")),
    Measure("rise on the random plane", _probe("random_rise", "random_plane")),
    Measure("barrier from the initial network", _probe("interpolation", "value")),
]


def geometry_of(groups: Sequence[Group]) -> list[Measure]:
    """The measures of geometry, with all measures of sharpness that any of ``groups`` has."""
    probes = [probes for group in groups for _, probes in group.runs]
    names = dict.fromkeys(name for entry in probes for name in entry.get("sharpness", {}))
    return [*GEOMETRY, *(Measure(f"{name} sharpness", _probe("sharpness", name, "value")) for name in names)]


def collect_groups(runs: Sequence[StudyRun]) -> list[Group]:
    """All groups of ``runs`` with their numbers, sorted by data set, size, activation and optimizer."""
    groups = []
    for place, members in group_runs(runs).items():
        records = [(run.summary, read_record(run.path(PROBES), PROBES_FORM) or {}) for run in members]
        groups.append(Group(place, tuple(records), read_record(members[0].root / place / GROUP, GROUP_FORM) or {}))
    keys = ("dataset", "depth", "width", "activation", "optimizer")
    return sorted(groups, key=lambda group: [group[key] for key in keys])


def group_table(groups: Sequence[Group], measures: Sequence[Measure]) -> Table:
    """A table of ``measures``, mean ± standard deviation over seeds, with one row for each group."""
    head = ["data set", "architecture", "layers x units", "activation", "optimizer", "seeds"]
    rows = [
        [
            group["dataset"], group["architecture"], f"{group['depth']} x {group['width']}", group["activation"],
            group["optimizer"], str(len(group.runs)), *(str(group.spread(measure)) for measure in measures),
        ]
        for group in groups
    ]  # fmt: skip
    return Table([*head, *(measure.label for measure in measures)], rows)


def mean_of(group: Group, measure: Measure) -> float:
    """The mean of ``measure`` over the seeds; NaN if no value is finite."""
    spread = group.spread(measure)
    return spread.mean if spread.values else math.nan
