"""The index of a study: an HTML page of all groups, reports and figures, which works offline."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from landscape.escaping import html_text
from landscape.studies import kit
from landscape.studies.kit.blocks import Block, Heading, Images, Table, as_html
from landscape.studies.matrix.links import GROUP_FIGURES, RUN_FIGURES, Links
from landscape.studies.matrix.tables import GEOMETRY, OUTCOMES, Group

__all__ = ["index_page"]

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' file:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Study of small networks</title>
<style>
{style}</style>
</head>
<body>
<h1>Study of small networks</h1>
<section>
<h2>Groups of seeds</h2>
{groups}
{figures}
</section>
{reports}
<script>
{script}</script>
</body>
</html>
"""


def index_page(groups: Sequence[Group], reports: Mapping[str, Sequence[Block]], links: Links) -> str:
    """The HTML text of the page: a table of all groups, their figures, and every report.

    Args:
        groups: All groups of the study, one row each.
        reports: File name of each report, which lies beside the page, and its blocks, the first of them its title.
        links: Links to the figures.
    """
    columns = [OUTCOMES[0], *GEOMETRY[:2]]
    rows = [[group.name, *(str(group.spread(measure)) for measure in columns)] for group in groups]
    return PAGE.format(
        style=_page_file("style.css"),
        script=_page_file("tables.js"),
        groups=as_html([Table(["group", *(measure.label for measure in columns)], rows)]),
        figures="\n".join(filter(None, (_figures(group, links) for group in groups))),
        reports="\n".join(_report(*entry, is_open=n == 0) for n, entry in enumerate(reports.items())),
    )


def _figures(group: Group, links: Links) -> str:
    """The figures of all seeds of a group, which unfold below its name."""
    places: list[tuple[str, str, tuple[str, ...]]] = [
        (f"seed {summary['seed']}", summary["place"], RUN_FIGURES) for summary, _ in group.runs
    ]
    places.append(("seeds together", group.place, GROUP_FIGURES))
    figures = [
        (f"{label}: {Path(link).stem}", link) for label, place, names in places for link in links.to(place, names)
    ]
    if not figures:
        return ""
    return f"<details><summary>Figures of {html_text(group.name)}</summary>{as_html([Images(figures)])}</details>"


def _report(name: str, blocks: Sequence[Block], is_open: bool) -> str:
    """A report that unfolds below its title."""
    title, *rest = blocks
    heading = html_text(title.text if isinstance(title, Heading) else name)
    return (
        f"<details{' open' if is_open else ''}>\n<summary><h2>{heading}</h2></summary>\n"
        f'<p>As Markdown: <a href="{html_text(name)}">{html_text(name)}</a></p>\n{as_html(rest)}\n</details>'
    )


def _page_file(name: str) -> str:
    return (resources.files(kit) / "page" / name).read_text("utf-8")
