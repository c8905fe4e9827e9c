"""Whether the loss of a sample depends on the batch it comes in: tried on samples spread over the data."""

import contextlib
import copy
import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.batch_norm import frozen_statistics
from landscape.objective.trees import batch_length, map_parts, map_tensors, select, tensors_of
from landscape.points import copy_of

if TYPE_CHECKING:
    from landscape.objective.objectives import Objective

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


def check_independence(objective: "Objective", batches: list[Any]) -> None:
    """Raise InputError where the loss of samples depends on how they are cut into batches.

    Every one of ``batches`` is evaluated whole, cut in two after a shuffle, and, at a point nearby, cut into ragged
    batches. Statistics of BatchNorm by batch, which are declared, stay those of the whole batch. Deviations count
    relative to the spread of the losses; what nearly vanishes in float64 is rounding.

    Raises:
        InputError: a sum, a weighted mean, samples that are coupled, data whose samples lie along another axis, or a
            loss that fails on other batches; the message says which.
    """
    for batch in batches:
        if (count := batch_length(batch)) < 2:
            continue
        trial = _Trial(objective, batch, count)
        with trial.declared_statistics():
            deviation = trial.deviation()
            if deviation > EXACT[objective.dtype] and not _is_rounding(trial, deviation):
                raise InputError(_diagnosis(trial, deviation))


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


def _is_rounding(trial: "_Trial", deviation: float) -> bool:
    """Whether ``deviation`` comes from the rounding of float32: nearly all of it goes in float64."""
    if trial.objective.dtype == torch.float64:
        return False
    try:
        exact = trial.in_double()
        with exact.declared_statistics():
            return exact.deviation() <= SHRINKS * min(deviation, 1.0)
    except (RuntimeError, TypeError, ValueError):  # a loss that closes over tensors in float32
        return deviation <= UNPROVEN


class _Trial:
    """One batch of an objective, cut in several ways."""

    def __init__(self, objective: "Objective", batch: Any, count: int):
        self.objective, self.batch, self.count = copy.copy(objective), batch, count
        self.objective.precision = "full"
        self.buffers = {name: buffer.clone() for name, buffer in objective.model.named_buffers()}
        self.whole = [torch.arange(count)]
        generator = torch.Generator().manual_seed(2)
        cut = max(1, count // 3)
        self.halves = [*torch.randperm(count, generator=generator).tensor_split([cut])]
        ends = [end for end in itertools.accumulate(RAGGED) if end < count]
        self.ragged = [*torch.randperm(count, generator=generator).tensor_split(ends)]

    def in_double(self) -> "_Trial":
        """The same in float64, with a network of its own."""
        double = copy.copy(self)
        double.objective = copy.copy(self.objective)
        double.objective.dtype = torch.float64
        double.objective.model = copy_of(self.objective.model).double()
        double.batch = map_tensors(lambda t: t.double() if t.is_floating_point() else t, self.batch)
        return double

    def declared_statistics(self) -> contextlib.AbstractContextManager[None]:
        """BatchNorm by batch is declared to couple samples: its statistics are kept meanwhile."""
        if self.objective.batch_norm != "batch":
            return contextlib.nullcontext()
        return frozen_statistics(self.objective.model, lambda: self.losses(self.whole))

    def deviation(self) -> float:
        """Largest difference between the losses in two partitions, as a share of their spread."""
        here = self.losses(self.whole), self.losses(self.halves)
        with _moved(self.objective.model):
            there = self.losses(self.whole), self.losses(self.ragged)
        if here[0].weights_differ(there[0]):
            raise InputError(
                "the weights of the samples change with the parameters of the network; Weighted takes constant ones, "
                "and what depends on the parameters belongs into the values"
            )
        spread = _spread(there[0].values if self.objective.per_sample else there[1].values)
        return max(cut.difference(whole, spread) for whole, cut in (here, there))

    def losses(self, partition: Partition) -> "_Losses":
        """What the loss gives for the batches of ``partition``."""
        values, weights = zip(*map(self.given, partition), strict=True)
        if not self.objective.per_sample:
            shares = torch.tensor([len(rows) for rows in partition], dtype=torch.float64) / self.count
            return _Losses(torch.cat(values), shares)
        order = torch.cat(partition).argsort()
        weighted = None if weights[0] is None else torch.cat(weights)[order]
        return _Losses(torch.cat(values)[order], weights=weighted)

    def given(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Losses and weights of the samples ``rows`` as one batch, or their mean [1], in float64 on the CPU."""
        piece = select(self.batch, rows, self.count)
        try:
            found, weights = self.objective._measure(piece)
        except (RuntimeError, TypeError, ValueError, LookupError) as error:
            raise InputError(_failure(self, len(rows), error)) from error
        values = found.losses
        if values.shape != (len(rows),):
            raise InputError(
                f"the loss gives {tuple(values.shape)} values for {len(rows)} samples, though one a sample for others"
            )
        values = values if self.objective.per_sample else values[:1]
        return values.cpu().double(), None if weights is None else weights.cpu().double()


@dataclass
class _Losses:
    """Losses in one partition."""

    values: Tensor  # [count] in the order of the samples, or [batches] means
    shares: Tensor | None = None  # [batches] of the samples, where there are means only
    weights: Tensor | None = None  # [count], where the samples weigh differently

    def difference(self, other: "_Losses", spread: float) -> float:
        """Largest difference between what must be the same, as a share of ``spread``."""
        if self.shares is not None and other.shares is not None:
            own, others = (self.values * self.shares).sum(), (other.values * other.shares).sum()
            return _difference(own[None], others[None], spread)
        found = _difference(self.values, other.values, spread)
        if self.weights is None or other.weights is None:
            return found
        return max(found, _difference(self.weights, other.weights, _spread(other.weights)))

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
    if name := _batch_normalised(trial.objective):
        return _coupled_by(name)
    return (
        f"the loss fails on a batch of {count} samples, though not on one of {trial.count} ({reason}); make it take "
        "any number of samples, or give whole_batch=True, which takes all data as one batch"
    )


def _diagnosis(trial: _Trial, deviation: float) -> str:
    """Why the losses depend on the batches, and what to do."""
    whole = "whole_batch=True takes all data as one batch"
    if advice := changed_buffer(trial.objective.model, trial.buffers):
        return f"the losses depend on what was computed before: {advice}"
    if name := _batch_normalised(trial.objective):
        return _coupled_by(name)
    if _adds_along_second_axis(trial):
        return (
            "the samples lie along the second axis of the data, as in a [T, B] network, but batches are cut along the "
            f"first; put the samples first (batch_first=True); {whole}"
        )
    if not trial.objective.per_sample:
        if _is_sum(trial):
            return (
                "the scalar loss is not the mean over the samples of a batch but their sum, which grows with "
                f"the batch; return the mean, or one loss a sample; {whole}"
            )
        if _is_weighted_mean(trial):
            return (
                "the scalar loss is not the mean over the samples of a batch: samples weigh differently (by class, or "
                "by the tokens or pixels that count); return Weighted(values, weights), with one value and weight a "
                f"sample; {whole}"
            )
    size = "infinitely much" if math.isinf(deviation) else f"{deviation:.2g} of the spread of the losses"
    return (
        f"the loss of a sample depends on the others of its batch, by {size}: the loss or a layer couples them (as "
        "contrastive losses, rankings and balancing terms do), or attends along the axis of the samples (see "
        f"batch_first); return one loss a sample that depends on it alone, or Weighted(values, weights); {whole}"
    )


def _batch_normalised(objective: "Objective") -> str | None:
    """The name of a BatchNorm layer without statistics of its own, where that is not declared."""
    if objective.batch_norm == "batch":
        return None
    for name, module in objective.model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            return str(name)
    return None


def _coupled_by(name: str) -> str:
    return (
        f"the BatchNorm layer {name!r} has no statistics of its own (track_running_stats=False), so that the loss of a "
        "sample depends on the others of its batch; declare that with batch_norm='batch', or give whole_batch=True, "
        "which takes all data as one batch"
    )


def _is_sum(trial: _Trial) -> bool:
    """Whether the loss of a batch is the sum of those of its parts."""
    whole, parts = trial.losses(trial.whole).values, trial.losses(trial.ragged).values
    return bool((parts.sum() - whole).abs() < UNPROVEN * trial.count * _spread(parts / trial.count))


def _is_weighted_mean(trial: _Trial) -> bool:
    """Whether weights of single samples, told by pairs, explain the loss of several."""
    rows = torch.arange(min(trial.count, SINGLES))
    single = torch.cat([trial.given(row[None])[0] for row in rows])
    rows = rows[single.isfinite()]
    if len(rows) < 3:
        return False
    first, others = rows[0], rows[1:]
    paired = trial.losses([torch.stack([first, other]) for other in others]).values
    share = (paired - single[first]) / (single[others] - single[first])  # of the other in the weights of a pair
    weights = torch.cat([torch.ones(1), share / (1 - share)])
    explained = (weights * single[rows]).sum() / weights.sum()
    observed = trial.losses([rows]).values[0]
    positive = bool((weights > 0).all() and weights.isfinite().all())
    return positive and bool((explained - observed).abs() <= EXPLAINED * (single[rows].mean() - observed).abs())


def _adds_along_second_axis(trial: _Trial) -> bool:
    """Whether the loss is the mean over parts that are cut along the second axis of all tensors."""
    tensors = [tensor for tensor in tensors_of(trial.batch) if tensor.ndim]
    widths = {tensor.shape[1] if tensor.ndim > 1 else 0 for tensor in tensors}
    if len(widths) != 1 or (width := widths.pop()) < 2:
        return False
    found = torch.zeros(1, dtype=torch.float64)
    try:
        for columns in torch.arange(width).tensor_split([max(1, width // 3)]):
            part = map_parts(functools.partial(_columns, columns), trial.batch)
            found = found + len(columns) / width * trial.objective.measure(part).losses.cpu().double()
    except (RuntimeError, TypeError, ValueError, LookupError):
        return False
    whole = trial.losses(trial.whole).values
    if trial.objective.per_sample:
        return _difference(found, whole, _spread(whole)) < UNPROVEN
    return _difference(found[:1], whole, float(whole.abs().mean())) < UNPROVEN


def _columns(columns: Tensor, tensor: Tensor) -> Tensor:
    return tensor[:, columns.to(tensor.device)]
