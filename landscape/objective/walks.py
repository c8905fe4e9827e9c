"""One pass over the batches of a loader."""

import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from landscape.errors import InputError
from landscape.objective.trees import arrays_as_tensors, check_tree, tensors_of

__all__ = ["walked"]


def walked(loader: Iterable[Any]) -> Iterator[Any]:
    """The checked batches of ``loader``, without empty ones.

    Raises:
        InputError: the Dataset or collate_fn of the loader fails, or a batch cannot be used; the error of a Dataset is
            named with its place.
    """
    try:
        for loaded in loader:
            batch = check_tree(loaded if tensors_of(loaded) else arrays_as_tensors(loaded))
            parts = [tensor for tensor in tensors_of(batch) if tensor.ndim]
            if not parts or any(map(len, parts)):
                yield batch
    except (RuntimeError, TypeError, ValueError, LookupError, OSError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if failure := _failure_of_samples(error):
            raise InputError(f"the data fail with {failure}; mend that, or leave such samples out") from error
        raise InputError(
            f"the samples cannot be made into batches ({reason}); pass a DataLoader whose collate_fn makes batches of "
            "tensors, padded where their lengths differ"
        ) from error


def _failure_of_samples(error: BaseException) -> str | None:
    """What ``error`` is and where it was raised; None if that was where samples are joined to batches."""
    text, frames = str(error).strip(), traceback.extract_tb(error.__traceback__)
    in_worker = "DataLoader worker process" in text  # whose traceback is in the text, with the error as its last line
    if "collate" in (text if in_worker else " ".join(frame.name for frame in frames)):
        return None
    if in_worker:
        return f"{text.splitlines()[-1]} in a worker of the DataLoader"
    last, kind = frames[-1], type(error).__name__
    reason = f"{kind}: {text.splitlines()[0]}" if text else kind
    return f"{reason} in {last.name}, line {last.lineno} of {Path(last.filename).name}"
