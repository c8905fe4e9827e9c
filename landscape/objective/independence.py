"""Whether the loss of a sample depends on the batch it comes in: tried on samples spread over the data."""

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

EXACT = {torch.float32: 1e-4, torch.float64: 1e-6}  # of the spread of the losses: deviations up to this are rounding
SHRINKS = 0.05  # share of a deviation in float32 that is left in float64 where it was rounding
UNPROVEN = 1e-3  # deviation in float32 that passes where the loss does not run in float64
LEVEL = 1e-3  # share of the size of the losses that counts as spread, for losses that are all the same
RAGGED = (1, 1, 2, 3, 5, 8)  # samples of the first batches of a partition
MOVE = 0.03  # noise of the second point, as a share of the root mean square of a parameter
EXPLAINED = 0.01  # share of the deviation that weights may leave unexplained
SINGLES = 32  # samples by which a refusal tells a weighted mean from a coupling

Partition = list[Tensor]  # the samples of each batch


def check_independence(contract: Contract, passes: Passes, batches: list[Any]) -> None:
    """Raise InputError where the loss or a quantity of samples depends on how they are cut into batches.

    Every one of ``batches`` is evaluated whole, cut in two after a shuffle, and, at a point nearby, cut into ragged
    batches. Statistics of BatchNorm by batch, which are declared, stay those of the whole batch. Deviations count
    relative to the spread of the losses; what nearly vanishes in float64 is rounding.

    Raises:
        InputError: a sum, a weighted mean, samples that are coupled, data whose samples lie along another axis, or a
            loss that fails on other batches; the message says which, and of which term.
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
    """What to do about the first buffer of ``model`` that is no longer as ``before``; None where there is none."""
    for name, buffer in model.named_buffers():
        if name in before and not _same(buffer, before[name]):
            return (
                f"the network changes its buffer {name!r} while it computes (an observer, a cache or a running mean); "
                "make it leave that alone in eval mode"
            )
    return None


def _same(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.equal(found.nan_to_num(), expected.nan_to_num())


def _is_rounding(trial: "_Trial", name: str, deviation: float) -> bool:
    """Whether ``deviation`` comes from the rounding of float32: nearly all of it goes in float64."""
    if trial.passes.network.dtype == torch.float64:
        return False
    try:
        exact = trial.in_double()
        with exact.declared_statistics():
            return exact.deviations()[name] <= SHRINKS * min(deviation, 1.0)
    except (RuntimeError, TypeError, ValueError):  # a loss that closes over tensors in float32
        return deviation <= UNPROVEN


class _Trial:
    """One batch of an objective, cut in several ways."""

    def __init__(self, contract: Contract, passes: Passes, batch: Any, count: int):
        self.contract, self.passes, self.batch, self.count = contract, passes.in_full_precision(), batch, count
        self.buffers = {name: buffer.clone() for name, buffer in passes.model.named_buffers()}
        self.whole = [torch.arange(count)]
        generator = torch.Generator().manual_seed(2)
        cut = max(1, count // 3)
        self.halves = [*torch.randperm(count, generator=generator).tensor_split([cut])]
        ends = [end for end in itertools.accumulate(RAGGED) if end < count]
        self.ragged = [*torch.randperm(count, generator=generator).tensor_split(ends)]

    def in_double(self) -> "_Trial":
        """The same in float64, with a network of its own."""
        double = copy.copy(self)
        double.passes = self.passes.of(self.passes.network.in_double())
        double.batch = map_tensors(lambda t: t.double() if t.is_floating_point() else t, self.batch)
        return double

    def declared_statistics(self) -> contextlib.AbstractContextManager[None]:
        """BatchNorm by batch is declared to couple samples: its statistics are kept meanwhile."""
        if self.passes.network.batch_norm != "batch":
            return contextlib.nullcontext()
        return frozen_statistics(self.passes.model, lambda: self.losses(self.whole))

    def deviations(self) -> dict[str, float]:
        """Of every term, the largest difference between the losses in two partitions, as a share of their spread."""
        here = self.losses(self.whole), self.losses(self.halves)
        with _moved(self.passes.model):
            there = self.losses(self.whole), self.losses(self.ragged)
        found = {}
        for name in here[0]:
            if here[0][name].weights_differ(there[0][name]):
                raise InputError(
                    "the weights of the samples change with the parameters of the network; Weighted takes constant "
                    "ones, and what depends on the parameters belongs into the values"
                )
            pairs = [(whole[name], cut[name]) for whole, cut in (here, there)]
            spread = _spread(pairs[1][0 if self.contract.forms[name] else 1].values)
            found[name] = max(cut.difference(whole, spread) for whole, cut in pairs)
        return found

    def losses(self, partition: Partition) -> dict[str, "_Losses"]:
        """What every term gives for the batches of ``partition``."""
        pieces, found = [self.given(rows) for rows in partition], {}
        order = torch.cat(partition).argsort()
        for name, per_sample in self.contract.forms.items():
            terms = [piece[name] for piece in pieces]
            values = torch.cat([term.values.reshape(-1) for term in terms])
            given = [term.weights.reshape(-1) for term in terms if term.weights is not None]
            weights = torch.cat(given) if given else None
            if per_sample:
                found[name] = _Losses(values[order], weights=None if weights is None else weights[order])
            else:
                sizes = torch.tensor([len(rows) for rows in partition], dtype=torch.float64)
                found[name] = _Losses(values, sizes / self.count if weights is None else weights)
        return found

    def given(self, rows: Tensor) -> dict[str, Term]:
        """Every term of the samples ``rows`` as one batch, in float64 on the CPU."""
        piece = select(self.batch, rows, self.count)
        try:
            found, _ = self.contract.terms(self.passes, piece)
        except (RuntimeError, TypeError, ValueError, LookupError) as error:
            raise InputError(_failure(self, len(rows), error)) from error
        if found.keys() != self.contract.forms.keys():
            raise InputError(
                f"the loss gives {', '.join(map(repr, found))} for {len(rows)} samples, though "
                f"{', '.join(map(repr, self.contract.forms))} for others"
            )
        for name, (values, _) in found.items():
            if values.shape != ((len(rows),) if self.contract.forms[name] else ()):
                raise InputError(
                    f"{named(name)} has {tuple(values.shape)} values for {len(rows)} samples, though "
                    f"{'one a sample' if self.contract.forms[name] else 'one mean'} for others"
                )
        return {
            name: Term(_exact(values), None if weights is None else _exact(weights))
            for name, (values, weights) in found.items()
        }


def _exact(values: Tensor) -> Tensor:
    return values.cpu().double()


@dataclass
class _Losses:
    """Losses in one partition."""

    values: Tensor  # [count] in the order of the samples, or [batches] means
    shares: Tensor | None = None  # [batches] of the weights in each, where there are means only
    weights: Tensor | None = None  # [count], where the samples weigh differently

    def difference(self, other: "_Losses", spread: float) -> float:
        """Largest difference between what must be the same, as a share of ``spread``."""
        if self.shares is not None and other.shares is not None:
            own, others = self._mean(self.shares), other._mean(other.shares)
            total = _difference(self.shares.sum()[None], other.shares.sum()[None], float(other.shares.sum()) or 1.0)
            return max(total, _difference(own, others, spread))
        found = _difference(self.values, other.values, spread)
        if self.weights is None or other.weights is None:
            return found
        return max(found, _difference(self.weights, other.weights, _spread(other.weights)))

    def _mean(self, shares: Tensor) -> Tensor:
        """[1], over the batches."""
        return ((self.values * shares).sum() / shares.sum())[None]

    def weights_differ(self, other: "_Losses") -> bool:
        """Whether the samples weigh otherwise."""
        if self.weights is None or other.weights is None:
            return False
        return _difference(self.weights, other.weights, _spread(other.weights)) > EXACT[torch.float32]


def _difference(found: Tensor, expected: Tensor, spread: float) -> float:
    """max |found - expected| / spread; infinite where only one of two is finite, those that both are not left out."""
    finite = found.isfinite()
    if not torch.equal(finite, expected.isfinite()):
        return math.inf
    largest = float((found - expected)[finite].abs().amax()) if finite.any() else 0.0
    return largest / spread


def _spread(values: Tensor) -> float:
    """Standard deviation of the finite ``values``, or a small share of their size where that is more."""
    finite = values[values.isfinite()]
    if not len(finite):
        return 1.0
    size = float(finite.abs().mean())
    return float(finite.std(correction=0)) + LEVEL * size + torch.finfo(torch.float64).tiny


@contextlib.contextmanager
def _moved(model: nn.Module) -> Iterator[None]:
    """Put ``model`` at a point nearby meanwhile."""
    before = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        for number, (parameter, value) in enumerate(before):
            if value.is_floating_point() or value.is_complex():
                generator = torch.Generator(value.device).manual_seed(number)
                noise = torch.randn(value.shape, generator=generator, dtype=value.dtype, device=value.device)
                size = float(value.abs().square().mean().sqrt()) if value.numel() else 0.0
                parameter.data = value + noise * MOVE * (size or 1.0)
        yield
    finally:
        for parameter, value in before:
            parameter.data = value


def _failure(trial: _Trial, count: int, error: Exception) -> str:
    """What to say of a loss that fails on ``count`` samples, but not on the others."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if name := _batch_normalised(trial.passes):
        return _coupled_by(name)
    return (
        f"the loss fails on a batch of {count} samples, though not on one of {trial.count} ({reason}); make it take "
        "any number of samples, or give whole_batch=True, which takes all data as one batch"
    )


def _diagnosis(trial: _Trial, name: str, deviation: float) -> str:
    """Why the term ``name`` depends on the batches, and what to do."""
    whole = "whole_batch=True takes all data as one batch"
    scalar = "the scalar loss" if name == LOSS else f"the scalar quantity {name!r}"
    if advice := changed_buffer(trial.passes.model, trial.buffers):
        return f"the losses depend on what was computed before: {advice}"
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
                f"{scalar} is not the mean over the samples of a batch: samples weigh differently (by class, or "
                "by the tokens or pixels that count); return Weighted(values, weights), with one value and weight a "
                f"sample; {whole}"
            )
    size = "infinitely much" if math.isinf(deviation) else f"{deviation:.2g} of the spread of the losses"
    return (
        f"{named(name)} of a sample depends on the others of its batch, by {size}: the loss or a layer couples them "
        "(as contrastive losses, rankings and balancing terms do), or attends along the axis of the samples (see "
        f"batch_first); return one loss a sample that depends on it alone, or Weighted(values, weights); {whole}"
    )


def _batch_normalised(passes: Passes) -> str | None:
    """The name of a BatchNorm layer without statistics of its own, where that is not declared."""
    if passes.network.batch_norm == "batch":
        return None
    for name, module in passes.model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            return str(name)
    return None


def _coupled_by(name: str) -> str:
    return (
        f"the BatchNorm layer {name!r} has no statistics of its own (track_running_stats=False), so that the loss of a "
        "sample depends on the others of its batch; declare that with batch_norm='batch', or give whole_batch=True, "
        "which takes all data as one batch"
    )


def _is_sum(trial: _Trial, name: str) -> bool:
    """Whether the term of a batch is the sum of those of its parts."""
    whole, parts = trial.losses(trial.whole)[name].values, trial.losses(trial.ragged)[name].values
    return bool((parts.sum() - whole).abs() < UNPROVEN * trial.count * _spread(parts / trial.count))


def _is_weighted_mean(trial: _Trial, name: str) -> bool:
    """Whether weights of single samples, told by pairs, explain the term of several."""
    rows = torch.arange(min(trial.count, SINGLES))
    single = torch.cat([trial.losses([row[None]])[name].values for row in rows])
    rows = rows[single.isfinite()]
    if len(rows) < 3:
        return False
    first, others = rows[0], rows[1:]
    paired = torch.cat([trial.losses([torch.stack([first, other])])[name].values for other in others])
    share = (paired - single[first]) / (single[others] - single[first])  # of the other in the weights of a pair
    weights = torch.cat([torch.ones(1), share / (1 - share)])
    explained = (weights * single[rows]).sum() / weights.sum()
    observed = trial.losses([rows])[name].values[0]
    positive = bool((weights > 0).all() and weights.isfinite().all())
    return positive and bool((explained - observed).abs() <= EXPLAINED * (single[rows].mean() - observed).abs())


def _adds_along_second_axis(trial: _Trial, name: str) -> bool:
    """Whether the term is the mean over parts that are cut along the second axis of all tensors."""
    tensors = [tensor for tensor in tensors_of(trial.batch) if tensor.ndim]
    widths = {tensor.shape[1] if tensor.ndim > 1 else 0 for tensor in tensors}
    if len(widths) != 1 or (width := widths.pop()) < 2:
        return False
    found = torch.zeros(1, dtype=torch.float64)
    try:
        for columns in torch.arange(width).tensor_split([max(1, width // 3)]):
            part = map_parts(functools.partial(_columns, columns), trial.batch)
            terms, _ = trial.contract.terms(trial.passes, part)
            found = found + len(columns) / width * terms[name].values.cpu().double()
    except (RuntimeError, TypeError, ValueError, LookupError):
        return False
    whole = trial.losses(trial.whole)[name].values
    if found.shape != whole.shape:
        return False
    size = _spread(whole) if trial.contract.forms[name] else float(whole.abs().mean())
    return _difference(found, whole, size) < UNPROVEN


def _columns(columns: Tensor, tensor: Tensor) -> Tensor:
    return tensor[:, columns.to(tensor.device)]
