"""JSON files that are read again: with a digest of their content, and of a known form."""

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

DIGITS = 64  # of a digest


def write_sealed(path: Path, content: dict[str, Any]) -> Path:
    """Write ``content`` with its digest to ``path``, whole or not at all."""
    return write_json(path, {**content, DIGEST: digest_of(content)})


def read_json(path: Path, form: object, what: str, way_out: str) -> dict[str, Any]:
    """What `write_sealed` wrote to ``path``, without the digest; also a file without one, of an earlier version.

    Raises:
        InputError: the file is missing, damaged or edited, or its content lacks ``form``.
    """
    content = parsed(file_content(path, what, way_out), f"{path} holds no {what}, or is damaged", way_out)
    if not _is_intact(content):
        raise InputError(f"{path} holds no {what}, or is damaged or edited (its digest differs); {way_out}")
    if fault := form_fault(content, form):
        raise InputError(f"{path} holds no {what}, or is damaged: {one_line(fault)[:200]}; {way_out}")
    checked: dict[str, Any] = content
    return checked


def _is_intact(content: object) -> bool:
    """Whether ``content``, from which its digest is taken, has that digest; also where there never was one."""
    if not isinstance(content, dict):
        return True
    if DIGEST in content:
        return bool(content.pop(DIGEST) == digest_of(content))
    # Without one, no entry may be that of another name: damage may have hit the name.
    return not any(isinstance(entry, str) and len(entry) == DIGITS for entry in content.values())


def parsed(text: str | bytes, problem: str, way_out: str) -> Any:
    """The value of a JSON ``text``.

    Raises:
        InputError: it has none, or one that is too deep or too large; the message begins with ``problem``.
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
