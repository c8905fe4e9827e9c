"""Matrix products with the samples of a batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["linear"]

IMAGES = 16  # from which on torch leaves convolutions to oneDNN whatever the number of threads
LEAST_ROWS, LEAST_WORK = 256, 2e6  # below, oneDNN's preparations cost more than it saves


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """inputs [..., F] @ weight [O, F]^T + bias [O], as `torch.nn.functional.linear`.

    On a CPU in float32 as a convolution with a kernel of one pixel, whose positions are the rows: torch leaves
    convolutions to oneDNN, and linear maps to MKL, which took two to three times as long on the AMD processor where
    this was measured.
    """
    flat = inputs.flatten(0, -2)
    rows = len(flat)
    if (
        inputs.device.type != "cpu"
        or inputs.dtype != torch.float32
        or rows < LEAST_ROWS
        or rows * weight.numel() < LEAST_WORK
    ):
        return F.linear(inputs, weight, bias)
    whole = rows - rows % IMAGES
    # Rows in memory are channels_last images of one line each: nothing is copied.
    images = flat[:whole].view(IMAGES, 1, whole // IMAGES, -1).permute(0, 3, 1, 2)
    outputs = F.conv2d(images, weight[:, :, None, None], bias).permute(0, 2, 3, 1).reshape(whole, -1)
    if whole < rows:
        outputs = torch.cat([outputs, F.linear(flat[whole:], weight, bias)])
    return outputs.view(*inputs.shape[:-1], -1)
