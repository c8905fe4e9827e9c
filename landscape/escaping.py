"""Text from outside, made safe for where it goes: one function for each border."""

import html
import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import quote

__all__ = [
    "html_text",
    "is_text",
    "legend_text",
    "link_target",
    "markdown_text",
    "math_free",
    "one_line",
    "printable",
    "script_json",
]

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
# Everything that begins something in Markdown, as HTML would write it: tables, links, code and formulas stay whole.
MARKUP = {ord(character): f"&#{ord(character)};" for character in "\\`*[]|~$#@<>"} | {ord("&"): "&amp;"}

OUTER_UNDERSCORES = re.compile(r"(?<![^\W_])(?<!_)_+(?!_)|(?<!_)_+(?!_)(?![^\W_])")


def is_text(text: str) -> bool:
    """Whether ``text`` has a form in UTF-8, which names of files that cannot be decoded have not."""
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def printable(text: str) -> str:
    """``text`` with a mark for every character that cannot be shown or stored; line breaks stay."""
    text = text.replace("\t", " ")
    return "".join(UNKNOWN if c != "\n" and unicodedata.category(c) in ("Cc", "Cs") else c for c in text)


def one_line(text: str) -> str:
    """``text`` for a message of one line, with escapes for characters that cannot be printed."""
    shown = (c if c.isprintable() or c.isspace() else c.encode("unicode_escape").decode() for c in text)
    return " ".join("".join(shown).split())


def math_free(text: object) -> str:
    """``text`` for a figure, where a pair of dollars would begin a formula."""
    return printable(str(text)).replace("$", r"\$")


def legend_text(text: object) -> str:
    """``text`` for a legend, which leaves out what is empty or begins with an underscore."""
    text = math_free(text)
    return f" {text}" if text.startswith("_") or not text else text


def html_text(text: object) -> str:
    """``text`` for an element or an attribute of a page."""
    return html.escape(printable(str(text)))


def script_json(content: dict[str, Any]) -> str:
    """JSON inside a script element that no text in it can end."""
    return json.dumps(content, allow_nan=False).replace("<", "\\u003c")


def markdown_text(text: object) -> str:
    """``text`` inside a paragraph, a heading, a list item or a table cell of Markdown, as one line."""
    text = " ".join(printable(str(text)).split()).translate(MARKUP)
    text = OUTER_UNDERSCORES.sub(lambda found: "&#95;" * len(found[0]), text)  # within a word they stand for themselves
    return re.sub(r"(?i)\b(www)\.|:(?=//)", lambda found: f"{found[1]}&#46;" if found[1] else "&#58;", text)


def link_target(path: str | Path) -> str:
    """The address of the file at a relative ``path``, for a link in HTML or Markdown."""
    return quote(os.fsencode(Path(path).as_posix()), safe="/=,+")
