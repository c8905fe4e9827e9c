"""JSON files with a digest of their content and a known form."""

import json
from pathlib import Path
from typing import Any

from landscape.errors import InputError
from landscape.escaping import one_line
from landscape.storage.digests import DIGEST, digest_of
from landscape.storage.forms import form_fault, is_bounded
from landscape.storage.logs import write_json
from landscape.storage.reading import file_content

__all__ = ["parsed", "read_json", "write_sealed"]

DIGITS = 64  # length of a digest


def write_sealed(path: Path, content: dict[str, Any]) -> Path:
    """Write ``content`` with its digest to ``path``, completely or not at all."""
    return write_json(path, {**content, DIGEST: digest_of(content)})


def read_json(path: Path, form: object, what: str, way_out: str) -> dict[str, Any]:
    """The content that `write_sealed` has written to ``path``, without its digest, which files of early versions lack.

    Raises:
        InputError: the file is missing, damaged or edited, or its content does not have ``form``.
    """
    content = parsed(file_content(path, what, way_out), f"{path} holds no {what}, or is damaged", way_out)
    if not _is_intact(content):
        raise InputError(f"{path} holds no {what}, or is damaged or edited (its digest differs); {way_out}")
    if fault := form_fault(content, form):
        raise InputError(f"{path} holds no {what}, or is damaged: {one_line(fault)[:200]}; {way_out}")
    checked: dict[str, Any] = content
    return checked


def _is_intact(content: object) -> bool:
    """Remove the digest from ``content`` and return whether it agrees with the rest; true if there was none."""
    if not isinstance(content, dict):
        return True
    if DIGEST in content:
        return bool(content.pop(DIGEST) == digest_of(content))
    # If the name of the digest was damaged, an entry of its length remains.
    return not any(isinstance(entry, str) and len(entry) == DIGITS for entry in content.values())


def parsed(text: str | bytes, problem: str, way_out: str) -> Any:
    """The value of a JSON ``text``.

    Raises:
        InputError: the text is not JSON, or its value is nested too deep or too large; the message begins with
            ``problem``.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise InputError(f"{problem}: it is nested too deep; {way_out}") from error
    except (ValueError, MemoryError) as error:  # UnicodeDecodeError is a ValueError
        raise InputError(f"{problem}: {one_line(str(error))[:200] or 'it is too large'}; {way_out}") from error
    if not is_bounded(value):
        raise InputError(f"{problem}: it is nested too deep, or too large; {way_out}")
    return value
