"""The Markdown that all benchmarks write: the head of a page, and tables."""

from collections.abc import Iterable, Sequence

__all__ = ["head", "table"]


def head(title: str, results: dict, text: str = "") -> str:
    """The title, what a quick run means, and where the numbers were measured, followed by ``text``."""
    environment = results["environment"]
    quick = ["**A quick look: these numbers mean nothing.**"] if results.get("quick") else []
    measured = (
        f"{environment['date']}, commit {environment['commit']}, {environment['cpu']}, {environment['cores']} cores, "
        f"torch {environment['versions']['torch']}. {text}"
    )
    return "\n\n".join([f"# {title}", *quick, measured.rstrip()])


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A row of titles, and ``rows`` of cells, whose bars are escaped."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
