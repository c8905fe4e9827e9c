"""The loss of language models: cross-entropy of the next token, averaged over tokens."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.losses import IGNORED, Weighted, counted
from landscape.objective.model_calls import called_without_labels, entries_of, logits_of

__all__ = ["TOKEN_ACCURACY", "LanguageModelLoss", "precise", "token_losses"]

TOKEN_ACCURACY = "token_accuracy"
PIECE = 2**20  # number of logits whose losses are computed at once; more would only take more memory


class LanguageModelLoss:
    """Cross-entropy of the next token, averaged over all tokens that count, and the share of them predicted correctly.

    A batch holds "input_ids" [batch, T], or is this tensor alone. As in the transformers library, the entry of
    "labels" [batch, T] at position t is the target of the output at position t - 1, and does not count if it is -100.
    Without labels the targets are the tokens themselves where "attention_mask" is not 0. An encoder-decoder model needs
    labels, which it shifts itself.
    """

    derived: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"perplexity": np.exp}  # functions of the mean loss

    def __init__(self) -> None:
        self.__qualname__ = "language_model"

    def __call__(self, model: nn.Module, batch: Any) -> dict[str, Weighted]:
        labels, shifted = self._labels(model, batch)
        try:
            logits = logits_of(called_without_labels(model, batch))
        except IndexError as error:
            tokens = _tokens(batch)
            raise InputError(
                f"the model fails on tokens {int(tokens.min())} to {int(tokens.max())} in sequences of "
                f"{tokens.shape[1]} ({error}); does the tokenizer belong to it, and does it take such long sequences?"
            ) from error
        return token_losses(logits[:, :-1] if shifted else logits, labels)

    def units(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """The weights [batch] of all terms: how many tokens of each sequence count. They need no forward pass."""
        counts = counted(self._labels(model, batch)[0])
        return {"loss": counts, TOKEN_ACCURACY: counts}

    def _labels(self, model: nn.Module, batch: Any) -> tuple[Tensor, bool]:
        """The targets, and whether the last output has none: [batch, T - 1] and True, or [batch, T] and False.

        Raises:
            InputError: a batch without tokens, or labels that do not belong to them.
        """
        tokens, entries = _tokens(batch), entries_of(batch) or {}
        labels = entries.get("labels")
        if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
            if not isinstance(labels, Tensor):
                raise InputError(
                    "a model of encoder and decoder needs batches with 'labels', which the decoder is to say"
                )
            return labels, False
        if labels is None:
            mask = entries.get("attention_mask")
            labels = tokens if mask is None else torch.where(mask != 0, tokens, IGNORED)
        if labels.shape != tokens.shape:
            raise InputError(
                f"the labels have shape {tuple(labels.shape)}, the tokens {tuple(tokens.shape)}; give both one"
            )
        return labels[:, 1:], True


def token_losses(logits: Tensor, labels: Tensor) -> dict[str, Weighted]:
    """Loss and token accuracy of ``logits`` [batch, T, vocabulary] for ``labels`` [batch, T].

    Both are means over the tokens of each sequence that count, weighted by the number of these tokens.

    Raises:
        InputError: the shapes do not fit, or a label is outside the vocabulary and not -100.
    """
    if logits.shape[:-1] != labels.shape:
        raise InputError(f"the model gives logits {tuple(logits.shape)} for labels {tuple(labels.shape)}")
    _check_vocabulary(labels, logits.shape[-1])
    counts = counted(labels)
    places = counts.clamp(min=1)
    pieces = [_of_samples(*piece) for piece in _pieces(logits, labels)]
    losses, hits = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    losses = losses / places
    return {"loss": Weighted(losses, counts), TOKEN_ACCURACY: Weighted(hits.to(losses) / places, counts)}


def _check_vocabulary(labels: Tensor, size: int) -> None:
    """Raise InputError unless every label is `IGNORED` or one of ``size`` tokens."""
    if not labels.numel():
        return
    lowest, highest = torch.stack(labels.masked_fill(labels == IGNORED, 0).aminmax()).tolist()
    if lowest < 0:
        raise InputError(
            f"a label is {lowest}; labels are tokens from 0 on, and {IGNORED} where a token does not count"
        )
    if highest >= size:
        raise InputError(f"a label is {highest} but the model has {size} outputs; does the tokenizer belong to it?")


def _pieces(logits: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits and labels of some sequences at a time, with about `PIECE` logits but at least one sequence."""
    size = max(1, PIECE // max(1, logits[0].numel()))
    return zip(logits.split(size), labels.split(size), strict=True)


def _of_samples(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """For every sequence [batch] the sum of the losses of its tokens, and how many of them are predicted correctly."""
    size = max(1, PIECE // max(1, len(logits) * logits.shape[-1]))  # tokens whose logits are taken at once
    pieces = [_of_tokens(*piece) for piece in zip(logits.split(size, 1), labels.split(size, 1), strict=True)]
    losses, hits = (torch.cat(parts, 1).sum(1) for parts in zip(*pieces, strict=True))
    return losses, hits


def _of_tokens(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss [batch, T] of every token, and whether it is predicted correctly.

    A token that does not count has the loss 0, and is never predicted correctly.
    """
    flat = F.cross_entropy(precise(logits).flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return flat.view(labels.shape), logits.argmax(-1) == labels


def precise(logits: Tensor) -> Tensor:
    """``logits`` in float32, or in their own dtype if that is at least as precise."""
    return logits.float() if logits.element_size() < 4 else logits


def _tokens(batch: Any) -> Tensor:
    """The tokens [batch, T] of a batch.

    Raises:
        InputError: it has none.
    """
    entries = entries_of(batch)
    tokens = batch if entries is None else entries.get("input_ids")
    if isinstance(tokens, Tensor) and tokens.ndim == 2 and not tokens.is_floating_point():
        return tokens
    held = type(batch).__name__ if entries is None else f"{', '.join(map(repr, entries))}"
    if isinstance(tokens, Tensor):
        held = f"a tensor {list(tokens.shape)} of {str(tokens.dtype).removeprefix('torch.')}"
    raise InputError(
        "loss='language_model' needs batches with 'input_ids' [batch, T] of whole numbers, or such a tensor alone, not "
        f"{held}"
    )
