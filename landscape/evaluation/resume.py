"""Resume files: the finished points of an evaluation, from which an interrupted one continues."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.evaluation.statistics import Statistics
from landscape.storage.arrays import Array, arrays_fault, read_arrays, write_arrays
from landscape.storage.digests import DIGEST
from landscape.storage.json_files import parsed
from landscape.storage.reading import is_there
from landscape.storage.recipe import difference

__all__ = ["load_progress", "save_progress"]

FORMS = {
    "done": Array("P", kinds="b"),
    "total": Array("P"),
    "spread": Array("P"),
    "hits": Array("P", low=0),
    "per_sample": Array("P N", optional=True),
    "further": Array("P Q", optional=True),  # sums of the quantities beside the loss
}


def save_progress(path: Path, identity: dict[str, Any], statistics: Statistics) -> None:
    """Write all finished points with the ``identity`` of their evaluation."""
    write_arrays(path, {"identity": json.dumps(identity), **statistics.arrays()}, compressed=False)


def load_progress(path: Path, identity: dict[str, Any], statistics: Statistics) -> dict[str, np.ndarray] | None:
    """The arrays of finished points in the file ``path``, for `Statistics.restore`; None if there is no file.

    A file written by an earlier version has no digest; its points that are not finite are evaluated again.

    Raises:
        InputError: The file is damaged, or belongs to another evaluation (the message names the first difference).
    """
    if not is_there(path):
        return None
    arrays = read_arrays(path, {"identity": Array("", kinds="U"), **FORMS}, "resume", "delete it to start again")
    sealed = arrays.pop(DIGEST, None) is not None
    problem = f"{path} is no resume file, or a damaged one: its identity"
    stored = parsed(str(arrays.pop("identity")), problem, "delete it to start again")
    if not isinstance(stored, dict):
        raise InputError(f"{problem} is a {type(stored).__name__}, no dict; delete it to start again")
    if reason := difference(stored, identity):
        raise InputError(f"{path} belongs to another evaluation: {reason}; delete it or give another path")
    forms = _forms(statistics)
    missing = f"it lacks {', '.join(forms.keys() - arrays.keys())}" if forms.keys() - arrays.keys() else None
    if fault := missing or arrays_fault(arrays, forms):
        raise InputError(f"{path} is no resume file, or a damaged one: {fault}; delete it to start again")
    if not sealed:
        arrays["done"] &= np.isfinite(arrays["total"]) & np.isfinite(arrays["spread"])
    return arrays


def _forms(statistics: Statistics) -> dict[str, Array]:
    """The forms of the arrays of ``statistics``, with their exact sizes."""
    sizes = {name: " ".join(map(str, array.shape)) for name, array in statistics.arrays().items()}
    forms = {name: replace(FORMS[name], shape=size, optional=False) for name, size in sizes.items()}
    return forms | {"hits": replace(forms["hits"], high=statistics.samples)}
