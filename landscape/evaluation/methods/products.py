"""Matrix products with the samples of a batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["linear"]

IMAGES = 16  # with at least so many images torch uses oneDNN for convolutions, for any number of threads
LEAST_ROWS, LEAST_WORK = 256, 2e6  # for smaller products the preparations of oneDNN cost more than it saves


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """inputs [..., F] @ weight [O, F]^T + bias [O], like `torch.nn.functional.linear`.

    On a CPU in float32 large products are computed as a 1 x 1 convolution whose pixels are the rows. torch computes
    convolutions with oneDNN and linear maps with MKL, which took two to three times as long on the AMD processor on
    which this was measured.
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
    # The rows in memory already have the layout of channels_last images of one line, so that nothing is copied.
    images = flat[:whole].view(IMAGES, 1, whole // IMAGES, -1).permute(0, 3, 1, 2)
    outputs = F.conv2d(images, weight[:, :, None, None], bias).permute(0, 2, 3, 1).reshape(whole, -1)
    if whole < rows:
        outputs = torch.cat([outputs, F.linear(flat[whole:], weight, bias)])
    return outputs.view(*inputs.shape[:-1], -1)
