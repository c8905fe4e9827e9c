"""A small convolutional network that can be built with any normalisation layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.errors import InputError
from landscape.models.normalization import normalization_layer
from landscape.models.parts import checked_images, initialize

__all__ = ["NormCNN"]

GROUPS = 8  # of GroupNorm


class NormCNN(nn.Module):
    """Three 3 x 3 convolutions (32, 64, 64 channels), a hidden layer of 128 units and a linear layer.

    A 2 x 2 max-pool follows the second and the third convolution, and dropout with probability 0.25 precedes the last
    layer. The layer ``normalization`` (see `normalization_layer`; "group" has 8 groups) is placed between each of the
    first four layers and its ReLU. So that networks with different normalisations differ in nothing else, all layers
    keep their biases: there are 458,570 parameters without normalisation and at most 868 more with it. Inputs are
    [N, C, H, W] with H and W of at least 4.

    Raises:
        InputError: the inputs are not images or too small, or the normalisation is unknown.
    """

    def __init__(self, input_shape: Sequence[int] = (1, 28, 28), classes: int = 10, *, normalization: str = "batch"):
        super().__init__()
        channels, height, width = checked_images(input_shape, "norm-cnn")
        if min(height, width) < 4:
            raise InputError(f"norm-cnn needs images of 4 x 4 pixels or more, not {height} x {width}")
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.norm1 = normalization_layer(normalization, 32, groups=GROUPS)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.norm2 = normalization_layer(normalization, 64, groups=GROUPS)
        self.conv3 = nn.Conv2d(64, 64, 3, padding=1)
        self.norm3 = normalization_layer(normalization, 64, groups=GROUPS)
        self.fc1 = nn.Linear(64 * (height // 4) * (width // 4), 128)
        self.norm4 = normalization_layer(normalization, 128, images=False, groups=GROUPS)
        self.dropout = nn.Dropout(0.25)
        self.fc2 = nn.Linear(128, classes)
        initialize(self, "relu", last=self.fc2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.norm1(self.conv1(inputs)))
        hidden = F.max_pool2d(torch.relu(self.norm2(self.conv2(hidden))), 2)
        hidden = F.max_pool2d(torch.relu(self.norm3(self.conv3(hidden))), 2)
        hidden = torch.relu(self.norm4(self.fc1(hidden.flatten(1))))
        logits: Tensor = self.fc2(self.dropout(hidden))
        return logits
