"""The check, on samples from the whole data, that the loss of a sample does not depend on the rest of its batch."""

import contextlib
import copy
import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.batch_norm import frozen_statistics
from landscape.objective.contract import Contract
from landscape.objective.passes import Passes
from landscape.objective.terms import LOSS, Term, named
from landscape.objective.trees import batch_length, map_parts, map_tensors, select, tensors_of

__all__ = ["changed_buffer", "check_independence"]

EXACT = {torch.float32: 1e-4, torch.float64: 1e-6}  # largest deviation by rounding, as a share of the losses' spread
SHRINKS = 0.05  # share of a deviation in float32 that may be left in float64 if it was rounding
UNPROVEN = 1e-3  # largest deviation in float32 that is accepted if the loss cannot be computed in float64
LEVEL = 1e-3  # share of the size of the losses that is added to their spread, for losses that are all equal
RAGGED = (1, 1, 2, 3, 5, 8)  # sizes of the first batches of the ragged partition
HALF_UNITS = 8  # rounding errors of losses that are computed in half precision, in units of their last place
MOVE = 0.03  # noise of the second point, as a share of the root mean square of each parameter
EXPLAINED = 0.01  # share of a deviation that a weighted mean may leave unexplained
SINGLES = 32  # samples used to distinguish a weighted mean from coupled samples

Partition = list[Tensor]  # the samples of each batch


def check_independence(contract: Contract, passes: Passes, batches: list[Any]) -> None:
    """Raise InputError if the loss, or a quantity, of samples depends on their division into batches.

    Each of ``batches`` is evaluated as a whole and divided in two after a shuffle, and at a point nearby as a whole and
    divided into ragged batches. The comparison at the second point is left out for a network that is not copied. With
    the BatchNorm policy "batch", which declares such a dependence, the statistics of the whole batch are kept.
    Deviations are measured relative to the spread of the losses; a deviation that nearly vanishes in float64 is
    rounding.

    Raises:
        InputError: the loss of a batch is a sum or a weighted mean, samples are coupled, the samples lie along another
            axis of the data, or the loss fails for other batches; the message says which, and for which term.
    """
    for batch in batches:
        if (count := batch_length(batch)) < 2:
            continue
        trial = _Trial(contract, passes, batch, count)
        with trial.declared_statistics():
            for name, deviation in trial.deviations().items():
                if deviation > EXACT[passes.network.dtype] and not _is_rounding(trial, name, deviation):
                    raise InputError(_diagnosis(trial, name, deviation))


def changed_buffer(model: nn.Module, before: dict[str, Tensor]) -> str | None:
    """A message about the first buffer of ``model`` that has changed since ``before``; None if none has."""
    for name, buffer in model.named_buffers():
        if name in before and not _same(buffer, before[name]):
            return (
                f"the network changes its buffer {name!r} while it computes (an observer, a cache or a running mean); "
                "change it so that it does not do that in eval mode"
            )
    return None


def _same(value: Tensor, expected: Tensor) -> bool:
    return value.shape == expected.shape and torch.equal(value.nan_to_num(), expected.nan_to_num())


def _is_rounding(trial: "_Trial", name: str, deviation: float) -> bool:
    """Whether ``deviation`` comes from rounding in float32, so that it nearly vanishes in float64."""
    if trial.passes.network.dtype == torch.float64:
        return False
    try:
        exact = trial.in_double()
        with exact.declared_statistics():
            return exact.deviations()[name] <= SHRINKS * min(deviation, 1.0)
    except (RuntimeError, TypeError, ValueError):  # for instance a loss that uses tensors in float32
        return deviation <= UNPROVEN


class _Trial:
    """One batch of an objective and its partitions."""

    def __init__(self, contract: Contract, passes: Passes, batch: Any, count: int):
        self.contract, self.passes, self.batch, self.count = contract, passes.in_full_precision(), batch, count
        self.level = max(LEVEL, HALF_UNITS * passes.network.weights_eps / EXACT[passes.network.dtype])
        self.buffers = {name: buffer.clone() for name, buffer in passes.model.named_buffers()}
        self.whole = [torch.arange(count)]
        generator = torch.Generator().manual_seed(2)
        cut = max(1, count // 3)
        self.halves = [*torch.randperm(count, generator=generator).tensor_split([cut])]
        ends = [end for end in itertools.accumulate(RAGGED) if end < count]
        self.ragged = [*torch.randperm(count, generator=generator).tensor_split(ends)]

    def in_double(self) -> "_Trial":
        """This trial in float64, with another copy of the network."""
        double = copy.copy(self)
        double.passes = self.passes.of(self.passes.network.in_double())
        double.batch = map_tensors(lambda t: t.double() if t.is_floating_point() else t, self.batch)
        return double

    def declared_statistics(self) -> contextlib.AbstractContextManager[None]:
        """A block in which BatchNorm with the policy "batch" uses the statistics of the whole batch."""
        if self.passes.network.batch_norm != "batch":
            return contextlib.nullcontext()
        return frozen_statistics(self.passes.model, lambda: self.losses(self.whole))

    def deviations(self) -> dict[str, float]:
        """For every term the largest difference between its losses in two partitions, as a share of their spread.

        Raises:
            InputError: the weights of the samples change with the parameters.
        """
        here = self.losses(self.whole), self.losses(self.halves)
        if self.passes.network.in_place:
            there = here
        else:
            with _moved(self.passes.model):
                there = self.losses(self.whole), self.losses(self.ragged)
        largest = {}
        for name in here[0]:
            if here[0][name].weights_differ(there[0][name]):
                raise InputError(
                    "the weights of the samples change with the parameters of the network; Weighted needs constant "
                    "weights, and factors that depend on the parameters belong into the values"
                )
            pairs = [(whole[name], cut[name]) for whole, cut in (here, there)]
            spread = _spread(pairs[1][0 if self.contract.forms[name] else 1].values, self.level)
            largest[name] = max(cut.difference(whole, spread) for whole, cut in pairs)
        return largest

    def losses(self, partition: Partition) -> dict[str, "_Losses"]:
        """The losses of every term in the batches of ``partition``."""
        pieces, losses = [self.terms(rows) for rows in partition], {}
        order = torch.cat(partition).argsort()
        for name, per_sample in self.contract.forms.items():
            terms = [piece[name] for piece in pieces]
            values = torch.cat([term.values.reshape(-1) for term in terms])
            parts = [term.weights.reshape(-1) for term in terms if term.weights is not None]
            weights = torch.cat(parts) if parts else None
            if per_sample:
                losses[name] = _Losses(values[order], weights=None if weights is None else weights[order])
            else:
                sizes = torch.tensor([len(rows) for rows in partition], dtype=torch.float64)
                losses[name] = _Losses(values, sizes / self.count if weights is None else weights)
        return losses

    def terms(self, rows: Tensor) -> dict[str, Term]:
        """Every term for the samples ``rows`` as one batch, in float64 on the CPU.

        Raises:
            InputError: the loss fails, or has other terms or shapes than for the first batch.
        """
        piece = select(self.batch, rows, self.count)
        try:
            terms, _ = self.contract.terms(self.passes, piece)
        except (RuntimeError, TypeError, ValueError, LookupError) as error:
            raise InputError(_failure(self, len(rows), error)) from error
        if terms.keys() != self.contract.forms.keys():
            raise InputError(
                f"the loss gives {', '.join(map(repr, terms))} for {len(rows)} samples, though "
                f"{', '.join(map(repr, self.contract.forms))} for others"
            )
        for name, (values, _) in terms.items():
            if values.shape != ((len(rows),) if self.contract.forms[name] else ()):
                raise InputError(
                    f"{named(name)} has {tuple(values.shape)} values for {len(rows)} samples, though "
                    f"{'one a sample' if self.contract.forms[name] else 'one mean'} for others"
                )
        return {
            name: Term(_exact(values), None if weights is None else _exact(weights))
            for name, (values, weights) in terms.items()
        }


def _exact(values: Tensor) -> Tensor:
    return values.cpu().double()


@dataclass
class _Losses:
    """The losses of one term in one partition."""

    values: Tensor  # [count] in the order of the samples, or [batches] means
    shares: Tensor | None = None  # [batches] weights of the means, by default shares of the samples; only for means
    weights: Tensor | None = None  # [count]; only if the samples have different weights

    def difference(self, other: "_Losses", spread: float) -> float:
        """The largest difference between losses that must be equal, as a share of ``spread``."""
        if self.shares is not None and other.shares is not None:
            own, others = self._mean(self.shares), other._mean(other.shares)
            total = _difference(self.shares.sum()[None], other.shares.sum()[None], float(other.shares.sum()) or 1.0)
            return max(total, _difference(own, others, spread))
        difference = _difference(self.values, other.values, spread)
        if self.weights is None or other.weights is None:
            return difference
        return max(difference, _difference(self.weights, other.weights, _spread(other.weights)))

    def _mean(self, shares: Tensor) -> Tensor:
        """The mean [1] over the batches, weighted by ``shares``."""
        return ((self.values * shares).sum() / shares.sum())[None]

    def weights_differ(self, other: "_Losses") -> bool:
        """Whether the weights of the samples differ from those in ``other``."""
        if self.weights is None or other.weights is None:
            return False
        return _difference(self.weights, other.weights, _spread(other.weights)) > EXACT[torch.float32]


def _difference(values: Tensor, expected: Tensor, spread: float) -> float:
    """max |values - expected| / spread over finite values; infinite unless both are finite at the same positions."""
    finite = values.isfinite()
    if not torch.equal(finite, expected.isfinite()):
        return math.inf
    largest = float((values - expected)[finite].abs().amax()) if finite.any() else 0.0
    return largest / spread


def _spread(values: Tensor, level: float = LEVEL) -> float:
    """Standard deviation of the finite ``values`` plus a share ``level`` of their mean size."""
    finite = values[values.isfinite()]
    if not len(finite):
        return 1.0
    size = float(finite.abs().mean())
    return float(finite.std(correction=0)) + level * size + torch.finfo(torch.float64).tiny


@contextlib.contextmanager
def _moved(model: nn.Module) -> Iterator[None]:
    """Move the parameters of ``model`` to a point nearby inside the block."""
    before = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        for number, (parameter, value) in enumerate(before):
            if value.is_floating_point() or value.is_complex():
                generator = torch.Generator().manual_seed(number)
                noise = torch.randn(value.shape, generator=generator, dtype=value.dtype).to(value.device)
                size = float(value.abs().square().mean().sqrt()) if value.numel() else 0.0
                parameter.data = value + noise * MOVE * (size or 1.0)
        yield
    finally:
        for parameter, value in before:
            parameter.data = value


def _failure(trial: _Trial, count: int, error: Exception) -> str:
    """The message about a loss that fails for a batch of ``count`` samples, but not for the whole batch."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if name := _batch_normalised(trial.passes):
        return _coupled_by(name)
    return (
        f"the loss fails on a batch of {count} samples, though not on one of {trial.count} ({reason}); make it take "
        "any number of samples, or pass whole_batch=True, which takes all data as one batch"
    )


def _diagnosis(trial: _Trial, name: str, deviation: float) -> str:
    """The message that says why the term ``name`` depends on the batches, and what to do."""
    whole = "whole_batch=True takes all data as one batch"
    scalar = "the scalar loss" if name == LOSS else f"the scalar quantity {name!r}"
    if advice := changed_buffer(trial.passes.model, trial.buffers):
        return f"the losses depend on earlier passes: {advice}"
    if layer := _batch_normalised(trial.passes):
        return _coupled_by(layer)
    if _adds_along_second_axis(trial, name):
        return (
            "the samples lie along the second axis of the data, as in a [T, B] network, but batches are cut along the "
            f"first; put the samples first (batch_first=True); {whole}"
        )
    if not trial.contract.forms[name]:
        if _is_sum(trial, name):
            return (
                f"{scalar} is not the mean over the samples of a batch but their sum, which grows with the batch; "
                f"return the mean, or one value a sample; {whole}"
            )
        if _is_weighted_mean(trial, name):
            return (
                f"{scalar} is not the mean over the samples of a batch: samples have different weights (by class, or "
                "by their number of tokens or pixels); return Weighted(values, weights), with one value and weight a "
                f"sample; {whole}"
            )
    size = "infinitely much" if math.isinf(deviation) else f"{deviation:.2g} of the spread of the losses"
    return (
        f"{named(name)} of a sample depends on the others of its batch, by {size}: the loss or a layer couples them "
        "(as contrastive losses, rankings and balancing terms do), or attends along the axis of the samples (see "
        f"batch_first); return one loss a sample that depends on it alone, or Weighted(values, weights); {whole}"
    )


def _batch_normalised(passes: Passes) -> str | None:
    """The name of the first BatchNorm layer without running statistics, unless the policy is "batch"."""
    if passes.network.batch_norm == "batch":
        return None
    for name, module in passes.model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            return str(name)
    return None


def _coupled_by(name: str) -> str:
    return (
        f"the BatchNorm layer {name!r} has no running statistics (track_running_stats=False), so that the loss of a "
        "sample depends on the others of its batch; declare that with batch_norm='batch', or pass whole_batch=True, "
        "which takes all data as one batch"
    )


def _is_sum(trial: _Trial, name: str) -> bool:
    """Whether the term of a batch is the sum of the terms of its parts."""
    whole, parts = trial.losses(trial.whole)[name].values, trial.losses(trial.ragged)[name].values
    return bool((parts.sum() - whole).abs() < UNPROVEN * trial.count * _spread(parts / trial.count))


def _is_weighted_mean(trial: _Trial, name: str) -> bool:
    """Whether weights of single samples, computed from pairs of samples, explain the term of more samples.

    If a pair has the value v_ab = (1 - s) v_a + s v_b, its weights have the ratio w_b / w_a = s / (1 - s).
    """
    rows = torch.arange(min(trial.count, SINGLES))
    single = torch.cat([trial.losses([row[None]])[name].values for row in rows])
    rows = rows[single.isfinite()]
    if len(rows) < 3:
        return False
    first, others = rows[0], rows[1:]
    paired = torch.cat([trial.losses([torch.stack([first, other])])[name].values for other in others])
    share = (paired - single[first]) / (single[others] - single[first])  # of the other sample in the weights of a pair
    weights = torch.cat([torch.ones(1), share / (1 - share)])
    explained = (weights * single[rows]).sum() / weights.sum()
    observed = trial.losses([rows])[name].values[0]
    positive = bool((weights > 0).all() and weights.isfinite().all())
    return positive and bool((explained - observed).abs() <= EXPLAINED * (single[rows].mean() - observed).abs())


def _adds_along_second_axis(trial: _Trial, name: str) -> bool:
    """Whether the term is the mean of its values for parts divided along the second axis of all tensors."""
    tensors = [tensor for tensor in tensors_of(trial.batch) if tensor.ndim]
    widths = {tensor.shape[1] if tensor.ndim > 1 else 0 for tensor in tensors}
    if len(widths) != 1 or (width := widths.pop()) < 2:
        return False
    mean = torch.zeros(1, dtype=torch.float64)
    try:
        for columns in torch.arange(width).tensor_split([max(1, width // 3)]):
            part = map_parts(functools.partial(_columns, columns), trial.batch)
            terms, _ = trial.contract.terms(trial.passes, part)
            mean = mean + len(columns) / width * terms[name].values.cpu().double()
    except (RuntimeError, TypeError, ValueError, LookupError):
        return False
    whole = trial.losses(trial.whole)[name].values
    if mean.shape != whole.shape:
        return False
    size = _spread(whole) if trial.contract.forms[name] else float(whole.abs().mean())
    return _difference(mean, whole, size) < EXACT[trial.passes.network.dtype]


def _columns(columns: Tensor, tensor: Tensor) -> Tensor:
    return tensor[:, columns.to(tensor.device)]
