"""Weights in archives of torch.export; the program beside them is neither read nor run.

Loading such an archive with torch may unpickle objects and evaluate text in it, so only its tables of weights (JSON)
and their bytes are read here.
"""

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.escaping import one_line

__all__ = ["is_export_archive", "read_export_archive"]

TABLE = "_weights_config.json"  # the table of one program; the bytes of its weights are in the same folder
WHOLE = "serialized_state_dict.pt"  # in archives of torch before 2.8: a state dict as torch.save writes it
# The numbers by which the tables name types, see ScalarType in torch/_export/serde/schema.py.
DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip


def is_export_archive(content: bytes) -> bool:
    """Whether ``content`` is an archive of torch.export."""
    return any(name.endswith((TABLE, WHOLE)) for name in _names(content))


def read_export_archive(content: bytes, path: Path) -> dict[str, Tensor]:
    """The weights, parameters and buffers, in an archive of torch.export, by the names that the network gave them.

    Raises:
        InputError: the archive is damaged, holds several programs, or weights that are objects of classes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            names = file.namelist()
            if whole := [name for name in names if name.endswith(WHOLE)]:
                return dict(torch.load(io.BytesIO(file.read(whole[0])), map_location="cpu", weights_only=True))
            tables = [name for name in names if name.endswith(TABLE)]
            if len(tables) != 1:
                raise InputError(f"{path} holds {len(tables)} exported programs; export the network alone")
            entries: dict[str, Any] = json.loads(file.read(tables[0]))["config"]
            folder = tables[0].rpartition("/")[0]
            return {name: _tensor(entry, file, folder) for name, entry in entries.items()}
    except InputError:
        raise
    except Exception as error:  # damaged bytes make the readers fail in any way
        reason = one_line(str(error))[:200] or type(error).__name__
        raise InputError(
            f"{path} is no archive of torch.export, or a damaged one ({reason}); export it again"
        ) from error


def _tensor(entry: dict[str, Any], file: zipfile.ZipFile, folder: str) -> Tensor:
    raw = file.read(f"{folder}/{entry['path_name']}")
    if entry["use_pickle"]:
        loaded: Tensor = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        return loaded
    table = entry["tensor_meta"]
    sizes, strides = ([int(part["as_int"]) for part in table[key]] for key in ("sizes", "strides"))
    dtype = DTYPES[table["dtype"]]
    if not raw or not math.prod(sizes):
        return torch.zeros(sizes, dtype=dtype)
    # torch itself refuses sizes, strides and offsets that reach beyond the bytes.
    flat = torch.frombuffer(bytearray(raw), dtype=dtype)
    return flat.as_strided(sizes, strides, int(table["storage_offset"]["as_int"])).clone()


def _names(content: bytes) -> list[str]:
    if not content.startswith(b"PK\x03\x04"):
        return []
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            return file.namelist()
    except Exception:
        return []
