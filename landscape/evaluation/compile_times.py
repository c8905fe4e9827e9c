"""The times of compilations on this machine and what they saved, in the cache folder of torch's Inductor."""

import contextlib
import getpass
import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from landscape.errors import InputError
from landscape.evaluation.methods.protocol import Arrangement
from landscape.objective.objectives import Objective
from landscape.storage.files import written_whole
from landscape.storage.forms import form_fault

__all__ = ["CompileTimes", "Record"]

FORM = {str: {"seconds": (int, float), "gain": (int, float)}}


@dataclass(frozen=True)
class Record:
    """What one compilation took, and the share of the time of a pass that it saves (negative where it adds some)."""

    seconds: float
    gain: float


class CompileTimes:
    """Records by network, arrangement and number of threads, in a file of this machine that may be missing."""

    def __init__(self, objective: Objective, threads: int):
        batch = objective.batches.few()
        shape = str(batch[0].shape[1:]) if _is_pair(batch) else ""
        kind = (str(objective.dtype), objective.precision, str(torch.__version__))
        self._about = (str(objective.model), shape, threads, kind)

    def record(self, arrangement: Arrangement) -> Record | None:
        """The record of an ``arrangement`` with a compiler; None if there is none."""
        entry = _entries().get(self._key(arrangement))
        return None if entry is None else Record(**{name: entry[name] for name in ("seconds", "gain")})

    def keep(self, arrangement: Arrangement, record: Record) -> None:
        """Remember ``record``, where the file can be written."""
        path = _path()
        with contextlib.suppress(OSError, InputError):
            path.parent.mkdir(parents=True, exist_ok=True)
            entries = {**_entries(), self._key(arrangement): asdict(record)}
            with written_whole(path) as temporary:
                temporary.write_text(json.dumps(entries))

    def _key(self, arrangement: Arrangement) -> str:
        return hashlib.sha256(repr((self._about, arrangement)).encode()).hexdigest()


def _is_pair(batch: object) -> bool:
    return isinstance(batch, tuple | list) and isinstance(batch[0], torch.Tensor)


def _path() -> Path:
    """The path of the file of records, in the cache folder of Inductor."""
    named = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    if named:
        return Path(named) / "landscape_compile_times.json"
    try:
        user = getpass.getuser()
    except (KeyError, ImportError, OSError):
        user = "unknown"
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in user)
    return Path(tempfile.gettempdir()) / f"torchinductor_{safe}" / "landscape_compile_times.json"


def _entries() -> dict[str, dict[str, float]]:
    try:
        entries = json.loads(_path().read_text())
    except (OSError, ValueError):
        return {}
    return entries if form_fault(entries, FORM) is None else {}
