"""What networks are tried on when their units are followed, and what they give."""

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
LENGTHS = (16, 8, 4, 2)  # tried for sequences where no data are given
IMAGE_SIZES = (32, 28, 64, 96, 224, 16, 8)  # tried for convolutions where no data are given
TARGETS = ("labels", "label_ids")  # entries of a batch that a network takes only for its own loss


def inputs_of(model: nn.Module, batch: Any) -> Inputs:
    """What ``model`` takes of a batch, copies which it may overwrite: its first tensor, or its entries by name."""
    if isinstance(batch, Mapping):
        named = {str(key): value for key, value in batch.items() if key not in TARGETS}
        if named.keys() <= inspect.signature(model.forward).parameters.keys():
            return {key: map_tensors(torch.clone, value) for key, value in named.items()}
    return tensors_of(batch)[0].clone()


def few(inputs: Inputs, count: int) -> Inputs:
    """The first ``count`` samples of ``inputs``."""
    if isinstance(inputs, Tensor):
        return inputs[:count]
    return {key: map_tensors(lambda tensor: tensor[:count], value) for key, value in inputs.items()}


def run(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """The tensors that ``model`` gives: one, or those at the top of a mapping.

    Raises:
        InputError: it gives something else.
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
    """A few inputs in float64 that ``model`` takes: the first samples, or random ones of a shape that works."""
    if samples is not None:
        batch = next(samples.batches(PROBES, torch.device("cpu"), torch.float64))[1]
        return few(inputs_of(model, batch), PROBES)
    for inputs in _random_inputs(model):
        with contextlib.suppress(RuntimeError, ValueError, IndexError, AssertionError), torch.no_grad():
            model(inputs)
            return inputs
    raise InputError("the shape of the inputs cannot be told from the first layer; pass data= as well")


def _random_inputs(model: nn.Module) -> Iterator[Tensor]:
    """Inputs of shapes that the first layer takes."""
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
