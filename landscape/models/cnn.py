"""Small convolutional networks."""

from collections.abc import Sequence

from torch import Tensor, nn

from landscape.errors import InputError

__all__ = ["TinyCNN"]


class TinyCNN(nn.Module):
    """Three blocks of a 3 x 3 convolution, ReLU and a 2 x 2 max-pool (16, 32, 32 channels), then one linear layer.

    It has 19,466 parameters by default and takes inputs [N, C, H, W] with H and W of at least 8.

    Raises:
        InputError: the inputs are not images, or they are too small.
    """

    def __init__(self, input_shape: Sequence[int] = (3, 32, 32), classes: int = 10):
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[1:]) < 8:
            raise InputError(f"TinyCNN needs images of 8 x 8 pixels or more, not inputs {tuple(input_shape)}")
        channels, height, width = input_shape
        layers = []
        for before, after in ((channels, 16), (16, 32), (32, 32)):
            # ReLU and max-pool commute, gradients too; pooling first leaves ReLU a quarter of the work.
            layers += [nn.Conv2d(before, after, kernel_size=3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(32 * (height // 8) * (width // 8), classes)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(inputs).flatten(1))
        return logits
