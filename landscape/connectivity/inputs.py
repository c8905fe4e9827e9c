"""The inputs on which networks are run to follow their units, and their outputs."""

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.samples import Samples
from landscape.objective.trees import map_tensors, tensors_of

__all__ = ["Inputs", "few", "inputs_of", "probe_inputs", "run"]

Inputs = Tensor | dict[str, Any]  # an argument, or arguments by name

PROBES = 8  # inputs on which units are followed and the result is verified
LENGTHS = (16, 8, 4, 2)  # lengths of sequences that are tried if there are no data
IMAGE_SIZES = (32, 28, 64, 96, 224, 16, 8)  # sizes that are tried for convolutions if there are no data
TARGETS = ("labels", "label_ids")  # entries of a batch that a network uses only for its own loss


def inputs_of(model: nn.Module, batch: Any) -> Inputs:
    """The arguments of ``model`` in a batch, copied: its entries if they are named like arguments, else a tensor.

    Labels are left out. The tensor is the first one of the batch.
    """
    if isinstance(batch, Mapping):
        entries = {str(key): value for key, value in batch.items() if key not in TARGETS}
        if entries.keys() <= inspect.signature(model.forward).parameters.keys():
            return {key: map_tensors(torch.clone, value) for key, value in entries.items()}
    return tensors_of(batch)[0].clone()


def few(inputs: Inputs, count: int) -> Inputs:
    """The first ``count`` samples of ``inputs``."""
    if isinstance(inputs, Tensor):
        return inputs[:count]
    return {key: map_tensors(lambda tensor: tensor[:count], value) for key, value in inputs.items()}


def run(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """The outputs of ``model``: the tensor that it returns, or the tensors at the top level of a mapping.

    Raises:
        InputError: The model returns something else.
    """
    outputs = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    if isinstance(outputs, Tensor):
        return [outputs]
    tensors = [value for value in outputs.values() if isinstance(value, Tensor)] if isinstance(outputs, Mapping) else []
    if not tensors:
        raise InputError(
            f"the model returns {type(outputs).__name__}; units can be aligned where it is one tensor, or a mapping of "
            "tensors"
        )
    return tensors


def probe_inputs(model: nn.Module, samples: Samples | None) -> Inputs:
    """A few inputs in float64 for ``model``: the first samples, or random inputs of a shape that it accepts.

    Raises:
        InputError: There are no samples, and no shape that was tried is accepted.
    """
    if samples is not None:
        batch = next(samples.batches(PROBES, torch.device("cpu"), torch.float64))[1]
        return few(inputs_of(model, batch), PROBES)
    for inputs in _random_inputs(model):
        with contextlib.suppress(RuntimeError, ValueError, IndexError, AssertionError), torch.no_grad():
            model(inputs)
            return inputs
    raise InputError("the shape of the inputs does not follow from the first layer; pass data= as well")


def _random_inputs(model: nn.Module) -> Iterator[Tensor]:
    """Random inputs of shapes that the first layer accepts."""
    generator = torch.Generator().manual_seed(0)
    kinds = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Embedding
    first = next((layer for layer in model.modules() if isinstance(layer, kinds)), None)
    if isinstance(first, nn.Embedding):
        for length in LENGTHS:
            yield torch.randint(first.num_embeddings, (PROBES, length), generator=generator)
    elif isinstance(first, nn.Linear):
        yield torch.randn(PROBES, first.in_features, dtype=torch.float64, generator=generator)
    elif first is not None:
        for size in IMAGE_SIZES:
            space = [size] * (first.weight.ndim - 2)
            yield torch.randn(PROBES, first.in_channels, *space, dtype=torch.float64, generator=generator)
