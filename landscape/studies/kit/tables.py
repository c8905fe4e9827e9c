"""Tables, lists and figures of reports in Markdown, with everything in them escaped."""

from collections.abc import Mapping, Sequence

from landscape.escaping import link_target, markdown_text

__all__ = ["bullet_list", "image", "markdown_table", "report_text", "section"]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, one row a line."""
    head, *rows = ([markdown_text(cell) for cell in line] for line in (head, *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def bullet_list(entries: Sequence[str] | Mapping[str, str]) -> str:
    """One line for every entry; those of a mapping begin with their names."""
    lines = [f"{name}: {text}" for name, text in entries.items()] if isinstance(entries, Mapping) else entries
    return "\n".join(f"- {markdown_text(line)}" for line in lines)


def section(title: str, entries: Sequence[str] | Mapping[str, str]) -> str:
    """A heading with a list; nothing without entries."""
    return f"## {title}\n\n{bullet_list(entries)}" if entries else ""


def image(caption: str, link: str) -> str:
    """The figure at the relative path ``link``."""
    return f"![{markdown_text(caption)}]({link_target(link)})"


def report_text(parts: Sequence[str]) -> str:
    """The parts that are not empty, one after the other."""
    return "\n\n".join(filter(None, parts)) + "\n"
