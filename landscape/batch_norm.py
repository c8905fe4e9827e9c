"""Which statistics the BatchNorm layers of a moved network use: an argument, never an accident."""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from landscape.parameters import as_float64

__all__ = ["POLICIES", "batch_norm_layers", "has_batch_norm", "recalibrate", "use_batch_statistics"]

POLICIES = ("running", "batch", "recalibrate")


def batch_norm_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of ``model`` that normalise by running statistics over the batch."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
    ]


def has_batch_norm(model: nn.Module) -> bool:
    """Whether any layer of ``model`` normalises by running statistics."""
    return bool(batch_norm_layers(model))


def use_batch_statistics(model: nn.Module) -> None:
    """Make every BatchNorm layer of ``model`` normalise by the batch at hand, in eval mode, for good."""
    for layer in batch_norm_layers(model):
        layer.running_mean = layer.running_var = None
        layer.track_running_stats = False


@torch.no_grad()
def recalibrate(model: nn.Module, forward: Callable[[Any], Any], batches: Callable[[], Iterable]) -> None:
    """Set the running statistics of every BatchNorm layer to those of the whole data at the present weights.

    mean = average over samples and positions of the layer's input, var = its (biased) variance, as if the whole
    data were one training batch, hence independent of batch size and order. The layers are treated in the order
    in which they run, because the input of each depends on the statistics of those before it: one pass a layer,
    cut off at that layer. Compare Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima", section 3.2,
    whose single pass of batch averages depends on the batch size.

    Args:
        model: in eval mode; its running statistics are overwritten.
        forward: runs ``model`` on one batch.
        batches: gives a fresh walk through the data.
    """
    remaining = set(batch_norm_layers(model))
    while remaining:
        moments = _Moments(remaining)
        handles = [layer.register_forward_pre_hook(moments) for layer in remaining]
        try:
            for batch in batches():
                with contextlib.suppress(_Reached):
                    forward(batch)
        finally:
            for handle in handles:
                handle.remove()
        if moments.layer is None:  # the remaining layers never run
            return
        moments.layer.running_mean.copy_(moments.mean)
        moments.layer.running_var.copy_(moments.squares / moments.count)
        remaining.remove(moments.layer)


class _Reached(Exception):
    """The layer under treatment has seen its input; the rest of the forward pass is not needed."""


class _Moments:
    """Pre-hook that merges mean and variance of the inputs of the first waiting layer (Chan et al. 1979)."""

    def __init__(self, waiting: set[nn.Module]):
        self.waiting = waiting
        self.layer: nn.Module | None = None
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def __call__(self, layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self.layer = self.layer or layer
        if layer is not self.layer:
            return
        (inputs,) = arguments
        axes = [axis for axis in range(inputs.ndim) if axis != 1]
        variance, mean = (as_float64(part) for part in torch.var_mean(inputs, axes, correction=0))
        count = inputs.numel() // inputs.shape[1]
        total, shift = self.count + count, mean - self.mean
        self.mean = self.mean + shift * (count / total)
        self.squares = self.squares + variance * count + shift.square() * (self.count * count / total)
        self.count = total
        raise _Reached
