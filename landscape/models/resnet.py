"""Residual networks for small images."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.errors import InputError
from landscape.models.normalization import WITHOUT_SHIFT, normalization_layer
from landscape.models.parts import activation_layer, checked_images, initialize

__all__ = ["ResNet"]


class ResNet(nn.Module):
    """The ResNet for CIFAR of depth 6n + 2: 3 x 3 convolutions in three stages of n blocks (16, 32, 64 channels).

    At the start of a stage that halves the image, the shortcut takes every second pixel and pads the channels with
    zeros (option A, which has no parameters). ``shortcuts=False`` removes all shortcuts, as in "ResNet-noshort" of Li
    et al. 2018, "Visualizing the Loss Landscape of Neural Nets", section 5. Inputs are [N, C, H, W] of any size;
    there are 269,722 parameters at depth 20.

    Without normalisation the last convolution of each of the L residual branches is initialised 1 / sqrt(L) times
    smaller, so that the signal does not grow with the depth (Hanin and Rolnick 2018, "How to Start Training",
    section 5).

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.

    Raises:
        InputError: the depth is not 6n + 2, the inputs are not images, or activation or normalisation are unknown.
    """

    def __init__(
        self,
        depth: int,
        input_shape: Sequence[int] = (3, 32, 32),
        classes: int = 10,
        *,
        shortcuts: bool = True,
        activation: str = "relu",
        normalization: str = "batch",
    ):
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise InputError(f"a ResNet has depth 6n + 2 (8, 14, 20, ...), not {depth}; or use torchvision:resnet18")
        channels, _, _ = checked_images(input_shape, f"resnet{depth}")
        self.stem = _convolution(channels, 16, 1, normalization)
        self.norm = normalization_layer(normalization, 16)
        self.activation = activation_layer(activation)
        blocks, before = [], 16
        for after, first_stride in ((16, 1), (32, 2), (64, 2)):
            for stride in (first_stride, *[1] * ((depth - 2) // 6 - 1)):
                blocks.append(Block(before, after, stride, shortcuts, activation, normalization))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(before, classes)
        initialize(self, activation, last=self.fc)
        if shortcuts and normalization == "none":
            with torch.no_grad():
                for block in blocks:
                    block.conv2.weight /= math.sqrt(len(blocks))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.activation(self.norm(self.stem(inputs)))
        logits: Tensor = self.fc(self.blocks(hidden).mean((2, 3)))
        return logits


class Block(nn.Module):
    """Two normalised 3 x 3 convolutions; with ``shortcut`` the input is added before the last activation."""

    def __init__(self, before: int, after: int, stride: int, shortcut: bool, activation: str, normalization: str):
        super().__init__()
        self.shortcut, self.stride, self.padding = shortcut, stride, (after - before) // 2
        self.conv1 = _convolution(before, after, stride, normalization)
        self.norm1 = normalization_layer(normalization, after)
        self.conv2 = _convolution(after, after, 1, normalization)
        self.norm2 = normalization_layer(normalization, after)
        self.activation = activation_layer(activation)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.activation(self.norm1(self.conv1(inputs)))
        hidden = self.norm2(self.conv2(hidden))
        if self.shortcut:
            kept = inputs[:, :, :: self.stride, :: self.stride]
            hidden = hidden + (F.pad(kept, (0, 0, 0, 0, self.padding, self.padding)) if self.padding else kept)
        outputs: Tensor = self.activation(hidden)
        return outputs


def _convolution(before: int, after: int, stride: int, normalization: str) -> nn.Conv2d:
    """A 3 x 3 convolution; it has a bias only if the normalisation after it adds no shift."""
    return nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=normalization in WITHOUT_SHIFT)
