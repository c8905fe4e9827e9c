"""The loss that a model computes itself, taken apart into losses of single samples where that reproduces it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.language_loss import precise, token_losses
from landscape.objective.losses import IGNORED, Weighted, counted
from landscape.objective.model_calls import called, called_without_labels, labels_of, logits_of, loss_of
from landscape.objective.trees import batch_length, select

__all__ = ["OwnLoss"]

SAME = {torch.float32: 1e-5, torch.float64: 1e-9}  # largest relative error of a formula that reproduces a loss
FAILURES = (RuntimeError, TypeError, ValueError, LookupError)


class OwnLoss:
    """The mean loss that a model returns for a batch, beside its outputs or instead of them, see `loss_of`.

    If a `Formula` of outputs and labels reproduces it, the losses of single samples are those of the formula.
    Otherwise only the mean over each batch is known. Its weight is the number of labels or samples in the batch,
    whichever of `COUNTS` combines the losses of parts of a batch into that of the whole batch.
    """

    def __init__(self, formula: "Formula | None" = None, count: str | None = None):
        self.formula, self.count = formula, count
        how = formula.name if formula else f"weighted by the number of {count}" if count else ""
        self.__qualname__ = f"model ({how})" if how else "model"

    def __call__(self, model: nn.Module, batch: Any) -> Tensor | Weighted:
        if self.formula and (labels := labels_of(batch)) is not None:
            return self.formula.losses(logits_of(called_without_labels(model, batch)), labels)
        loss = _own(model, called(model, batch))
        count = COUNTS[self.count](batch) if self.count else None
        return loss if count is None else Weighted(loss, count.to(loss))

    def units(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """The weights of the terms by name, without a forward pass: [batch], or a scalar for the whole batch."""
        labels = labels_of(batch)
        if self.formula and labels is not None:
            return {"loss": self.formula.units(labels)}
        count = COUNTS[self.count](batch) if self.count else None
        return {} if count is None else {"loss": count}

    def taken_apart(self, run: Callable[..., Any], batches: Iterable[Any]) -> "OwnLoss":
        """The loss in the form that reproduces it on all of ``batches``; ``run(function, batch)`` runs the model."""
        several = [batch for batch in batches if batch_length(batch) > 1]
        known = [(batch, *run(_loss_and_logits, batch)) for batch in several]
        for formula in FORMULAS:
            if known and all(formula.reproduces(loss, logits, labels_of(batch)) for batch, loss, logits in known):
                return OwnLoss(formula)
        counts = [name for name, count in COUNTS.items() if all(count(batch) is not None for batch in several)]
        for name in counts:
            if known and all(_adds_up(partial(run, OwnLoss()), batch, loss, name) for batch, loss, _ in known):
                return OwnLoss(count=name)
        return OwnLoss(count=counts[0])  # the later comparison of batches raises the error that says what is wrong


@dataclass(frozen=True)
class Formula:
    """A way to compute the losses of single samples from outputs and labels."""

    name: str
    losses: Callable[[Tensor, Tensor], Weighted]
    units: Callable[[Tensor], Tensor] = counted  # the weights, from the labels alone

    def reproduces(self, loss: Tensor, logits: Tensor | None, labels: Tensor | None) -> bool:
        """Whether ``loss`` is sum_n w_n l_n / sum_n w_n, with the losses l_n and weights w_n of this formula."""
        if logits is None or labels is None:
            return False
        try:
            weighted = self.losses(logits, labels)
        except FAILURES:  # the formula does not apply to these shapes or types
            return False
        return weighted.values.ndim == 1 and _same(
            (weighted.values * weighted.weights).sum() / weighted.weights.sum(), loss
        )


def _next_token(logits: Tensor, labels: Tensor) -> Weighted:
    return _every_token(logits[:, :-1], labels[:, 1:])


def _every_token(logits: Tensor, labels: Tensor) -> Weighted:
    return token_losses(logits, labels)["loss"]


def _by_class(logits: Tensor, labels: Tensor) -> Weighted:
    losses = F.cross_entropy(precise(logits), labels, reduction="none", ignore_index=IGNORED)
    return Weighted(losses, counted(labels))


def _squares(logits: Tensor, labels: Tensor) -> Weighted:
    return _alike((precise(logits).view_as(labels) - labels).square())


def _yes_or_no(logits: Tensor, labels: Tensor) -> Weighted:
    return _alike(F.binary_cross_entropy_with_logits(precise(logits), labels, reduction="none"))


def _alike(losses: Tensor) -> Weighted:
    """The mean of ``losses`` [batch, ...] over all axes but the first, with weight 1 for every sample."""
    return Weighted(losses.reshape(len(losses), -1).mean(1), losses.new_ones(len(losses)))


def _ones(labels: Tensor) -> Tensor:
    return torch.ones(len(labels))


def _of_next(labels: Tensor) -> Tensor:
    return counted(labels[:, 1:])


FORMULAS = (
    Formula("cross-entropy of the next token", _next_token, _of_next),
    Formula("cross-entropy of every token", _every_token),
    Formula("cross-entropy", _by_class),
    Formula("squared error", _squares, _ones),
    Formula("binary cross-entropy", _yes_or_no, _ones),
)


def _labels(batch: Any) -> Tensor | None:
    labels = labels_of(batch)
    return None if labels is None or labels.is_floating_point() else counted(labels).sum()


def _next_labels(batch: Any) -> Tensor | None:
    labels = labels_of(batch)
    return None if labels is None or labels.ndim < 2 else counted(labels[:, 1:]).sum()


def _samples(batch: Any) -> Tensor | None:
    return torch.tensor(batch_length(batch))


COUNTS: dict[str, Callable[[Any], Tensor | None]] = {
    "labels": _labels,
    "labels but for the first of each sequence": _next_labels,
    "samples": _samples,
}


def _adds_up(loss_at: Callable[[Any], Tensor], batch: Any, loss: Tensor, count: str) -> bool:
    """Whether the ``loss`` of a batch is the mean of the losses of its parts, weighted by their ``count``."""
    length, total, units = batch_length(batch), torch.zeros(()).double(), torch.zeros(()).double()
    try:
        for rows in torch.arange(length).tensor_split([max(1, length // 3)]):
            piece = select(batch, rows, length)
            number = COUNTS[count](piece)
            assert number is not None  # `taken_apart` leaves out counts that a batch does not have
            total, units = total + number.cpu() * loss_at(piece).double().cpu(), units + number.cpu()
    except FAILURES:
        return False
    return _same(total / units, loss)


def _loss_and_logits(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor | None]:
    output = called(model, batch)
    try:
        return _own(model, output), logits_of(output)
    except InputError:
        return _own(model, output), None


def _own(model: nn.Module, output: Any) -> Tensor:
    loss = loss_of(output)
    if loss is None:
        raise InputError(
            f"loss='model': {type(model).__name__} gives no loss for this batch, a scalar as .loss, as entry 'loss' or "
            "as the first part of its output; does the batch hold 'labels'?"
        )
    return loss


def _same(value: Tensor, loss: Tensor) -> bool:
    share = SAME[torch.float64 if loss.dtype == torch.float64 else torch.float32]
    size = loss.detach().double().cpu()
    return bool((value.detach().double().cpu() - size).abs() <= share * size.abs())
