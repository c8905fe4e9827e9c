"""Augmentation of batches of images by random crops and mirror images."""

import torch
from torch import Tensor

from landscape.datasets import Data
from landscape.errors import InputError

__all__ = ["Augmentation"]


class Augmentation:
    """Cut a random crop of the original size out of every image, after padding it with a black border.

    With the kind "crop-flip" each image is also mirrored left to right with probability 1/2. The border is an eighth
    of the image wide: 4 pixels for 32 x 32, as in He et al. 2016, "Deep Residual Learning for Image Recognition",
    section 4.2. Random numbers are drawn on the CPU from ``generator``.

    Raises:
        InputError: the data are not images.
    """

    def __init__(self, kind: str, data: Data, generator: torch.Generator):
        if data.inputs.ndim != 4:
            raise InputError(f"augment {kind} needs images, which {data.name} does not contain; use augment none")
        self.flip, self.generator = kind == "crop-flip", generator
        self.black = -(torch.tensor(data.mean) / torch.tensor(data.std))[:, None, None]

    def __call__(self, images: Tensor) -> Tensor:
        """The augmented ``images`` [B, C, H, W], of the same size, in the memory layout channels_last."""
        count, channels, height, width = images.shape
        above, beside = height // 8, width // 8
        padded = self.black.to(images).expand(count, channels, height + 2 * above, width + 2 * beside).clone()
        padded[:, :, above : above + height, beside : beside + width] = images
        rows = torch.arange(height) + self._random_integers(2 * above + 1, count)
        columns = torch.arange(width).expand(count, width)
        if self.flip:
            columns = torch.where(self._random_integers(2, count) == 1, columns.flip(1), columns)
        columns = columns + self._random_integers(2 * beside + 1, count)
        indices = (torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :])
        samples, rows, columns = (index.to(images.device) for index in indices)
        return padded[samples, :, rows, columns].permute(0, 3, 1, 2)  # indexed [B, H, W, C]

    def _random_integers(self, below: int, count: int) -> Tensor:
        """``count`` integers [count, 1], each uniform on 0 to ``below`` - 1."""
        return torch.randint(below, (count, 1), generator=self.generator)
