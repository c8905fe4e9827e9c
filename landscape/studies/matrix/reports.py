"""Reports in Markdown and an index in HTML, from the records of a study alone: equal numbers give equal bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from landscape.results import SHARPNESS_CAUTION
from landscape.storage.files import make_folder, written_whole
from landscape.studies.kit.blocks import Block, Bullets, Heading, Paragraph, Table, as_markdown, listed
from landscape.studies.kit.statistics import compare, rank_correlation
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

BARRIER = (
    "The barrier is the largest rise of the training loss above the straight line between the losses of both ends, "
    "over the points of a grid (Frankle et al. 2020)."
)
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
    contents = {"summary.md": _summary(groups, left_out, links)}
    contents |= {name: factor_study(groups, factor, links) for name, factor in FACTORS.items()}
    contents["connectivity_study.md"] = _connectivity_study(groups, links)
    texts = {name: as_markdown(blocks) for name, blocks in contents.items()}
    texts["index.html"] = index_page(groups, contents, links)
    paths = []
    for name, text in texts.items():
        with written_whole(reports / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        paths.append(reports / name)
    return paths


def _summary(groups: list[Group], left_out: dict[str, str], links: Links) -> list[Block]:
    runs = sum(len(group.runs) for group in groups)
    lost = {summary["place"]: _why(probes) for group in groups for summary, probes in group.runs}
    return [
        *(Heading("Summary", 1), Paragraph(f"{runs} networks in {len(groups)} groups of seeds.")),
        Paragraph(MEANS),
        *listed("Left out", [f"{place}: {reason}" for place, reason in left_out.items()]),
        *listed("Not measured, or not all of it", [f"{place}: {why}" for place, why in lost.items() if why]),
        *listed("Settings", _settings(groups)),
        *(Heading("Training and generalisation"), group_table(groups, OUTCOMES)),
        Heading("Geometry of the training loss at the trained networks"),
        group_table(groups, geometry_of(groups)),
        *_probe_notes(groups),
        *(Heading("Geometry and generalisation"), _correlations(groups), Paragraph(CORRELATION_CAUTION)),
        *(Heading("Figures"), *links.first_figures(groups[:1])),
    ]


def _why(probes: dict[str, Any]) -> str | None:
    """Why a run is not measured completely; None if it is."""
    return probes.get("failed") if probes else "there are no probes; run run_probes_and_reports.py again"


def _settings(groups: list[Group]) -> list[str]:
    """The settings of the training, with the number of groups that share them."""
    counts: dict[tuple[Any, ...], int] = {}
    for group in groups:
        key = tuple((k, str(v)) for k, v in group.settings("momentum").items())
        counts[key] = counts.get(key, 0) + 1
    return [f"{count} groups: " + ", ".join(f"{k} {v}" for k, v in key) for key, count in counts.items()]


def _probe_notes(groups: list[Group]) -> list[Block]:
    """Numbers of networks whose loss falls monotonically from the initial one, and whose estimates have converged."""
    probes = [probes for group in groups for _, probes in group.runs if not _why(probes)]
    if not probes:
        return []
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
    return [Paragraph(" ".join(said))]


def _correlations(groups: list[Group]) -> Table:
    """Every measure of geometry against every one of generalisation, over the means of the groups."""
    chosen = [measure for measure in OUTCOMES if measure.label != "training loss"]
    rows = []
    for geometry in geometry_of(groups):
        for outcome in chosen:
            sides = ([mean_of(group, side) for group in groups] for side in (geometry, outcome))
            correlation = rank_correlation(*sides)
            rows.append([geometry.label, outcome.label, str(correlation), str(correlation.count), correlation.reading])
    return Table(["geometry", "generalisation", "rank correlation", "groups", "reading"], rows)


def _connectivity_study(groups: list[Group], links: Links) -> list[Block]:
    """Barriers between seeds by way, what alignment and curves change, and the figures of all groups."""
    pairs = [group for group in groups if group.record.get("pairs")]
    blocks: list[Block] = [
        Heading("Connectivity between seeds, and their paths", 1),
        Paragraph(BARRIER),
        *listed("Skipped, as they have fewer than two seeds", [group.name for group in groups if len(group.runs) < 2]),
        *listed(
            "Not measured, or not all of it",
            [f"{group.name}: {group.record['failed']}" for group in groups if "failed" in group.record],
        ),
    ]
    if pairs:
        rows = [
            [group.name, str(len(group.record["pairs"])), *(str(group.barriers(way)) for way in WAYS)]
            for group in pairs
        ]
        blocks += [Heading("Barriers"), Paragraph("Mean ± standard deviation over the pairs of seeds.")]
        blocks += [Table(["group", "pairs", *WAYS.values()], rows)]
        blocks += [Heading("Readings"), Paragraph(PAIRED), Bullets(_way_readings(pairs))]
    return [*blocks, Heading("Figures"), *(block for group in groups for block in _group_figures(group, links))]


def _way_readings(groups: list[Group]) -> list[str]:
    """How the barriers of alignment and of curves compare with those of the straight lines."""
    lines = []
    for way in ("aligned", "curve"):
        values = [(group.barriers("line").mean, group.barriers(way).mean) for group in groups]
        said = compare(f"the {WAYS['line']}", f"the {WAYS[way]}", values)
        lines.append(f"Barrier of the {WAYS[way]} against that of the {WAYS['line']}: {said}.")
    return lines


def _group_figures(group: Group, links: Links) -> list[Block]:
    """What the PCA planes of a group hold, and its figures."""
    lines = [
        f"PCA plane of the checkpoints, {title}: {first:.1%} and {second:.1%} of their variance; off the plane by up "
        f"to {path['share_off_plane']:.1%} of the largest distance from its origin."
        for title, path in group.record.get("paths", {}).items()
        for first, second in [path["explained_variance"]]
    ]
    return [Heading(group.name, 3), Bullets(lines), links.images(group.name, group.place, GROUP_FIGURES)]
