"""The loss and the metrics of an objective: their terms for a batch, and the averages over all data."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.objective.batches import Batches
from landscape.objective.language_loss import LanguageModelLoss
from landscape.objective.losses import LOSSES, counted
from landscape.objective.measured import Measured
from landscape.objective.own_loss import OwnLoss
from landscape.objective.passes import Passes
from landscape.objective.settings import Settings
from landscape.objective.shared_forward import shared_forward
from landscape.objective.terms import LOSS, REGULARIZER, Term, terms_of
from landscape.runtime.shards import whole

__all__ = ["Contract"]

FIRST = 8  # first losses that are stored to distinguish networks


class Contract:
    """A loss and metrics, each with one or several terms.

    A term is the average sum_n w_n v_n / sum_n w_n of values v_n over samples; without weights, all w_n are 1. The
    weights of all samples are collected once by `learn_weights`. A loss has no losses of single samples if it is a
    sum of terms with different weights, or if it returns only means over batches of different weight. It then has
    contributions of samples instead, whose plain mean over all data is the loss.
    """

    def __init__(self, settings: Settings):
        self.loss, self.metrics, self.whole = settings.loss, dict(settings.metrics), settings.whole_batch
        self.regularizer = settings.regularizer
        self.has_accuracy = False
        self.ignores = False  # whether some class labels are ignored
        self.forms: dict[str, bool] = {LOSS: True}  # name of every term -> whether it has one value for each sample
        self.parts: tuple[str, ...] = (LOSS,)  # names of the terms whose sum is the loss
        self.first_losses: list[float] = []  # losses of a first batch, to distinguish networks
        self.shares = False  # whether metrics may take the outputs that the loss has computed
        self.weighs = False  # whether some term has weights
        self.scales: dict[str, float] = {}  # name -> N / sum of the weights, for terms with weights
        self.weights: Tensor | None = None  # [N] float64 with mean 1, on the CPU: weights of the losses, None if equal

    @property
    def quantity_names(self) -> tuple[str, ...]:
        """Names of the terms and metrics other than the loss."""
        own = (REGULARIZER,) if self.regularizer else ()
        return (*(name for name in self.forms if name != LOSS), *own)

    @property
    def per_sample(self) -> bool:
        """Whether there is a loss of every sample."""
        alike = self.weights is not None or not any(name in self.scales for name in self.parts)
        return alike and all(self.forms[name] for name in self.parts)

    def terms(self, passes: Passes, batch: Any, metrics: bool = True) -> tuple[dict[str, Term], Tensor | None]:
        """The terms of loss and ``metrics`` for ``batch``, by name, and the hits, see `Measured`."""
        if not (self.shares and metrics):
            return self._terms(passes, batch, metrics)
        with shared_forward(passes.model):
            return self._terms(passes, batch, metrics)

    def _terms(self, passes: Passes, batch: Any, metrics: bool) -> tuple[dict[str, Term], Tensor | None]:
        hits = None
        if callable(self.loss):
            terms = terms_of(passes(self.loss, passes.model, batch))
        else:
            inputs, targets = batch
            losses, hits = self.score(passes(passes.model, inputs), targets, passes.network.dtype)
            terms = {LOSS: Term(losses, counted(targets) if self.ignores else None)}
        for name, metric in self.metrics.items() if metrics else ():
            if name in terms:
                raise InputError(f"the metric {name!r} has the name of a term of the loss; choose another name")
            terms |= terms_of(passes(metric, passes.model, batch), f"the metric {name!r}", name)
        return terms, hits

    def score(self, outputs: Tensor, targets: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Losses and hits of ``outputs`` under a named loss."""
        outputs = outputs.to(dtype)
        return LOSSES[str(self.loss)](outputs, targets), outputs.argmax(1) == targets if self.has_accuracy else None

    def measure(self, passes: Passes, batch: Any, count: int, metrics: bool = True) -> tuple[Measured, Tensor | None]:
        """Results for a batch of ``count`` samples without the regularizer, and the weights [batch] of the losses.

        The losses are not scaled by these weights. The weights are None if the losses need no scaling.
        """
        raw, hits = self.terms(passes, batch, metrics)
        expected = self.forms if metrics else self.forms.keys() - self.metrics.keys()
        if raw.keys() != set(expected):
            raise InputError(f"the loss gives {_listed(raw)} for one batch and {_listed(expected)} for another")
        terms = {name: self._spread(name, term, count, passes.network.dtype) for name, term in raw.items()}
        quantities = {name: self._scaled(name, term) for name, term in terms.items() if name != LOSS}
        first = self.parts[0]
        if self.weights is not None:
            values = [terms[name].values for name in self.parts]
            return Measured(_sum(values), hits, quantities), terms[first].weights
        losses = self._scaled(LOSS, terms[LOSS]) if first == LOSS else _sum([quantities[name] for name in self.parts])
        return Measured(losses, hits, quantities), None

    def evaluate(self, passes: Passes, batch: Any, count: int, metrics: bool = True) -> Measured:
        """Results for a batch of ``count`` samples, scaled so that the plain mean over all N samples is the result."""
        measured, weights = self.measure(passes, batch, count, metrics)
        if weights is None and self.regularizer is None:
            return measured
        losses, quantities = self._scaled(self.parts[0], Term(measured.losses, weights)), measured.quantities
        if self.regularizer:
            value = self.regularization(passes)
            losses, quantities = losses + value, quantities | {REGULARIZER: value.expand(count)}
        return Measured(losses, measured.hits, quantities)

    def regularization(self, passes: Passes) -> Tensor:
        """The value of the regularizer at the present weights, which is added to the loss of every sample.

        Raises:
            InputError: it is not a real number.
        """
        if self.regularizer is None:
            return torch.zeros((), dtype=passes.network.dtype, device=passes.network.device)
        value = passes(self.regularizer, passes.model)
        value = whole(value) if isinstance(value, Tensor) else value  # a network in shards may give it in shards
        if not isinstance(value, Tensor) or value.shape != () or not value.is_floating_point():
            form = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"the regularizer gives {form}; it must give a scalar tensor of floating point")
        return value.to(passes.network.dtype)

    def learn_forms(self, terms: Mapping[str, Term]) -> None:
        """Learn the names of all terms, and whether they have one value for each sample, from a first batch.

        Raises:
            InputError: a term has the name of the regularizer.
        """
        if self.regularizer and REGULARIZER in terms:
            raise InputError(f"a term has the name {REGULARIZER!r}, which is taken by the regularizer; choose another")
        self.forms = {name: term.per_sample for name, term in terms.items()}
        self.parts = (LOSS,) if LOSS in terms else tuple(name for name in terms if name not in self.metrics)
        self.first_losses = [value for name in self.parts for value in terms[name].values.flatten()[:FIRST].tolist()]
        self.weighs = any(term.weights is not None for term in terms.values())

    def learn_weights(self, passes: Passes, batches: Batches) -> None:
        """Learn the weights of all samples, in one pass if the terms have weights.

        Raises:
            InputError: weights are negative or not finite, or all are zero.
        """
        self.scales, self.weights = {}, None
        by_term = self._weights(passes, batches) if self.weighs else {}
        for name, weights in by_term.items():
            _check_weights(name, weights)
        self.scales = {name: float(batches.size / weights.sum()) for name, weights in by_term.items()}
        first, *others = self.parts
        if not all(name in by_term and self.forms[name] for name in self.parts):
            return
        if all(torch.equal(by_term[name], by_term[first]) for name in others):
            self.weights = by_term[first] * self.scales[first]

    def _weights(self, passes: Passes, batches: Batches) -> dict[str, Tensor]:
        """The weights [N or batches] of all samples or batches, in float64 on the CPU, of the terms that have some."""
        without_pass = isinstance(self.loss, LanguageModelLoss | OwnLoss)  # whether weights need no forward pass
        if self.metrics or (callable(self.loss) and not without_pass):
            pieces = [
                {name: term.weights for name, term in self.terms(passes, batch)[0].items() if term.weights is not None}
                for _, batch in batches()
            ]
        elif isinstance(self.loss, LanguageModelLoss | OwnLoss):
            pieces = [self.loss.units(passes.model, batch) for _, batch in batches()]
        else:
            pieces = [{LOSS: counted(targets)} for targets in batches.targets()]
        names = pieces[0]
        return {
            name: torch.cat([piece[name].detach().cpu().double().reshape(-1) for piece in pieces]) for name in names
        }

    def _spread(self, name: str, term: Term, count: int, dtype: torch.dtype) -> Term:
        """``term`` with one value for each of ``count`` samples.

        Where it has only their mean, every sample gets this mean and the same share of the weight.
        """
        values, weights = term.values.to(dtype), term.weights
        if name in self.scales and weights is None:
            raise InputError(f"{name!r} has weights for one batch and none for another")
        if values.ndim and len(values) != count:
            if not self.whole:
                raise InputError(f"{name!r} has {len(values)} values for a batch of {count} samples")
            values, weights = _mean(values, weights)
        if values.ndim:
            return Term(values, weights)
        return Term(values.expand(count), None if weights is None else (weights.to(values) / count).expand(count))

    def _scaled(self, name: str, term: Term) -> Tensor:
        """N w_n v_n / sum_m w_m [batch], whose mean over all N samples is the weighted mean of the values v_n."""
        if name not in self.scales or term.weights is None:
            return term.values
        # Weights may be integers, whose product with a float would be float32, so they are converted first.
        share = term.weights.to(term.values) * self.scales[name]
        return torch.where(term.weights > 0, term.values, 0) * share


def _sum(values: list[Tensor]) -> Tensor:
    return functools.reduce(torch.add, values)


def _mean(values: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if weights is None:
        return values.mean(), None
    total = weights.sum()
    return (torch.where(weights > 0, values, 0) * weights.to(values)).sum() / total.to(values), total


def _check_weights(name: str, weights: Tensor) -> None:
    if bool(weights.isfinite().all()) and bool((weights >= 0).all()) and bool(weights.sum() > 0):
        return
    low, high = weights.aminmax()
    what = "the samples" if name == LOSS else f"the samples in {name!r}"
    raise InputError(
        f"the weights of {what} run from {low:g} to {high:g} and add up to {weights.sum():g}; they must be finite, at "
        "least 0, and above 0 for some sample"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(repr, names)))
