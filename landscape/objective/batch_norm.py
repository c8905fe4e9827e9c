"""Which statistics the BatchNorm layers of a moved network use: an argument, never an accident."""

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
    """The layers of ``model`` that normalise by running statistics over the batch."""
    return [module for module in model.modules() if isinstance(module, BatchNorm) and module.running_mean is not None]


def has_batch_norm(model: nn.Module) -> bool:
    """Whether any layer of ``model`` normalises by running statistics."""
    return bool(batch_norm_layers(model))


def use_batch_statistics(model: nn.Module) -> None:
    """Make every BatchNorm layer of ``model`` normalise by the batch at hand, in eval mode, for good."""
    for layer in batch_norm_layers(model):
        layer.running_mean = layer.running_var = None
        layer.track_running_stats = False


@contextlib.contextmanager
def frozen_statistics(model: nn.Module, forward: Callable[[], Any]) -> Iterator[None]:
    """Let every BatchNorm layer meanwhile normalise by constants: the statistics of its first input in ``forward``."""
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

    mean = average over samples and positions of the layer's input, var = its (biased) variance, as if the whole
    data were one training batch, hence independent of batch size and order. Of a layer that runs more than once in a
    pass (siamese branches, recurrence) they are those of the inputs of all its uses together. The layers are treated in
    the order in which they run, because the input of each depends on the statistics of those before it: one pass a
    layer, cut off at that layer. Layers that run in turns or more than once are treated together, until their
    statistics are those of the inputs to which these same statistics lead. Compare Izmailov et al. 2018, "Averaging
    Weights Leads to Wider Optima", section 3.2, whose single pass of batch averages depends on the batch size.

    Args:
        model: in eval mode; its running statistics are overwritten.
        forward: runs ``model`` on one batch.
        batches: gives a fresh walk through the data.
        order: what an earlier call with the same network and data gave, which saves a pass.

    Returns:
        The order in which the layers run.

    Raises:
        InputError: statistics that are used outside of the layer's own forward pass, or that do not settle.
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


ROUNDS = 200  # passes in which the statistics of layers that depend on each other settle, or not
DAMPED = 10  # passes more than layers, after which half a step is taken: statistics that swing come to rest
SETTLED = {torch.float64: 1e-10}  # change of the statistics, in standard deviations, that counts as none
SETTLED_FLOAT32 = 1e-5


def _settle(
    names: Sequence[str],
    layers: Sequence[BatchNorm],
    forward: Callable[[Any], Any],
    batches: Callable[[], Iterable[Any]],
) -> None:
    """Give ``layers`` the statistics of the inputs to which these statistics lead, by iteration."""
    bound = SETTLED.get(_statistics(layers[0])[0].dtype, SETTLED_FLOAT32)
    for attempt in range(ROUNDS):
        found = _collect(layers, forward, batches)
        step = 1.0 if attempt < len(layers) + DAMPED else 0.5
        change = float(np.max([moments.store(layer, step) for moments, layer in zip(found, layers, strict=True)]))
        if not change > bound:  # NaN where the weights give NaN, which stays
            return
    raise InputError(
        f"the BatchNorm statistics of {', '.join(names)}, which run more than once in a pass, do not settle (they "
        f"still change by {change:.2g} standard deviations); use batch_norm='running' or 'batch'"
    )


def _collect(
    layers: Sequence[BatchNorm], forward: Callable[[Any], Any], batches: Callable[[], Iterable[Any]], cut: bool = False
) -> list["_Moments"]:
    """Moments of all inputs of ``layers`` over the data; with ``cut`` a pass ends at the first of them."""
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
    """The layer under treatment has seen its input; the rest of the forward pass is not needed."""


def _statistics(layer: BatchNorm) -> tuple[Tensor, Tensor]:
    """Running mean and variance of a layer of `batch_norm_layers`, which has them."""
    return cast(Tensor, layer.running_mean), cast(Tensor, layer.running_var)


class _Moments:
    """Merges mean and variance of the inputs of a layer (Chan et al. 1979)."""

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
        """Move the statistics of ``layer`` by ``step`` towards these; the largest change, in standard deviations."""
        if not self.count:  # it did not run
            return 0.0
        running_mean, running_var = _statistics(layer)
        mean, variance = as_float64(running_mean), as_float64(running_var)
        shift, growth = self.mean - mean, self.squares / self.count - variance
        running_mean.copy_(self.mean if step == 1 else mean + step * shift)
        running_var.copy_(self.squares / self.count if step == 1 else variance + step * growth)
        scale = (self.squares / self.count + layer.eps).clamp(min=torch.finfo(torch.float64).tiny)
        return float(torch.maximum(shift.abs() / scale.sqrt(), growth.abs() / scale).max())
