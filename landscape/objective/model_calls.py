"""Calls of models with batches of any form, and the parts of their outputs: logits and loss."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from landscape.errors import InputError
from landscape.points import unwrapped

__all__ = ["called", "called_without_labels", "entries_of", "labels_of", "logits_of", "loss_of"]


def called(model: nn.Module, batch: Any) -> Any:
    """The output of ``model`` for a batch.

    The entries of a mapping, named tuple or dataclass are passed as keyword arguments: those that are parameters of the
    forward method, or all of them if none is and the method accepts any keywords. The parts of another tuple or list
    are passed as positional arguments, and any other batch as the only argument. Caches of attention keys and values,
    which would only take memory, are switched off (``use_cache=False``).
    """
    entries = entries_of(batch)
    if entries is None:
        return model(*batch) if isinstance(batch, tuple | list) else model(batch)
    parameters = inspect.signature(unwrapped(model).forward).parameters.values()
    named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    takes_all = any(p.kind == p.VAR_KEYWORD for p in parameters) and not named.intersection(entries)
    taken = {name: value for name, value in entries.items() if takes_all or name in named}
    return model(**taken, **({"use_cache": False} if "use_cache" in named - taken.keys() else {}))


def called_without_labels(model: nn.Module, batch: Any) -> Any:
    """Like `called`, but without the labels, so that the model computes no loss.

    An encoder-decoder model, which derives the inputs of its decoder from the labels, gets these inputs instead.
    """
    entries = entries_of(batch)
    if entries is None or "labels" not in entries:
        return called(model, batch)
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if not callable(shift) or "decoder_input_ids" in entries:
        preceding = {}
    else:
        preceding = {"decoder_input_ids": shift(labels=entries["labels"])}
    return called(model, {name: value for name, value in entries.items() if name != "labels"} | preceding)


def entries_of(batch: Any) -> dict[str, Any] | None:
    """The entries of a mapping, named tuple or dataclass by name; None for other batches."""
    if isinstance(batch, Mapping):
        return dict(batch)
    if isinstance(batch, tuple) and hasattr(batch, "_asdict"):
        return dict(batch._asdict())
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return None


def labels_of(batch: Any) -> Tensor | None:
    """The entry "labels" of a batch; None if there is none, or if it is not a tensor with axes."""
    labels = (entries_of(batch) or {}).get("labels")
    return labels if isinstance(labels, Tensor) and labels.ndim else None


def loss_of(output: Any) -> Tensor | None:
    """The loss in the output of a model, as a scalar tensor; None if there is none.

    It is the attribute or entry "loss", the first part of a tuple or list, or the output itself.
    """
    value = _part(output, "loss")
    if value is None:
        value = output[0] if isinstance(output, tuple | list) and output else output
    return value.reshape(()) if isinstance(value, Tensor) and value.numel() == 1 else None


def logits_of(output: Any) -> Tensor:
    """The logits in the output of a model, which may be the output itself.

    Raises:
        InputError: the output has no logits.
    """
    tensor = output if isinstance(output, Tensor) else _part(output, "logits")
    if tensor is None and isinstance(output, tuple | list):
        tensor = next((part for part in output if isinstance(part, Tensor) and part.ndim > 1), None)
    if not isinstance(tensor, Tensor):
        raise InputError(
            f"the model gives {type(output).__name__} without logits, as .logits, as entry 'logits' or as the output "
            "itself; pass loss=callable(model, batch)"
        )
    return tensor


def _part(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
