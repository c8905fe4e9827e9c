"""Normalisation layers by name, among them two pointwise layers that squash their inputs instead of normalising."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from landscape.checks import check_choice

__all__ = [
    "NORMALIZATIONS",
    "WITHOUT_SHIFT",
    "ChannelRMSNorm",
    "DynamicTanhNorm",
    "Normalization",
    "PiecewiseNorm",
    "normalization_layer",
]

Normalization = Literal["batch", "layer", "group", "rms", "dyt", "piecewise", "none"]
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)
WITHOUT_SHIFT = ("rms", "none")  # normalisations that add no shift, so that the layer before them keeps its bias
EPSILON = 1e-5  # as in torch's BatchNorm and GroupNorm
ALPHA = 0.5  # Zhu et al. 2025, section 4: the initial scale of the input
TAIL = 0.1  # the initial slope of the tails: small, but above zero, so that no gradient vanishes


class ChannelRMSNorm(nn.RMSNorm):
    """y_c = w_c x_c / sqrt(mean over channels of x^2 + 1e-5), separately at every position of inputs [N, C, ...].

    No mean is subtracted and no shift is added.
    Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", section 4.
    """

    def __init__(self, channels: int):
        super().__init__(channels, eps=EPSILON)

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs.movedim(1, -1)).movedim(-1, 1)


class DynamicTanhNorm(nn.Module):
    """y_c = w_c tanh(alpha x_c) + b_c for inputs [N, C, ...]; alpha is one learnable number, 0.5 at the start.

    Source: Zhu et al. 2025, "Transformers without Normalization", section 4.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([ALPHA]))
        self.weight, self.bias = _scale_and_shift(channels)

    def forward(self, inputs: Tensor) -> Tensor:
        weight, bias = (_per_channel(value, inputs) for value in (self.weight, self.bias))
        return weight * torch.tanh(self.alpha * inputs) + bias


class PiecewiseNorm(nn.Module):
    """y_c = w_c h(alpha x_c) + b_c for inputs [N, C, ...], h piecewise linear with learnable tails.

    h(u) = u for |u| <= 1 and sign(u) (1 + s_c (|u| - 1)) beyond. The three pieces meet at u = -1 and 1 for all values
    of the parameters, so h stays continuous during training. The learnable number alpha (0.5 at the start, as in
    dynamic tanh) places the knots at x = -1 / alpha and 1 / alpha. s_c is the slope of the tails of channel c relative
    to the middle (0.1 at the start; 0 gives a hard tanh, 1 the identity); the scale w_c starts at 1 and the shift b_c
    at 0.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([ALPHA]))
        self.tail = nn.Parameter(torch.full((channels,), TAIL))
        self.weight, self.bias = _scale_and_shift(channels)

    def forward(self, inputs: Tensor) -> Tensor:
        weight, bias, tail = (_per_channel(value, inputs) for value in (self.weight, self.bias, self.tail))
        scaled = self.alpha * inputs
        middle = scaled.clamp(-1, 1)
        return weight * (middle + tail * (scaled - middle)) + bias


def normalization_layer(name: str, channels: int, *, images: bool = True, groups: int | None = None) -> nn.Module:
    """The layer ``name`` for inputs [N, ``channels``, H, W], or [N, ``channels``] if ``images`` is false.

    "batch" (BatchNorm), "layer" (GroupNorm with one group: over channels and positions of a sample), "group"
    (GroupNorm), "rms" (`ChannelRMSNorm`), "dyt" (`DynamicTanhNorm`), "piecewise" (`PiecewiseNorm`) or "none".
    GroupNorm has ``groups`` groups; by default 32 (Wu and He 2018, section 4.1), or fewer if a group would have less
    than 4 channels.

    Raises:
        InputError: the name is unknown.
    """
    check_choice("normalization", name, NORMALIZATIONS)
    if name == "batch":
        return nn.BatchNorm2d(channels) if images else nn.BatchNorm1d(channels)
    if name in ("layer", "group"):
        return nn.GroupNorm(1 if name == "layer" else groups or min(32, channels // 4), channels)
    own = {"rms": ChannelRMSNorm, "dyt": DynamicTanhNorm, "piecewise": PiecewiseNorm}
    return own[name](channels) if name in own else nn.Identity()


def _scale_and_shift(channels: int) -> tuple[nn.Parameter, nn.Parameter]:
    return nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))


def _per_channel(value: Tensor, inputs: Tensor) -> Tensor:
    """``value`` [C] in a shape that broadcasts over ``inputs`` [N, C, ...]."""
    return value.view(-1, *[1] * (inputs.ndim - 2))
