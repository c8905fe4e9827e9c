"""Escaping of text from outside for HTML, JSON, Markdown, figures and messages: one function for each."""

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
# Characters with a meaning in Markdown, as HTML entities, so that they cannot begin a table, link, code or formula.
MARKUP = {ord(character): f"&#{ord(character)};" for character in "\\`*[]|~$#@<>"} | {ord("&"): "&amp;"}

OUTER_UNDERSCORES = re.compile(r"(?<![^\W_])(?<!_)_+(?!_)|(?<!_)_+(?!_)(?![^\W_])")


def is_text(text: str) -> bool:
    """Whether ``text`` can be written in UTF-8; the names of files that cannot be decoded cannot."""
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def printable(text: str) -> str:
    """``text`` with every control character but line breaks replaced by the replacement character."""
    text = text.replace("\t", " ")
    return "".join(UNKNOWN if c != "\n" and unicodedata.category(c) in ("Cc", "Cs") else c for c in text)


def one_line(text: str) -> str:
    """``text`` in one line for a message; characters that cannot be printed are escaped."""
    characters = (c if c.isprintable() or c.isspace() else c.encode("unicode_escape").decode() for c in text)
    return " ".join("".join(characters).split())


def math_free(text: object) -> str:
    """``text`` for a figure of matplotlib, in which a pair of dollar signs would enclose a formula."""
    return printable(str(text)).replace("$", r"\$")


def legend_text(text: object) -> str:
    """``text`` for a legend of matplotlib, which would leave out an empty text or one that begins with "_"."""
    text = math_free(text)
    return f" {text}" if text.startswith("_") or not text else text


def html_text(text: object) -> str:
    """``text`` for the content or an attribute of an HTML element."""
    return html.escape(printable(str(text)))


def script_json(content: dict[str, Any]) -> str:
    """``content`` as JSON for a script element, which no text in it can close."""
    return json.dumps(content, allow_nan=False).replace("<", "\\u003c")


def markdown_text(text: object) -> str:
    """``text`` in one line for a paragraph, heading, list item or table cell of Markdown."""
    text = " ".join(printable(str(text)).split()).translate(MARKUP)
    text = OUTER_UNDERSCORES.sub(lambda match: "&#95;" * len(match[0]), text)  # inside a word they have no meaning
    return re.sub(r"(?i)\b(www)\.|:(?=//)", lambda match: f"{match[1]}&#46;" if match[1] else "&#58;", text)


def link_target(path: str | Path) -> str:
    """The URL of the file at a relative ``path``, for a link in HTML or Markdown."""
    return quote(os.fsencode(Path(path).as_posix()), safe="/=,+")
