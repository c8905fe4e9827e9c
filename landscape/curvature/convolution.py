"""Convolutions whose second derivatives are convolutions of the same shape, and as fast as the first derivatives.

torch's own second derivative of the weight gradient is a slow convolution with a kernel as large as the image.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from landscape.objective.forwards import has_own_forward

__all__ = ["fast_convolutions"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Settings = tuple[Any, ...]  # the arguments of torch.convolution after inputs, weight and bias


def fast_convolutions(model: nn.Module, *, linear: bool = False) -> dict[nn.Module, Callable[[Tensor], Tensor]]:
    """A forward function for every plain convolution of ``model``, which can be differentiated twice at low cost.

    With ``linear`` inputs and weights are constants for the second derivative, which then is that of a function linear
    in the incoming gradient: products with the Jacobian need no more.
    """
    return {
        module: partial(_forward, module, linear)
        for module in model.modules()
        if type(module) in CONVOLUTIONS
        and not has_own_forward(module)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    }


def _forward(module: Any, linear: bool, input: Tensor) -> Tensor:  # ``module`` is one of CONVOLUTIONS
    outputs: Tensor
    if input.ndim != module.weight.ndim:  # a sample without a batch axis
        outputs = module._conv_forward(input, module.weight, module.bias)
        return outputs
    none = (0,) * len(module.stride)
    settings = (module.stride, module.padding, module.dilation, False, none, module.groups)
    outputs = _Convolution.apply(input, module.weight, module.bias, settings, linear)
    return outputs


class _Convolution(torch.autograd.Function):
    """The convolution z = a * W + b of inputs a with a weight W and a bias b."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, settings: Settings, linear: bool
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.settings, ctx.linear = settings, linear
        return torch.convolution(inputs, weight, bias, *settings)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        if ctx.linear:
            inputs, weight = inputs.detach(), weight.detach()
        of_inputs, of_weight, of_bias = ctx.needs_input_grad[:3]
        pair: tuple[Tensor | None, Tensor | None] = (None, None)
        if of_inputs or of_weight:
            pair = _Gradient.apply(gradient, inputs, weight, ctx.settings, (of_inputs, of_weight))
        axes = [axis for axis in range(gradient.ndim) if axis != 1]
        return *pair, gradient.sum(axes) if of_bias else None, None, None


class _Gradient(torch.autograd.Function):
    """The gradients (da, dW) of a convolution for (dz, a, W); each is computed only if it is needed."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, inputs: Tensor, weight: Tensor, settings: Settings, needed: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        ctx.save_for_backward(gradient, inputs, weight)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        return _gradients(gradient, inputs, weight, settings, needed)

    @staticmethod
    def backward(ctx: Any, of_inputs: Tensor | None, of_weight: Tensor | None) -> tuple[Tensor | None, ...]:
        """For the incoming gradients u of da and V of dW: u * W + a * V, and the gradients for (dz, V) and (dz, u)."""
        gradient, inputs, weight = ctx.saved_tensors
        groups = ctx.settings[-1]
        to_gradient, to_inputs, to_weight = ctx.needs_input_grad[:3]
        outer = by_input = by_weight = None
        if to_gradient and of_inputs is not None and of_weight is not None and groups == 1:
            both = torch.cat((of_inputs, inputs), 1), torch.cat((weight, of_weight), 1)
            outer = torch.convolution(*both, None, *ctx.settings)
        elif to_gradient:
            terms = [(of_inputs, weight), (inputs, of_weight)]
            for a, w in terms:
                if a is not None and w is not None:
                    image = torch.convolution(a, w, None, *ctx.settings)
                    outer = image if outer is None else outer + image
        if to_inputs and of_weight is not None:
            by_input = _gradients(gradient, inputs, of_weight, ctx.settings, (True, False))[0]
        if to_weight and of_inputs is not None:
            by_weight = _gradients(gradient, of_inputs, weight, ctx.settings, (False, True))[1]
        return outer, by_input, by_weight, None, None


def _gradients(
    gradient: Tensor, inputs: Tensor, weight: Tensor, settings: Settings, needed: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    convolution_backward = torch.ops.aten.convolution_backward
    of_inputs, of_weight, _ = convolution_backward(gradient, inputs, weight, None, *settings, (*needed, False))
    return of_inputs, of_weight
