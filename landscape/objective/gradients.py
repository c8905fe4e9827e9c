"""The mean loss over all samples, and its gradient."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.objectives import Objective
from landscape.objective.private_network import require_gradients
from landscape.objective.responses import check_gradients, explained_checkpoints, without_sparse_gradients
from landscape.points import Point, as_float64
from landscape.runtime import own_torch_state

__all__ = ["MeanLoss"]

BATCH = 128  # samples of one backward pass; the activations of more do not fit into the cache of a CPU


class MeanLoss:
    """The map theta -> L(theta) = 1/N sum_n l_n(theta) and its gradient, summed over samples in float64.

    The gradient is taken with respect to the parameters ``names``; None stands for all. The computations use another
    copy of the network, so that the objective and its network are not changed.

    Raises:
        InputError: the BatchNorm policy is "recalibrate", for which this gradient would be incomplete, or the loss
            does not follow the parameters although it reads them.
    """

    @own_torch_state()
    def __init__(self, objective: Objective, names: Collection[str] | None = None):
        if objective.has_batch_norm and objective.batch_norm == "recalibrate":
            raise InputError(
                "batch_norm='recalibrate' makes the statistics depend on the weights, which this gradient does not "
                "include; use 'running' or 'batch'"
            )
        self.objective = objective.for_slice(None).twin().in_batches(BATCH)
        own = dict(self.objective.model.named_parameters())
        self.names = [name for name in own if names is None or name in names]
        self.objective.check_moves(self.names)
        require_gradients(without_sparse_gradients(self.objective.model))
        for name in own.keys() - set(self.names):
            own[name].requires_grad_(False)
        self.checked = False
        convolutional = any(isinstance(module, nn.Conv2d) for module in self.objective.model.modules())
        if convolutional:  # the channels-last layout is three times faster on a CPU
            self.objective = self.objective.mapped(_channels_last)

    def __call__(self, point: Point) -> float:
        """L at ``point``."""
        return as_float64(self.objective(point)).mean().item()

    @own_torch_state()
    def with_gradient(self, point: Point, batch: Any = None) -> tuple[float, Point]:
        """L at ``point`` and its gradient in float64, over all samples or over one ``batch`` of them."""
        objective, total = self.objective, torch.zeros((), dtype=torch.float64)
        own = dict(objective.model.named_parameters())
        own = {name: own[name] for name in self.names}
        sums = {name: torch.zeros_like(as_float64(value)) for name, value in own.items()}
        with objective.arithmetic(), torch.enable_grad(), explained_checkpoints():
            objective.move_to(point)
            if not self.checked:
                check_gradients(objective, [name for name, value in own.items() if value.requires_grad])
                self.checked = True
            moved = {name: sums[name] for name, value in own.items() if value.requires_grad}
            parameters = [own[name] for name in moved]
            for part in [batch] if batch is not None else (part for _, part in objective.batches()):
                losses = objective.losses(part)
                objective.network.check_overwritten()
                total = total + as_float64(losses.detach()).sum()
                pieces = torch.autograd.grad(losses.sum(), parameters, allow_unused=True)
                for sum_, piece in zip(moved.values(), pieces, strict=True):
                    if piece is not None:
                        sum_ += as_float64(piece.to_dense() if piece.is_sparse else piece)
        size = objective.size if batch is None else objective.batches.count(batch)
        return total.item() / size, {name: value / size for name, value in sums.items()}


def _channels_last(tensor: Tensor) -> Tensor:
    images = tensor.ndim == 4 and tensor.is_floating_point()
    return tensor.contiguous(memory_format=torch.channels_last) if images else tensor
