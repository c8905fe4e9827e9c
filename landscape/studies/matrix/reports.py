"""Reports in Markdown and an index in HTML, from the records of a study alone: equal numbers give equal bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from landscape.escaping import markdown_text
from landscape.results import SHARPNESS_CAUTION
from landscape.storage.files import make_folder, written_whole
from landscape.studies.kit.statistics import compare, rank_correlation
from landscape.studies.kit.tables import markdown_table, report_text, section
from landscape.studies.matrix.factors import FACTORS, MEANS, TEST, factor_study
from landscape.studies.matrix.index import index_page
from landscape.studies.matrix.links import GROUP_FIGURES, Links
from landscape.studies.matrix.runs import StudyRun
from landscape.studies.matrix.tables import (
    OUTCOMES,
    WAYS,
    Group,
    collect_groups,
    geometry_of,
    group_table,
    mean_of,
)

__all__ = ["write_reports"]

PAIRED = f"Two ways are compared over the groups, {TEST.replace('seeds', 'pairs of seeds')}"
CORRELATION_CAUTION = (
    "Spearman's rank correlation over the means of the groups, with a 95 % interval (standard error of Bonett and "
    "Wright 2000). Groups are not independent draws: they share data, architectures and optimizers, each of which may "
    "move geometry and generalisation alike, and many pairs are tested. A correlation here is no cause. "
    f"{SHARPNESS_CAUTION}"
)


def write_reports(runs: Sequence[StudyRun], left_out: dict[str, str], figures: Path, reports: Path) -> list[Path]:
    """Write summary.md, a study of every factor, connectivity_study.md and index.html into ``reports``.

    Args:
        runs: The runs whose records are reported.
        left_out: Places of runs that are not, and why.
        figures: Folder of the figures, which are linked where they are.
        reports: Made where it is missing.
    """
    reports, groups = make_folder(reports), collect_groups(runs)
    links = Links(figures, reports)
    texts = {"summary.md": _summary(groups, left_out, links)}
    texts |= {name: factor_study(groups, factor, links) for name, factor in FACTORS.items()}
    texts["connectivity_study.md"] = _connectivity_study(groups, links)
    texts["index.html"] = index_page(groups, list(texts), links)
    paths = []
    for name, text in texts.items():
        with written_whole(reports / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        paths.append(reports / name)
    return paths


def _summary(groups: list[Group], left_out: dict[str, str], links: Links) -> str:
    runs = sum(len(group.runs) for group in groups)
    lost = {summary["place"]: _why(probes) for group in groups for summary, probes in group.runs}
    parts = [
        f"# Summary\n\n{runs} networks in {len(groups)} groups of seeds.",
        MEANS,
        section("Left out", [f"{place}: {reason}" for place, reason in left_out.items()]),
        section("Not measured, or not all of it", [f"{place}: {why}" for place, why in lost.items() if why]),
        _settings(groups),
        "## Training and generalisation\n\n" + group_table(groups, OUTCOMES),
        "## Geometry of the training loss at the trained networks\n\n" + group_table(groups, geometry_of(groups)),
        _probe_notes(groups),
        "## Geometry and generalisation\n\n" + _correlations(groups) + "\n\n" + CORRELATION_CAUTION,
        "## Figures\n\n" + links.first_figures(groups[:1]),
    ]
    return report_text(parts)


def _why(probes: dict[str, Any]) -> str | None:
    """Why a run is not measured completely; None if it is."""
    return probes.get("failed") if probes else "there are no probes; run run_probes_and_reports.py again"


def _settings(groups: list[Group]) -> str:
    """The settings of the training, with the number of groups that share them."""
    counts: dict[tuple[Any, ...], int] = {}
    for group in groups:
        key = tuple((k, str(v)) for k, v in group.settings("momentum").items())
        counts[key] = counts.get(key, 0) + 1
    lines = [f"{count} groups: " + ", ".join(f"{k} {v}" for k, v in key) for key, count in counts.items()]
    return section("Settings", lines)


def _probe_notes(groups: list[Group]) -> str:
    """Numbers of networks whose loss falls monotonically from the initial one, and whose estimates have converged."""
    probes = [probes for group in groups for _, probes in group.runs if not _why(probes)]
    if not probes:
        return ""
    counts = {
        "interpolation": sum(entry["interpolation"]["monotone"] for entry in probes),
        "eigenvalues": sum(entry["curvature"]["eigenvalues_converged"] for entry in probes),
        "trace": sum(entry["curvature"]["trace_converged"] for entry in probes),
    }
    said = [
        f"On the straight line from the initial to the trained network the training loss never rises from one grid "
        f"point to the next for {counts['interpolation']} of {len(probes)} networks.",
        f"The eigenvalues converged for {counts['eigenvalues']} of {len(probes)} networks, the trace reached the "
        f"standard error asked for at {counts['trace']}; the others are the best estimates of their budget.",
    ]
    return " ".join(said)


def _correlations(groups: list[Group]) -> str:
    """Every measure of geometry against every one of generalisation, over the means of the groups."""
    chosen = [measure for measure in OUTCOMES if measure.label != "training loss"]
    rows = []
    for geometry in geometry_of(groups):
        for outcome in chosen:
            sides = ([mean_of(group, side) for group in groups] for side in (geometry, outcome))
            correlation = rank_correlation(*sides)
            rows.append([geometry.label, outcome.label, str(correlation), str(correlation.count), correlation.reading])
    return markdown_table(["geometry", "generalisation", "rank correlation", "groups", "reading"], rows)


def _connectivity_study(groups: list[Group], links: Links) -> str:
    """Barriers between seeds by way, what alignment and curves change, and the figures of all groups."""
    pairs = [group for group in groups if group.record.get("pairs")]
    skipped = [group.name for group in groups if len(group.runs) < 2]
    failed = [f"{group.name}: {group.record['failed']}" for group in groups if "failed" in group.record]
    parts = [
        "# Connectivity between seeds, and their paths",
        "The barrier is the largest rise of the training loss above the straight line between the losses of both ends, "
        "over the points of a grid (Frankle et al. 2020).",
        section("Skipped, as they have fewer than two seeds", skipped),
        section("Not measured, or not all of it", failed),
    ]
    if pairs:
        rows = [
            [group.name, str(len(group.record["pairs"])), *(str(group.barriers(way)) for way in WAYS)]
            for group in pairs
        ]
        table = markdown_table(["group", "pairs", *WAYS.values()], rows)
        parts.append(f"## Barriers\n\nMean ± standard deviation over the pairs of seeds.\n\n{table}")
        parts.append(f"## Readings\n\n{PAIRED}\n\n" + "\n".join(_way_readings(pairs)))
    parts += ["## Figures", *(_group_figures(group, links) for group in groups)]
    return report_text(parts)


def _way_readings(groups: list[Group]) -> list[str]:
    """How the barriers of alignment and of curves compare with those of the straight lines."""
    lines = []
    for way in ("aligned", "curve"):
        values = [(group.barriers("line").mean, group.barriers(way).mean) for group in groups]
        said = compare(f"the {WAYS['line']}", f"the {WAYS[way]}", values)
        lines.append(f"- Barrier of the {WAYS[way]} against that of the {WAYS['line']}: {said}.")
    return lines


def _group_figures(group: Group, links: Links) -> str:
    """What the PCA planes of a group hold, and its figures."""
    lines = [
        f"- PCA plane of the checkpoints, {markdown_text(title)}: {first:.1%} and {second:.1%} of their variance; off "
        f"the plane by up to {path['share_off_plane']:.1%} of the largest distance from its origin."
        for title, path in group.record.get("paths", {}).items()
        for first, second in [path["explained_variance"]]
    ]
    parts = [f"### {markdown_text(group.name)}", "\n".join(lines), links.images(group.name, group.place, GROUP_FIGURES)]
    return "\n\n".join(filter(None, parts))
