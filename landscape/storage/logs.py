"""Writing text and JSON files, such as the logs and records of scripts."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from landscape.storage.files import written_whole
from landscape.storage.numbers import plain_number

__all__ = ["write_json", "write_log", "write_text"]

ENCODING = {"encoding": "utf-8", "errors": "backslashreplace"}  # file names may contain bytes that are not text


def write_log(path: str | Path, sections: dict[str, str]) -> Path:
    """Write the command line, the time and ``sections`` (title -> text) to ``path``."""
    path = Path(path)
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    parts = [f"command: {' '.join(sys.argv)}\ntime: {now}"]
    parts += [f"{title}\n{'-' * len(title)}\n{text}" for title, text in sections.items()]
    with written_whole(path) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", **ENCODING)
    return path


def write_json(path: str | Path, content: dict[str, Any]) -> Path:
    """Write ``content`` to ``path`` as indented JSON."""
    path = Path(path)
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=plain_number) + "\n", encoding="utf-8")
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` to ``path``."""
    path = Path(path)
    with written_whole(path) as temporary:
        temporary.write_text(text, **ENCODING)
    return path
