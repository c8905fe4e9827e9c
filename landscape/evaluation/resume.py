"""Finished points on disk, so that a killed evaluation goes on where it stopped."""

import json
import zipfile
from pathlib import Path

import numpy as np

from landscape.errors import InputError
from landscape.evaluation.identity import difference
from landscape.evaluation.statistics import Statistics
from landscape.files import written_whole

__all__ = ["load_progress", "save_progress"]


def save_progress(path: Path, identity: dict, statistics: Statistics) -> None:
    """Write all finished points with the identity of what they are points of."""
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, identity=np.array(json.dumps(identity)), **statistics.arrays())


def load_progress(path: Path, identity: dict) -> dict[str, np.ndarray] | None:
    """The arrays of finished points in ``path``, for `Statistics.restore`; None without a file.

    Raises:
        InputError: the file is damaged, or holds points of something else (the first difference is named).
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        found = json.loads(str(arrays.pop("identity")))
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, OSError) as error:
        raise InputError(f"{path} is no resume file, or a damaged one ({error}); delete it to start again") from error
    if reason := difference(found, identity):
        raise InputError(f"{path} belongs to another evaluation: {reason}; delete it or give another path")
    return arrays
