"""The loss and the metrics of an objective: what they give for a batch, and how that averages over all data."""

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
from landscape.objective.terms import LOSS, REGULARIZER, Term, terms_of

__all__ = ["Contract"]

FIRST = 8  # losses that tell networks apart


class Contract:
    """A loss and ``metrics``, whose terms are values of samples, averaged with the weights that they give.

    The weights of all samples are learned once, see `learn_weights`. A loss that is the sum of terms which weigh the
    samples differently, or gives only means over batches that weigh differently, has no losses of single samples: what
    stands for these are contributions, whose plain mean over all data is the loss.
    """

    def __init__(self, settings: Settings):
        self.loss, self.metrics, self.whole = settings.loss, dict(settings.metrics), settings.whole_batch
        self.regularizer = settings.regularizer
        self.has_accuracy = False
        self.ignores = False  # whether some class labels do not count
        self.forms: dict[str, bool] = {LOSS: True}  # name of every term -> whether it has one value a sample
        self.parts: tuple[str, ...] = (LOSS,)  # names of the terms that add up to the loss, which may be one itself
        self.first_losses: list[float] = []  # of a first batch, which tell networks apart
        self.weighs = False  # whether some term gives weights
        self.scales: dict[str, float] = {}  # name -> N / sum of the weights, where samples weigh differently
        self.weights: Tensor | None = None  # [N] float64 of mean 1, on the CPU: of the losses, where these differ

    @property
    def quantity_names(self) -> tuple[str, ...]:
        """Names of the terms and metrics beside the loss."""
        own = (REGULARIZER,) if self.regularizer else ()
        return (*(name for name in self.forms if name != LOSS), *own)

    @property
    def per_sample(self) -> bool:
        """Whether there is a loss of every sample."""
        alike = self.weights is not None or not any(name in self.scales for name in self.parts)
        return alike and all(self.forms[name] for name in self.parts)

    def terms(self, passes: Passes, batch: Any, metrics: bool = True) -> tuple[dict[str, Term], Tensor | None]:
        """The terms of loss and ``metrics`` for ``batch``, by name, and hits as `Measured` has them."""
        hits = None
        if callable(self.loss):
            found = terms_of(passes(self.loss, passes.model, batch))
        else:
            inputs, targets = batch
            losses, hits = self.score(passes(passes.model, inputs), targets, passes.network.dtype)
            found = {LOSS: Term(losses, counted(targets) if self.ignores else None)}
        for name, metric in self.metrics.items() if metrics else ():
            if name in found:
                raise InputError(f"the metric {name!r} has the name of a term of the loss; choose another name")
            found |= terms_of(passes(metric, passes.model, batch), f"the metric {name!r}", name)
        return found, hits

    def score(self, outputs: Tensor, targets: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Losses and hits of ``outputs`` under a named loss."""
        outputs = outputs.to(dtype)
        return LOSSES[str(self.loss)](outputs, targets), outputs.argmax(1) == targets if self.has_accuracy else None

    def measure(self, passes: Passes, batch: Any, count: int, metrics: bool = True) -> tuple[Measured, Tensor | None]:
        """What a batch of ``count`` samples gives, losses as they are, and the weights [batch] of these (or None)."""
        found, hits = self.terms(passes, batch, metrics)
        expected = self.forms if metrics else self.forms.keys() - self.metrics.keys()
        if found.keys() != set(expected):
            raise InputError(f"the loss gives {_listed(found)} for one batch and {_listed(expected)} for another")
        terms = {name: self._spread(name, term, count, passes.network.dtype) for name, term in found.items()}
        quantities = {name: self._scaled(name, term) for name, term in terms.items() if name != LOSS}
        first = self.parts[0]
        if self.weights is not None:
            values = [terms[name].values for name in self.parts]
            return Measured(_sum(values), hits, quantities), terms[first].weights
        losses = self._scaled(LOSS, terms[LOSS]) if first == LOSS else _sum([quantities[name] for name in self.parts])
        return Measured(losses, hits, quantities), None

    def evaluate(self, passes: Passes, batch: Any, count: int, metrics: bool = True) -> Measured:
        """What a batch of ``count`` samples gives, each with its mean over all data."""
        found, weights = self.measure(passes, batch, count, metrics)
        if weights is None and self.regularizer is None:
            return found
        losses, quantities = self._scaled(self.parts[0], Term(found.losses, weights)), found.quantities
        if self.regularizer:
            value = self.regularization(passes)
            losses, quantities = losses + value, quantities | {REGULARIZER: value.expand(count)}
        return Measured(losses, found.hits, quantities)

    def regularization(self, passes: Passes) -> Tensor:
        """The value of the regularizer at the present weights, which belongs to the loss of every sample.

        Raises:
            InputError: it is no real number.
        """
        if self.regularizer is None:
            return torch.zeros((), dtype=passes.network.dtype, device=passes.network.device)
        value = passes(self.regularizer, passes.model)
        if not isinstance(value, Tensor) or value.shape != () or not value.is_floating_point():
            form = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"the regularizer gives {form}; it must give a scalar tensor of floating point")
        return value.to(passes.network.dtype)

    def learn_forms(self, terms: Mapping[str, Term]) -> None:
        """Take the names of all terms, and which have one value a sample, from those of a first batch."""
        self.forms = {name: term.values.ndim == 1 for name, term in terms.items()}
        self.parts = (LOSS,) if LOSS in terms else tuple(name for name in terms if name not in self.metrics)
        self.first_losses = [value for name in self.parts for value in terms[name].values.flatten()[:FIRST].tolist()]
        self.weighs = any(term.weights is not None for term in terms.values())

    def learn_weights(self, passes: Passes, batches: Batches) -> None:
        """Take the weights of all samples, in one pass where the terms give weights.

        Raises:
            InputError: weights that are no weights.
        """
        self.scales, self.weights = {}, None
        found = self._weights(passes, batches) if self.weighs else {}
        for name, weights in found.items():
            _check_weights(name, weights)
        self.scales = {name: float(batches.size / weights.sum()) for name, weights in found.items()}
        first, *others = self.parts
        alike = all(name in found and torch.equal(found[name], found[first]) for name in others)
        if first in found and alike and all(self.forms[name] for name in self.parts):
            self.weights = found[first] * self.scales[first]

    def _weights(self, passes: Passes, batches: Batches) -> dict[str, Tensor]:
        """The weights of all samples or batches [N or batches], float64 on the CPU, of the terms that give some."""
        tells = isinstance(self.loss, LanguageModelLoss | OwnLoss)  # the weights without a forward pass
        if self.metrics or (callable(self.loss) and not tells):
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
        """``term`` with a value for each of ``count`` samples: their mean, where there is only that."""
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
        """N w_n v_n / sum w [batch], whose mean over all data is the weighted mean."""
        if name not in self.scales or term.weights is None:
            return term.values
        # The weights may be whole numbers, whose product with a number is float32.
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
