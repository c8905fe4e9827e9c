"""One walk through the batches of a loader."""

from collections.abc import Iterable, Iterator
from typing import Any

from landscape.errors import InputError
from landscape.objective.trees import arrays_as_tensors, check_tree, tensors_of

__all__ = ["walked"]


def walked(loader: Iterable[Any]) -> Iterator[Any]:
    """The batches of ``loader`` that hold samples, checked.

    Raises:
        InputError: its Dataset or its collate_fn fails.
    """
    try:
        for given in loader:
            batch = check_tree(given if tensors_of(given) else arrays_as_tensors(given))
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
