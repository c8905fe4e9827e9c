"""One small network for every normalisation layer."""

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
    """Three 3 x 3 convolutions (32, 64, 64 channels), a hidden layer of 128 units and a linear one, to compare norms.

    A 2 x 2 max-pool follows the second and the third convolution, dropout of 0.25 comes before the last layer.
    ``normalization`` (see `normalization_layer`; "group" has 8 groups) stands between each of the first four layers
    and its ReLU. All layers keep their biases under every normalisation, so that nothing else differs: 458,570
    parameters without one, at most 868 more with one. Inputs [N, C, H, W] with H and W of at least 4.

    Raises:
        InputError: inputs that are no images or too small, unknown normalisation.
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
