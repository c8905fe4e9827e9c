"""Chains of linear layers and elementwise functions, computed for many points by one batched product for each layer.

`torch.func.vmap`, which computes any network for many points, allocates memory in every operation, which takes most of
the time of small networks. A chain needs only one buffer for each layer.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from landscape.objective.forwards import has_own_forward, input_of
from landscape.objective.reads import Decisions

__all__ = ["Chain"]

IN_PLACE = {nn.ReLU: torch.relu_, nn.Tanh: torch.tanh_, nn.Sigmoid: torch.sigmoid_}
ELEMENTWISE = {*IN_PLACE, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Identity, nn.Dropout}


class Chain:
    """The modules ``links`` that follow a layer of ``model``; each has the output of the one before as its input."""

    def __init__(self, model: nn.Module, layer: nn.Linear, links: list[nn.Module]):
        self.links = links
        self.width = max(module.out_features for module in (layer, *links) if type(module) is nn.Linear)
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._buffers: dict[nn.Module, Tensor] = {}

    @classmethod
    def find(cls, model: nn.Module, layer: nn.Linear, forward: Callable[[], Tensor]) -> "Chain | None":
        """The chain after ``layer``, found by watching the pass ``forward`` of ``model``; None if there is no chain."""
        with Decisions() as decisions:
            steps, output = _watch(model, forward)
        order = [module for module, *_ in steps]
        if layer not in order:
            return None
        steps = steps[order.index(layer) :]
        links = [module for module, *_ in steps[1:]]
        inputs = [*(taken for _, taken, _ in steps[1:]), (output, output._version)]
        joined = all(_same(left, taken) for (_, _, left), taken in zip(steps, inputs, strict=True))
        plain = all(_is_plain(link) for link in links) and len(set(links)) == len(links)
        return cls(model, layer, links) if joined and plain and not decisions.made else None

    def run(self, weights: dict[str, Tensor], hidden: Tensor) -> Tensor:
        """Outputs [K, C, n] at K points from the layer's outputs ``hidden`` [K, F, n], which are overwritten.

        ``weights`` [K, ...] are the moved parameters by name. The outputs are valid until the next call.
        """
        for link in self.links:
            if type(link) is nn.Linear:
                hidden = self._linear(link, weights, hidden)
            else:
                hidden = IN_PLACE.get(type(link), link)(hidden)
        return hidden

    def _linear(self, link: nn.Linear, weights: dict[str, Tensor], hidden: Tensor) -> Tensor:
        count, _, samples = hidden.shape
        weight = weights.get(self.names[id(link.weight)], link.weight).expand(count, -1, -1)
        shape = (count, link.out_features, samples)
        if link not in self._buffers or self._buffers[link].shape != shape:
            self._buffers[link] = hidden.new_empty(shape)
        out = self._buffers[link]
        if link.bias is None:
            return torch.bmm(weight, hidden, out=out)
        bias = weights.get(self.names[id(link.bias)], link.bias)
        return torch.baddbmm(bias[..., None].expand(count, -1, 1), weight, hidden, out=out)


Version = tuple[Tensor, int]  # a tensor, and the number of changes in place before


def _watch(model: nn.Module, forward: Callable[[], Tensor]) -> tuple[list[tuple[nn.Module, Version, Version]], Tensor]:
    """The innermost modules in the order of their calls, with their inputs and outputs; the output of ``forward``."""
    inputs: dict[nn.Module, Version] = {}
    steps: list[tuple[nn.Module, Version, Version]] = []

    def enter(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        inputs[module] = _version(input_of(arguments, keywords))

    def leave(module: nn.Module, _: Any, output: Any) -> None:
        steps.append((module, inputs[module], _version(output)))

    leaves = [module for module in model.modules() if not any(module.children())]
    handles = [module.register_forward_pre_hook(enter, with_kwargs=True) for module in leaves]
    handles += [module.register_forward_hook(leave) for module in leaves]
    try:
        return steps, forward()
    finally:
        for handle in handles:
            handle.remove()


def _version(value: Any) -> Version:
    return (value, value._version) if isinstance(value, Tensor) else (torch.empty(0), -1)


def _same(output: Version, following_input: Version) -> bool:
    return output[0] is following_input[0] and output[1] == following_input[1]


def _is_plain(link: nn.Module) -> bool:
    own = has_own_forward(link) or link._forward_hooks or link._forward_pre_hooks
    return not own and (type(link) is nn.Linear or type(link) in ELEMENTWISE)
