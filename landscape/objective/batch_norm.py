"""The statistics with which BatchNorm layers normalise: running, of the batch, or estimated anew at each point."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.layer_order import Order, watch_order
from landscape.points import as_float64

__all__ = [
    "POLICIES",
    "Policy",
    "batch_norm_layers",
    "frozen_statistics",
    "has_batch_norm",
    "recalibrate",
    "use_batch_statistics",
]

BatchNorm = nn.modules.batchnorm._BatchNorm
Policy = Literal["running", "batch", "recalibrate"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


def batch_norm_layers(model: nn.Module) -> list[BatchNorm]:
    """The BatchNorm layers of ``model`` that have running statistics."""
    return [module for module in model.modules() if isinstance(module, BatchNorm) and module.running_mean is not None]


def has_batch_norm(model: nn.Module) -> bool:
    """Whether ``model`` has a BatchNorm layer with running statistics."""
    return bool(batch_norm_layers(model))


def use_batch_statistics(model: nn.Module) -> None:
    """Remove the running statistics of all BatchNorm layers, which then normalise by the batch, also in eval mode."""
    for layer in batch_norm_layers(model):
        layer.running_mean = layer.running_var = None
        layer.track_running_stats = False


@contextlib.contextmanager
def frozen_statistics(model: nn.Module, forward: Callable[[], Any]) -> Iterator[None]:
    """Let all BatchNorm layers use constant statistics inside the block: those of their first input in ``forward``.

    Their own statistics return after the block.
    """
    layers = [module for module in model.modules() if isinstance(module, BatchNorm)]
    before = [(layer, layer.running_mean, layer.running_var) for layer in layers]

    def freeze(layer: BatchNorm, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        (inputs,) = (*arguments, *named.values())
        if layer.running_mean is None:
            axes = [axis for axis in range(inputs.ndim) if axis != 1]
            layer.running_var, layer.running_mean = torch.var_mean(inputs.detach(), axes, correction=0)

    for layer in layers:
        layer.running_mean = layer.running_var = None
    handles = [layer.register_forward_pre_hook(freeze, with_kwargs=True) for layer in layers]
    try:
        forward()
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer, mean, variance in before:
            layer.running_mean, layer.running_var = mean, variance


@torch.no_grad()
def recalibrate(
    model: nn.Module, forward: Callable[[Any], Any], batches: Callable[[], Iterable[Any]], order: Order | None = None
) -> Order:
    """Set the running statistics of every BatchNorm layer to those of the whole data at the present weights.

    They are the mean and the (biased) variance of the layer's input over samples and positions, as if all data were
    one training batch, and so do not depend on batch size and order. If a layer runs several times in a pass (siamese
    branches, recurrence), they are those of all its inputs together. The layers are treated in the order in which they
    run, because the input of each depends on the statistics of those before it; each takes one pass, which ends at that
    layer. Layers that run alternately or several times are iterated together until their statistics are a fixed point:
    the statistics of the inputs that they themselves cause. Compare Izmailov et al. 2018, "Averaging Weights Leads to
    Wider Optima", section 3.2, whose single pass with averages over batches depends on the batch size.

    Args:
        model: The network, in eval mode; its running statistics are overwritten.
        forward: Function that runs ``model`` on one batch.
        batches: Function that returns a new iterator over the data.
        order: The result of an earlier call with the same network and data, which saves a pass.

    Returns:
        The order in which the layers run.

    Raises:
        InputError: statistics are used outside of the layer's own forward pass, or do not converge.
    """
    layers = {name: layer for name, layer in model.named_modules() if layer in set(batch_norm_layers(model))}
    order = order or watch_order(layers, forward, batches())
    for name in sorted(order.outside):
        raise InputError(
            f"the BatchNorm statistics of {name!r} are used outside of the layer's own forward pass, where they cannot "
            "be estimated anew; use batch_norm='running', or call the layer itself in the network"
        )
    for step in order.steps:
        together = [layers[name] for name in step]
        if order.once(step):
            _collect(together, forward, batches, cut=True)[0].store(together[0])
        else:
            _settle(step, together, forward, batches)
    return order


ROUNDS = 200  # largest number of passes of the fixed-point iteration
DAMPED = 10  # after this many passes more than there are layers, steps are halved to damp oscillations
SETTLED = {torch.float64: 1e-10}  # largest full change, in standard deviations, of statistics that count as converged
SETTLED_FLOAT32 = 1e-5


def _settle(
    names: Sequence[str],
    layers: Sequence[BatchNorm],
    forward: Callable[[Any], Any],
    batches: Callable[[], Iterable[Any]],
) -> None:
    """Iterate the statistics of ``layers`` until they are those of the inputs that they themselves cause.

    Raises:
        InputError: they do not converge within `ROUNDS` passes.
    """
    bound = SETTLED.get(_statistics(layers[0])[0].dtype, SETTLED_FLOAT32)
    for attempt in range(ROUNDS):
        collected = _collect(layers, forward, batches)
        step = 1.0 if attempt < len(layers) + DAMPED else 0.5
        change = float(np.max([moments.store(layer, step) for moments, layer in zip(collected, layers, strict=True)]))
        if not change > bound:  # also if the change is NaN, because the weights give NaN
            return
    raise InputError(
        f"the BatchNorm statistics of {', '.join(names)}, which run more than once in a pass, do not settle (they "
        f"still change by {change:.2g} standard deviations); use batch_norm='running' or 'batch'"
    )


def _collect(
    layers: Sequence[BatchNorm], forward: Callable[[Any], Any], batches: Callable[[], Iterable[Any]], cut: bool = False
) -> list["_Moments"]:
    """The moments of all inputs of ``layers`` over the data; with ``cut`` a pass ends at the first of these layers."""
    moments = {layer: _Moments() for layer in layers}

    def hook(layer: BatchNorm, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        moments[layer].add(next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)))
        if cut:
            raise _Reached

    handles = [layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers]
    try:
        for batch in batches():
            with contextlib.suppress(_Reached):
                forward(batch)
    finally:
        for handle in handles:
            handle.remove()
    return list(moments.values())


class _Reached(Exception):
    """Raised to end a forward pass once the layer has received its input."""


def _statistics(layer: BatchNorm) -> tuple[Tensor, Tensor]:
    """Running mean and variance of a layer of `batch_norm_layers`, for which they exist."""
    return cast(Tensor, layer.running_mean), cast(Tensor, layer.running_var)


class _Moments:
    """Mean and variance of the inputs of a layer, merged batch by batch (Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, inputs: Tensor) -> None:
        """Add ``inputs`` [n, C, ...]."""
        axes = [axis for axis in range(inputs.ndim) if axis != 1]
        variance, mean = (as_float64(part) for part in torch.var_mean(inputs, axes, correction=0))
        count = inputs.numel() // inputs.shape[1]
        total, shift = self.count + count, mean - self.mean
        self.mean = self.mean + shift * (count / total)
        self.squares = self.squares + variance * count + shift.square() * (self.count * count / total)
        self.count = total

    def store(self, layer: BatchNorm, step: float = 1.0) -> float:
        """Move the statistics of ``layer`` a share ``step`` of the way to these; return the size of the full change.

        This size is the maximum over channels of |mean change| / sigma and |variance change| / sigma^2, where sigma^2
        is the new variance plus ``layer.eps``.
        """
        if not self.count:  # the layer did not run
            return 0.0
        running_mean, running_var = _statistics(layer)
        mean, variance = as_float64(running_mean), as_float64(running_var)
        shift, growth = self.mean - mean, self.squares / self.count - variance
        running_mean.copy_(self.mean if step == 1 else mean + step * shift)
        running_var.copy_(self.squares / self.count if step == 1 else variance + step * growth)
        scale = (self.squares / self.count + layer.eps).clamp(min=torch.finfo(torch.float64).tiny)
        return float(torch.maximum(shift.abs() / scale.sqrt(), growth.abs() / scale).max())
