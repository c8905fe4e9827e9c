"""A report as blocks, which become Markdown or HTML with everything in them escaped."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from landscape.escaping import html_text, link_target, markdown_text
from landscape.studies.kit.tables import bullet_list, image, markdown_table, report_text

__all__ = ["Block", "Bullets", "Heading", "Images", "Paragraph", "Table", "as_html", "as_markdown", "listed"]


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2  # 1 is the title of the report


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Bullets:
    entries: Sequence[str]


@dataclass(frozen=True)
class Table:
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Images:
    figures: Sequence[tuple[str, str]]  # (caption, relative link) of each


Block = Heading | Paragraph | Bullets | Table | Images


def listed(title: str, entries: Sequence[str]) -> list[Block]:
    """A heading with a list; nothing without entries."""
    return [Heading(title), Bullets(entries)] if entries else []


def as_markdown(blocks: Iterable[Block]) -> str:
    """The text of a Markdown file; blocks without content are left out."""
    return report_text([_MARKDOWN[type(block)](block) for block in blocks])


def as_html(blocks: Iterable[Block]) -> str:
    """Elements for the body of an HTML page, whose own title is above that of the report."""
    return "\n".join(filter(None, (_HTML[type(block)](block) for block in blocks)))


def _html_table(block: Table) -> str:
    """A table that the script of the page sorts."""
    columns = "".join(f'<th scope="col">{html_text(text)}</th>' for text in block.head)
    rows = "\n".join(f"<tr>{''.join(f'<td>{html_text(cell)}</td>' for cell in row)}</tr>" for row in block.rows)
    return (
        f'<div class="table"><table class="sortable">\n<thead><tr>{columns}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _html_images(block: Images) -> str:
    """Figures with their captions, each a link to its file."""
    parts = [
        f'<figure><a href="{link_target(link)}"><img src="{link_target(link)}" alt="{html_text(caption)}" '
        f'loading="lazy"></a><figcaption>{html_text(caption)}</figcaption></figure>'
        for caption, link in block.figures
    ]
    return f'<div class="figures">{"".join(parts)}</div>' if parts else ""


def _html_list(block: Bullets) -> str:
    return f"<ul>{''.join(f'<li>{html_text(entry)}</li>' for entry in block.entries)}</ul>" if block.entries else ""


def _html_heading(block: Heading) -> str:
    return f"<h{block.level + 1}>{html_text(block.text)}</h{block.level + 1}>"


_MARKDOWN: dict[type, Callable[[Any], str]] = {
    Heading: lambda block: f"{'#' * block.level} {markdown_text(block.text)}",
    Paragraph: lambda block: markdown_text(block.text),
    Bullets: lambda block: bullet_list(block.entries),
    Table: lambda block: markdown_table(block.head, block.rows),
    Images: lambda block: "\n".join(image(*figure) for figure in block.figures),
}
_HTML: dict[type, Callable[[Any], str]] = {
    Heading: _html_heading,
    Paragraph: lambda block: f"<p>{html_text(block.text)}</p>",
    Bullets: _html_list,
    Table: _html_table,
    Images: _html_images,
}
