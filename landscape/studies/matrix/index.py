"""The index of a study: an HTML page with links to all reports and figures."""

from pathlib import Path

from landscape.escaping import html_text, link_target
from landscape.studies.matrix.links import GROUP_FIGURES, RUN_FIGURES, Links
from landscape.studies.matrix.tables import GEOMETRY, OUTCOMES, Group

__all__ = ["index_page"]

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Study of small networks</title>
<style>
body {{ font-family: sans-serif; margin: 2em; max-width: 75em; }}
table {{ border-collapse: collapse; }}
th, td {{ border-bottom: 1px solid #ccc; padding: 0.3em 0.8em; text-align: left; vertical-align: top; }}
</style>
</head>
<body>
<h1>Study of small networks</h1>
<ul>
{reports}
</ul>
<table>
<tr><th>group</th><th>{accuracy}</th><th>{largest}</th><th>figures</th></tr>
{rows}
</table>
</body>
</html>
"""


def _anchor(link: str) -> str:
    return f'<a href="{link_target(link)}">{Path(link).stem}</a>'


def index_page(groups: list[Group], names: list[str], links: Links) -> str:
    """The HTML text of the page.

    Args:
        groups: All groups of the study, one row each.
        names: File names of the reports, which lie beside the page.
        links: Links to the figures.
    """
    reports = "\n".join(f'<li><a href="{name}">{name}</a></li>' for name in names)
    accuracy, largest = OUTCOMES[0], GEOMETRY[0]
    rows = []
    for group in groups:
        places: list[tuple[str, str, tuple[str, ...]]] = [
            (f"seed {summary['seed']}", summary["place"], RUN_FIGURES) for summary, _ in group.runs
        ]
        places.append(("seeds together", group.place, GROUP_FIGURES))
        cells = [group.name, str(group.spread(accuracy)), str(group.spread(largest))]
        figures = "; ".join(
            f"{html_text(label)}: " + ", ".join(map(_anchor, targets))
            for label, place, files in places
            if (targets := links.to(place, files))
        )
        rows.append("".join(f"<td>{html_text(cell)}</td>" for cell in cells) + f"<td>{figures}</td>")
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return PAGE.format(reports=reports, accuracy=accuracy.label, largest=largest.label, rows=body)
