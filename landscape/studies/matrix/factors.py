"""The effect of one setting with all others equal: comparisons of matched groups, with a statistical test."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from landscape.results import SHARPNESS_CAUTION
from landscape.studies.kit.blocks import Block, Heading, Paragraph, Table
from landscape.studies.kit.statistics import compare
from landscape.studies.matrix.links import Links
from landscape.studies.matrix.tables import OUTCOMES, Group, Measure, geometry_of, group_table, mean_of

__all__ = ["FACTORS", "MEANS", "TEST", "Factor", "factor_study"]

MEANS = "Numbers are mean ± standard deviation over the seeds of a group."
TEST = (
    'by their means over seeds and a sign test at the level of 5 %. "No clear difference" means that the test detects '
    "none, not that there is none; and one in twenty comparisons without any difference is still called different."
)
MATCHED = f"Two levels are compared over pairs of groups whose settings are equal except for this factor, {TEST}"


@dataclass(frozen=True)
class Factor:
    """A setting whose influence a report studies."""

    key: str
    title: str
    fixed: tuple[str, ...]  # settings that compared groups share
    compared: str  # a phrase of the report for the compared networks


FACTORS = {
    "depth_study.md": Factor(
        "depth", "Depth", ("dataset", "width", "activation", "optimizer"), "networks of the same width"
    ),
    "width_study.md": Factor(
        "width", "Width", ("dataset", "depth", "activation", "optimizer"), "networks of the same depth"
    ),
    "activation_study.md": Factor(
        "activation", "Activation", ("dataset", "architecture", "optimizer"), "networks of the same architecture"
    ),
    "optimizer_study.md": Factor(
        "optimizer", "Optimizer", ("dataset", "architecture", "activation"), "networks of the same architecture"
    ),
}


def factor_study(groups: list[Group], factor: Factor, links: Links) -> list[Block]:
    """The report on one factor: tables of all matched groups, comparisons of levels, and some figures."""
    matches = _matches(groups, factor)
    compared = f"Compared are {factor.compared} with different {factor.key}, all else equal."
    head: list[Block] = [Heading(factor.title, 1), Paragraph(compared)]
    if not matches:
        nothing = f"There are no two groups that differ in the {factor.key} alone, so nothing is compared."
        return [*head, Paragraph(nothing)]
    members = [group for match in matches for group in match]
    measures = [*OUTCOMES, *geometry_of(groups)]
    return [
        *head,
        Paragraph(MEANS),
        *(Heading("Numbers"), group_table(members, OUTCOMES), group_table(members, geometry_of(groups))),
        *(Heading("Comparisons"), Paragraph(MATCHED), _comparisons(matches, factor, measures)),
        Paragraph(SHARPNESS_CAUTION),
        *(Heading("Figures"), *links.first_figures(matches[0])),
    ]


def _matches(groups: list[Group], factor: Factor) -> list[list[Group]]:
    """Sets of two or more groups that differ only in the factor; momentum belongs to the optimizer."""
    matches: dict[tuple[Any, ...], list[Group]] = {}
    without = ("optimizer", "momentum") if factor.key == "optimizer" else ()
    for group in groups:
        same = (*(group[key] for key in factor.fixed), str(group.settings(*without)))
        matches.setdefault(same, []).append(group)
    return [match for match in matches.values() if len({group[factor.key] for group in match}) > 1]


def _comparisons(matches: list[list[Group]], factor: Factor, measures: Sequence[Measure]) -> Table:
    pairs: dict[tuple[Any, ...], list[tuple[Group, Group]]] = {}
    for match in matches:
        for first, second in combinations(match, 2):
            pairs.setdefault((first[factor.key], second[factor.key]), []).append((first, second))
    rows = []
    for (first, second), members in sorted(pairs.items(), key=lambda pair: str(pair[0])):
        for measure in measures:
            values = [(mean_of(a, measure), mean_of(b, measure)) for a, b in members]
            names = (f"{factor.key} {first}", f"{factor.key} {second}")
            rows.append([*map(str, (first, second)), measure.label, compare(*names, values)])
    return Table([factor.key, "against", "measure", "reading"], rows)
