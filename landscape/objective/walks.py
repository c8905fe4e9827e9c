"""One pass over the batches of a loader."""

from collections.abc import Iterable, Iterator
from typing import Any

from landscape.errors import InputError
from landscape.objective.trees import arrays_as_tensors, check_tree, tensors_of

__all__ = ["walked"]


def walked(loader: Iterable[Any]) -> Iterator[Any]:
    """The checked batches of ``loader``, without empty ones.

    Raises:
        InputError: the Dataset or collate_fn of the loader fails, or a batch cannot be used.
    """
    try:
        for loaded in loader:
            batch = check_tree(loaded if tensors_of(loaded) else arrays_as_tensors(loaded))
            parts = [tensor for tensor in tensors_of(batch) if tensor.ndim]
            if not parts or any(map(len, parts)):
                yield batch
    except (RuntimeError, TypeError, ValueError, LookupError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"the samples cannot be made into batches ({reason}); pass a DataLoader whose collate_fn makes batches of "
            "tensors, padded where their lengths differ"
        ) from error
