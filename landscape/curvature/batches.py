"""Products with the second derivatives of one batch, from the graph of its first derivatives."""

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
from landscape.objective.trees import map_leaves, tensors_of

__all__ = ["BATCH_PRODUCTS", "gradient_of"]

Pieces = Sequence[Tensor | None]  # one tensor for each parameter; None stands for zero


def hessian_of(objective: Objective, batch: object, parameters: list[Tensor]) -> Callable[[Pieces], Pieces]:
    """v -> sum over the batch of H_n v, the gradient of g^T v for the gradient g of the summed losses.

    Source: Pearlmutter 1994, "Fast Exact Multiplication by the Hessian".
    """
    with replaced_forwards(fast_convolutions(objective.model)), exact_weight_norms(objective.model):
        losses = objective.losses(batch)
        # The incoming gradient requires grad: otherwise torch would take a function that can be differentiated only
        # once for a linear one, without an error.
        one = torch.ones((), dtype=losses.dtype, device=losses.device, requires_grad=True)
        gradients = torch.autograd.grad(losses.sum(), parameters, one, create_graph=True, allow_unused=True)
    _check_twice_differentiable(gradients)
    return lambda direction: _vjp(gradients, parameters, direction)


def ggn_of(objective: Objective, batch: object, parameters: list[Tensor]) -> Callable[[Pieces], Pieces]:
    """v -> sum over the batch of J_n^T (d^2 l_n / dz^2) J_n v for the outputs z of the network.

    Source: Schraudolph 2002, "Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent", section 3.
    """
    with replaced_forwards(fast_convolutions(objective.model, linear=True)):
        outputs, free, losses = _cut_at_outputs(objective, batch)
        seed = torch.zeros_like(outputs, requires_grad=True)
        # J^T seed is linear in the seed, so that differentiating it by the seed multiplies with J.
        pullback = torch.autograd.grad(outputs, parameters, seed, create_graph=True, allow_unused=True)
    if any(part is not None for part in torch.autograd.grad(losses, parameters, retain_graph=True, allow_unused=True)):
        raise InputError("the loss depends on the weights not only through the network's outputs; use the Hessian")
    (slope,) = torch.autograd.grad(losses, free, create_graph=True)

    def product(direction: Pieces) -> Pieces:
        (tangent,) = _vjp(pullback, [seed], direction)  # J v
        (curved,) = _vjp([slope], [free], [tangent])
        return _vjp([outputs], parameters, [curved])

    return product


def gradient_of(objective: Objective, batch: object, parameters: list[Tensor]) -> Pieces:
    """The gradient of the summed losses of a batch."""
    return torch.autograd.grad(objective.losses(batch).sum(), parameters, allow_unused=True)


BATCH_PRODUCTS = {"hessian": hessian_of, "ggn": ggn_of}


def _check_twice_differentiable(gradients: Pieces) -> None:
    """Raise RuntimeError if a function allows no second derivative; autograd itself may not notice that.

    torch marks such functions by a node with the name Error or DelayedError in the graph.
    """
    waiting, visited = [gradient.grad_fn for gradient in gradients if gradient is not None], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if node.name().rpartition("::")[2] in ("Error", "DelayedError"):
            raise RuntimeError("a function of it is marked once_differentiable")
        waiting += [parent for parent, _ in node.next_functions]


def _vjp(values: Pieces, inputs: list[Tensor], weights: Pieces) -> Pieces:
    """Vector-Jacobian product sum_i weights_i d values_i / d inputs; None for inputs on which no value depends."""
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
    """(outputs z of the network, z as a detached leaf tensor, summed losses computed from that leaf)."""
    calls: list[tuple[Tensor, Tensor]] = []

    def cut(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], outputs: object) -> Any:
        if any(map(is_differentiated, tensors_of((arguments, keywords)))):
            raise InputError("the GGN needs a loss that does not differentiate the network by inputs; use the Hessian")
        moving = [*{id(tensor): tensor for tensor in tensors_of(outputs) if tensor.requires_grad}.values()]
        if len(moving) != 1:
            raise InputError(
                f"the GGN needs a network that returns one tensor, not a {type(outputs).__name__} of {len(moving)} "
                "that depend on the weights; use the Hessian"
            )
        calls.append((moving[0], moving[0].detach().requires_grad_()))
        return map_leaves(lambda leaf: calls[-1][1] if leaf is moving[0] else leaf, outputs)

    handle = objective.model.register_forward_hook(cut, with_kwargs=True)
    try:
        losses = objective.losses(batch).sum()
    finally:
        handle.remove()
    if len(calls) != 1:
        raise InputError(
            f"the GGN needs a loss that calls the network once for each batch, but this one calls it {len(calls)} "
            "times; use the Hessian"
        )
    return *calls[0], losses
