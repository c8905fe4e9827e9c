"""VGG networks for small images."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from landscape.errors import InputError
from landscape.models.normalization import WITHOUT_SHIFT, normalization_layer
from landscape.models.parts import activation_layer, checked_images, initialize

__all__ = ["VGG"]

# Channels of the convolutions; a 2 x 2 max-pool follows each stage.
STAGES = {
    9: ((64, 64), (128, 128), (256, 256, 256)),
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
}


class VGG(nn.Module):
    """3 x 3 convolutions in stages that end in a max-pool, then fully connected layers; ``depth`` layers in all.

    The convolutions of depths 11 and 16 are configurations A and D of Simonyan and Zisserman 2015, "Very Deep
    Convolutional Networks for Large-Scale Image Recognition", table 1. Depth 9 is the network of Li et al. 2018,
    "Visualizing the Loss Landscape of Neural Nets": the first seven convolutions of depth 16 and one hidden layer.
    For small images the hidden layers are only as wide as the last convolution. Every layer but the last is
    normalised, and there is no dropout. Inputs are [N, C, H, W] of any size: pooling rounds up.

    Raises:
        InputError: the depth is not 9, 11 or 16, the inputs are not images, or activation or normalisation are
            unknown.
    """

    def __init__(
        self,
        depth: int,
        input_shape: Sequence[int] = (3, 32, 32),
        classes: int = 10,
        *,
        activation: str = "relu",
        normalization: str = "batch",
    ):
        super().__init__()
        if depth not in STAGES:
            raise InputError(f"a VGG has depth {', '.join(map(str, STAGES))}, not {depth}")
        before, height, width = checked_images(input_shape, f"vgg{depth}")
        bias, stages = normalization in WITHOUT_SHIFT, STAGES[depth]  # the other normalisations add a shift themselves
        layers: list[nn.Module] = []
        for stage in stages:
            for after in stage:
                layers.append(nn.Conv2d(before, after, 3, padding=1, bias=bias))
                layers += [normalization_layer(normalization, after), activation_layer(activation)]
                before = after
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)

        shrink = 2 ** len(stages)
        inputs, layers = before * math.ceil(height / shrink) * math.ceil(width / shrink), []
        for _ in range(depth - sum(map(len, stages)) - 1):
            layers.append(nn.Linear(inputs, before, bias=bias))
            layers += [normalization_layer(normalization, before, images=False), activation_layer(activation)]
            inputs = before
        self.hidden = nn.Sequential(*layers)
        self.fc = nn.Linear(before, classes)
        initialize(self, activation, last=self.fc)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.hidden(self.features(inputs).flatten(1)))
        return logits
