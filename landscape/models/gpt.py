"""A small transformer that predicts the next token."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from landscape.errors import InputError

__all__ = ["GPT"]


class GPT(nn.Module):
    """Decoder-only transformer with pre-norm blocks: tokens [batch, T] -> logits [batch, T, classes].

    Every block computes x + attention(norm(x)), then x + mlp(norm(x)), as GPT-2 does (Radford et al. 2019, "Language
    Models are Unsupervised Multitask Learners", section 2.3); position t sees the tokens up to t alone.

    Args:
        input_shape: (positions,), the longest sequence.
        classes: size of the vocabulary.
        layers: blocks.
        heads: of the attention of every block.
        width: of the residual stream.
        tied: use the embedding of the tokens as the weight of the head too.

    Raises:
        InputError: a size below 1, a shape of images, a width that is no multiple of the heads.

    Example:
        >>> import torch
        >>> model = GPT((16,), classes=10, layers=1, heads=2, width=8)
        >>> model(torch.zeros(3, 16, dtype=torch.int64)).shape
        torch.Size([3, 16, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (128,),
        classes: int = 256,
        *,
        layers: int = 5,
        heads: int = 4,
        width: int = 128,
        tied: bool = True,
    ):
        super().__init__()
        if len(input_shape) != 1:
            raise InputError(f"gpt needs sequences of tokens (positions,), not inputs {tuple(input_shape)}")
        sizes = {"positions": input_shape[0], "classes": classes, "layers": layers, "heads": heads, "width": width}
        for name, size in sizes.items():
            if size < 1:
                raise InputError(f"{name} is {size}; a gpt needs at least 1")
        if width % heads:
            raise InputError(f"width is {width}, no multiple of {heads} heads")
        self.positions = input_shape[0]
        self.token_embedding = nn.Embedding(classes, width)
        self.position_embedding = nn.Embedding(self.positions, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes, bias=False)
        if tied:
            self.head.weight = self.token_embedding.weight
        _initialize(self, layers)

    def forward(self, input_ids: Tensor) -> Tensor:
        length = input_ids.shape[1]
        if length > self.positions:
            raise InputError(f"a sequence of {length} tokens is longer than the {self.positions} positions of this gpt")
        stream = self.token_embedding(input_ids) + self.position_embedding.weight[:length]
        logits: Tensor = self.head(self.norm(self.blocks(stream)))
        return logits


class Block(nn.Module):
    """Attention and a perceptron, each added to the residual stream."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, stream: Tensor) -> Tensor:
        stream = stream + self.attention(self.norm1(stream))
        raised: Tensor = stream + self.mlp(self.norm2(stream))
        return raised


class Attention(nn.Module):
    """Causal self-attention of several heads, softmax(q k^T / sqrt(width of a head)) v."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, stream: Tensor) -> Tensor:
        parts = self.queries_keys_values(stream).unflatten(2, (3, self.heads, -1)).transpose(1, 3)
        queries, keys, values = parts.unbind(2)  # [batch, heads, T, width of a head] each
        mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        projected: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))
        return projected


class MLP(nn.Module):
    """Two layers with a GELU between them, four times as wide there."""

    def __init__(self, width: int):
        super().__init__()
        self.expansion = nn.Linear(width, 4 * width)
        self.projection = nn.Linear(4 * width, width)

    def forward(self, stream: Tensor) -> Tensor:
        projected: Tensor = self.projection(F.gelu(self.expansion(stream)))
        return projected


def _initialize(model: GPT, layers: int) -> None:
    """N(0, 0.02^2) for all weights, less for what adds to the residual stream, as in GPT-2; biases are 0."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.Linear):
            added = name.endswith(".projection")
            nn.init.normal_(module.weight, std=0.02 / math.sqrt(2 * layers) if added else 0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
