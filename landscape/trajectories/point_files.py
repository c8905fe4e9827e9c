"""The format of files of recorded points: a header, and one record of equal size for each point."""

import hashlib
import json
import math
import zlib
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from landscape.errors import InputError
from landscape.escaping import one_line
from landscape.points import Point
from landscape.storage.formats import foreign_format
from landscape.storage.forms import Optional, form_fault
from landscape.storage.json_files import parsed
from landscape.storage.reading import opened

__all__ = [
    "TYPES",
    "UNITS",
    "Unit",
    "checksum",
    "flat_values",
    "header",
    "packed",
    "read_header",
    "record_type",
    "same_header",
]

Unit = Literal["step", "epoch", "file"]  # what the numbers of the points count
UNITS = get_args(Unit)

MAGIC, EARLIER_MAGIC = b"landscape points 2\n", b"landscape points 1\n"  # the earlier format has no header digest
HEX, LONGEST_HEADER = 64, 2**26  # bytes of a digest, and of a header at most
LARGEST = 2**40  # number of parameters, at most
FORM = {
    "shapes": {str: [int]},
    "dtype": str,
    "unit": str,
    "notes": dict,
    "chosen": Optional({"parameters": [str], "rest": str}),  # only if not all parameters are recorded
}
TYPES = {torch.float16: "<f2", torch.float32: "<f4", torch.float64: "<f8"}


def header(layout: dict[str, Any]) -> bytes:
    """The header of a file with this ``layout``, see `FORM`, padded so that the records are aligned."""
    text = json.dumps(layout).encode()
    text += b" " * (-(len(MAGIC) + HEX + len(text) + 2) % 8)
    return MAGIC + hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n"


def read_header(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes of the header, and its content.

    Raises:
        InputError: the file cannot be read, or its header is missing, damaged or of an unknown form.
    """
    what, way_out = "file of recorded points", "record the run again, or use another file"
    problem = f"{path} is no {what}, or a damaged one"
    with opened(path, what, way_out) as file:
        head, text = file.readline(len(MAGIC)), file.readline(LONGEST_HEADER)
    if head not in (MAGIC, EARLIER_MAGIC) or not text.endswith(b"\n"):
        reason = foreign_format(head + text) if head != MAGIC and head != EARLIER_MAGIC else "its header is cut"
        raise InputError(f"{problem}: {reason or 'it does not begin as one'}; {way_out}")
    content = text[:-1]
    if head == MAGIC:
        digest, _, content = content.partition(b" ")
        if digest != hashlib.sha256(content).hexdigest().encode():
            raise InputError(f"{problem}: the digest of its header differs; {way_out}")
    layout: dict[str, Any] = parsed(content, problem, way_out)
    if fault := form_fault(layout, FORM) or _layout_fault(layout):
        raise InputError(f"{problem}: {one_line(fault)[:200]}; {way_out}")
    return head + text, layout


def _layout_fault(layout: dict[str, Any]) -> str | None:
    if layout["dtype"] not in TYPES.values():
        return f"its numbers are of type {layout['dtype']!r}, not one of {', '.join(TYPES.values())}"
    if layout["unit"] not in UNITS:
        return f"its unit is {layout['unit']!r}, none of {', '.join(UNITS)}"
    sizes = [math.prod(shape) for shape in layout["shapes"].values()]
    if any(number < 0 for shape in layout["shapes"].values() for number in shape) or not 0 < sum(sizes) < LARGEST:
        return "the shapes of its parameters are impossible"
    return None


def same_header(one: bytes, other: bytes) -> bool:
    """Whether two headers have the same content, in the present or the earlier format."""
    return _header_content(one) == _header_content(other)


def _header_content(head: bytes) -> bytes:
    text = head[len(MAGIC) :].strip()
    return text if head.startswith(EARLIER_MAGIC) else text[HEX:].strip()


def record_type(size: int, dtype: str) -> np.dtype:
    """The numpy type of the record of a point of ``size`` numbers of type ``dtype``."""
    return np.dtype([("step", "<i8"), ("loss", "<f8"), ("point", dtype, (size,)), ("checksum", "<u4")])


def packed(step: int, loss: float, flat: np.ndarray) -> bytes:
    """The bytes of one record: the step, the loss, the parameters ``flat`` [D] and their checksum."""
    record = np.zeros(1, record_type(flat.size, flat.dtype.str))
    record["step"], record["loss"], record["point"] = step, loss, flat
    record["checksum"] = checksum(record[0])
    return record.tobytes()


def checksum(record: np.void) -> int:
    """The CRC-32 checksum of a record without its last entry, which is where the checksum is stored."""
    return zlib.crc32(record.tobytes()[:-4])


def flat_values(point: Point, dtype: torch.dtype) -> np.ndarray:
    """All parameters as one vector [D] of type ``dtype``.

    Raises:
        InputError: a finite value is too large for ``dtype``.
    """
    pieces = []
    for name, value in point.items():
        piece = value.detach().flatten().to("cpu", dtype)
        if not torch.equal(piece.isfinite(), value.detach().flatten().isfinite().cpu()):
            raise InputError(f"parameter {name!r} is too large for {dtype}; record in torch.float32")
        pieces.append(piece)
    return torch.cat(pieces).numpy()
