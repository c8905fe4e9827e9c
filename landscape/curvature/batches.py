"""Products with the second derivatives of one batch, from the graph of its first ones."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from landscape.curvature.convolution import fast_convolutions
from landscape.curvature.weight_norm import exact_weight_norms
from landscape.errors import InputError
from landscape.objective.forwards import replaced_forwards
from landscape.objective.objectives import Objective
from landscape.objective.reads import is_differentiated
from landscape.objective.trees import tensors_of

__all__ = ["BATCH_PRODUCTS", "gradient_of"]

Pieces = Sequence[Tensor | None]  # one tensor a parameter; None stands for zero


def hessian_of(objective: Objective, batch: object, parameters: list[Tensor]) -> Callable[[Pieces], Pieces]:
    """v -> sum over the batch of H_n v: the gradient of g v, g the gradient of the summed losses (Pearlmutter 1994)."""
    with replaced_forwards(fast_convolutions(objective.model)), exact_weight_norms(objective.model):
        losses = objective.losses(batch)
        # What flows back is made a variable, else a function that can be differentiated once would count as linear.
        one = torch.ones((), dtype=losses.dtype, device=losses.device, requires_grad=True)
        gradients = torch.autograd.grad(losses.sum(), parameters, one, create_graph=True, allow_unused=True)
    _check_twice_differentiable(gradients)
    return lambda direction: _pulled_back(gradients, parameters, direction)


def ggn_of(objective: Objective, batch: object, parameters: list[Tensor]) -> Callable[[Pieces], Pieces]:
    """v -> sum over the batch of J_n^T (d^2 l_n / dz^2) J_n v, z the outputs of the network (Schraudolph 2002)."""
    with replaced_forwards(fast_convolutions(objective.model, linear=True)):
        outputs, free, losses = _cut_at_outputs(objective, batch)
        seed = torch.zeros_like(outputs, requires_grad=True)
        # J^T seed is linear in the seed: its own transpose is J.
        pulled = torch.autograd.grad(outputs, parameters, seed, create_graph=True, allow_unused=True)
    if any(part is not None for part in torch.autograd.grad(losses, parameters, retain_graph=True, allow_unused=True)):
        raise InputError("the loss depends on the weights beside the outputs of the network; use the Hessian")
    (slope,) = torch.autograd.grad(losses, free, create_graph=True)

    def product(direction: Pieces) -> Pieces:
        (moved,) = _pulled_back(pulled, [seed], direction)
        (curved,) = _pulled_back([slope], [free], [moved])
        return _pulled_back([outputs], parameters, [curved])

    return product


def gradient_of(objective: Objective, batch: object, parameters: list[Tensor]) -> Pieces:
    """The gradient of the summed losses of a batch."""
    return torch.autograd.grad(objective.losses(batch).sum(), parameters, allow_unused=True)


BATCH_PRODUCTS = {"hessian": hessian_of, "ggn": ggn_of}


def _check_twice_differentiable(gradients: Pieces) -> None:
    """Find the node that torch leaves where a function refuses a second derivative, which autograd may pass by."""
    waiting, seen = [gradient.grad_fn for gradient in gradients if gradient is not None], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name().rpartition("::")[2] in ("Error", "DelayedError"):
            raise RuntimeError("a function of it is marked once_differentiable")
        waiting += [following for following, _ in node.next_functions]


def _pulled_back(values: Pieces, inputs: list[Tensor], weights: Pieces) -> Pieces:
    """sum_i weights_i d values_i / d inputs, None where it does not depend on them."""
    pairs = [
        (value, weight)
        for value, weight in zip(values, weights, strict=True)
        if value is not None and value.requires_grad and weight is not None
    ]
    if not pairs:
        return [None] * len(inputs)
    values, weights = zip(*pairs, strict=True)
    return torch.autograd.grad(values, inputs, weights, retain_graph=True, allow_unused=True)


def _cut_at_outputs(objective: Objective, batch: object) -> tuple[Tensor, Tensor, Tensor]:
    """(outputs z of the network, the same as a variable of its own, summed losses as a function of the latter)."""
    seen: list[tuple[Tensor, Tensor]] = []

    def cut(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], outputs: object) -> Tensor:
        if any(map(is_differentiated, tensors_of((arguments, keywords)))):
            raise InputError("the GGN needs a loss that does not differentiate the network by inputs; use the Hessian")
        if not isinstance(outputs, Tensor):
            raise InputError(f"the GGN needs a network that returns one tensor, not {type(outputs).__name__}")
        seen.append((outputs, outputs.detach().requires_grad_()))
        return seen[-1][1]

    handle = objective.model.register_forward_hook(cut, with_kwargs=True)
    try:
        losses = objective.losses(batch).sum()
    finally:
        handle.remove()
    if len(seen) != 1:
        raise InputError(
            f"the GGN needs a loss of the outputs of the network, but this one calls it {len(seen)} times; "
            "use the Hessian"
        )
    return *seen[0], losses
