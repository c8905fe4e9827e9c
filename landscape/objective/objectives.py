"""Model + data + loss: the per-sample losses at any point of parameter space."""

import contextlib
import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError, InputTypeError
from landscape.objective.batch_norm import Policy, recalibrate
from landscape.objective.batches import Batches
from landscape.objective.collecting import collect
from landscape.objective.construction import one_pass, settle, take_apart, watch, watch_in_place
from landscape.objective.contract import Contract
from landscape.objective.forward_watch import parameters_touched
from landscape.objective.kinds import network_of
from landscape.objective.layer_order import Order
from landscape.objective.measured import Measured
from landscape.objective.parts import Parts
from landscape.objective.passes import Passes
from landscape.objective.settings import LossName, Precision, Settings
from landscape.objective.settling import buffer_ends, check_buffers, check_source
from landscape.objective.turns import in_order, turns
from landscape.points import Point, as_point
from landscape.runtime import own_torch_state
from landscape.runtime.shards import is_sharded
from landscape.slices.planes import Slice

__all__ = ["Objective", "check_objective", "objective"]


def objective(
    model: nn.Module,
    data: Any,
    *,
    loss: LossName | Callable[..., Any] = "cross_entropy",
    batch_norm: Policy | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype | None = torch.float32,
    precision: Precision = "full",
    batch_size: int | None = None,
    whole_batch: bool = False,
    metrics: Mapping[str, Callable[..., Any]] | None = None,
    regularizer: Callable[..., Any] | None = None,
    copy: bool = True,
    spill: str | Path | None = None,
) -> "Objective":
    """Make the map theta -> losses l_n(theta), n = 1..N, of ``model`` on ``data``.

    The objective computes with a private copy of ``model`` in eval mode; the caller's model, data and global random
    state are not changed. When it is made, it runs a first batch twice and refuses a forward pass that is not
    deterministic. It also divides samples from the whole data into batches in several ways and refuses a loss, term or
    metric that depends on the batches, because it is a sum or a weighted mean, or because it couples samples.

    Args:
        model: Any module; its parameters are replaced by those of the point, its buffers are kept.
        data: A `Data`; a pair (inputs, targets) or another tuple, mapping or dataclass of tensors, arrays or lists of
            numbers; a Dataset; or a DataLoader that returns the same data in every pass. Batches of a DataLoader with
            numbers, strings or lists beside their tensors are kept; other data are divided into batches as needed.
        loss: "cross_entropy" (targets of -100 are ignored, as in torch); "mse" (mean over the outputs; class labels
            become one-hot vectors); a criterion such as torch.nn.CrossEntropyLoss(weight=w); "language_model" (see
            `landscape.objective.language_loss`); "model", the loss that the model itself returns (see
            `landscape.objective.own_loss`); or a callable (model, batch). The callable returns losses [batch], a
            `Weighted`, a scalar that is the mean over the batch, or a dict of these. In a dict the entry "loss", or the
            sum of all entries if there is none, is the loss, and the other entries become quantities of the surface.
            The callable may differentiate the network with respect to its inputs (residuals of differential equations,
            forces, gradient penalties), as in training.
        batch_norm: Statistics of BatchNorm layers: "running" (those of the model), "recalibrate" (estimated from all
            of ``data`` at every point, independent of ``batch_size``) or "batch" (of each batch of ``batch_size``
            samples; a last batch of one sample joins the one before it). None means "recalibrate" on interpolations
            and "running" otherwise.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: Arithmetic of the forward pass, torch.float32 or torch.float64. None leaves parameters in their own dtype
            (with ``copy=False``): points are computed in float32 and rounded to it.
        precision: "full" (products in ``dtype``) or, for float32, the faster "tf32" (CUDA only) or "bf16" (forward
            pass under torch.autocast). Points, losses and averages remain in ``dtype``.
        batch_size: Samples of a forward pass, unless that is chosen by timing. None means 256 for "batch", otherwise
            the number of samples whose inputs take 2 MiB.
        whole_batch: Take all data as one batch, for a loss that couples samples (contrastive, ranking, Cox) or for
            data whose parts have different lengths. Such a loss has no standard error.
        metrics: Further quantities by name: callables (model, batch) that return the forms of a loss except a dict.
            A metric that calls the model with the very tensors of the loss, or of the metric before it, shares their
            forward pass if that does not change its values; others run the model again.
        regularizer: A callable (model) -> scalar that depends on the parameters alone. It is added to the loss of every
            sample, and is also a quantity of the surface. Surfaces compute it once for each point, derivatives once for
            each batch.
        copy: False evaluates the model itself instead of a private copy: while something is computed its parameters
            are moved in place, one after the other, and they are put back bit for bit afterwards, also after an
            exception. Only surfaces, slices and losses at points can be computed this way. A model that fully_shard
            (FSDP2) has divided over several processes is always evaluated like this, by all of them together: each
            moves its own shards, and takes other batches through the same passes.
        spill: With ``copy=False``, a folder for files that hold the model's own weights and the directions, which
            otherwise take memory.

    Raises:
        InputError: data, loss, labels and model do not fit each other; the forward pass is random; or the loss depends
            on the batches.

    Example:
        >>> model, data = torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
        >>> losses = objective(model, data)(dict(model.named_parameters()))
        >>> losses.shape
        torch.Size([5])
    """
    settings = Settings.checked(
        loss=loss,
        metrics=metrics,
        regularizer=regularizer,
        batch_norm=batch_norm,
        device=device,
        dtype=dtype,
        precision=precision,
        batch_size=batch_size,
        whole_batch=whole_batch,
        copy=copy and not is_sharded(model),
        spill=spill,
    )
    return Objective(model, data, settings)


class Objective(Parts):
    """The losses of a network on samples, at any point of parameter space; made by `objective`.

    The properties of its components are those of `Parts`.
    """

    def __init__(self, model: nn.Module, data: Any, settings: Settings) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"the model must be a torch.nn.Module, not {type(model).__name__}")
        network = network_of(model, settings)
        self.passes = Passes(network, settings.precision, settings.is_plain)
        self.contract = Contract(settings)
        self.order: Order | None = None  # of the BatchNorm layers, once it has been watched on all samples
        with self.arithmetic():
            samples = collect(data, settings.whole_batch)
            network.agree(data=samples.description["fingerprint"], **settings.facts)
            samples = samples.to(self.device, network.input_dtype, copy=not self.passes.only_reads)
            self.batches = Batches(samples, settings, network)
            if network.in_place:
                watch_in_place(self.contract, self.passes, self.batches)
            take_apart(self.contract, self.passes, self.batches)
            if not network.in_place:
                watch(self.contract, self.passes, self.batches, model)
            with self.arithmetic():  # again, because `watch` may have changed the default dtype
                settle(self.contract, self.passes, self.batches)

    @own_torch_state()
    @torch.no_grad()
    def __call__(self, point: Point) -> Tensor:
        """Losses [N] of all samples at ``point``, on the CPU.

        Raises:
            InputError: ``point`` does not belong to this network, or is another network with other buffers.
        """
        check_source(self.network, point)
        with self.arithmetic():
            self.move_to(as_point(point))
            return self._all_losses()

    @own_torch_state()
    @torch.no_grad()
    def on(self, slice: Slice, *coordinates: float) -> Tensor:
        """Losses [N] at ``coordinates`` of ``slice``, for which this objective was made by `for_slice`."""
        with self.arithmetic():
            self.network.move_along(slice, coordinates)
            self.renew_statistics(slice.weights_at(*coordinates))
            return self._all_losses()

    def _all_losses(self) -> Tensor:
        """Losses [N] of all samples at the present weights, on the CPU."""
        losses = [(turn, self.losses(turn.batch)) for turn in turns(self)]
        return torch.cat(in_order(self, [(turn.start, part) for turn, part in losses if turn.counts])).cpu()

    def move_to(self, point: Point, weights: Sequence[float] = ()) -> None:
        """Move the network to ``point`` and update the buffers that depend on it, see `renew_statistics`."""
        self.network.move_to(point)
        self.renew_statistics(weights)

    def renew_statistics(self, weights: Sequence[float] = ()) -> None:
        """Update the buffers that depend on the point.

        These are the buffers interpolated between several networks, by the ``weights`` of a slice's directions, and
        with the policy "recalibrate" the BatchNorm statistics.
        """
        self.network.set_between(weights)
        if self.batch_norm == "recalibrate":
            batches = lambda: (batch for _, batch in self.batches())  # noqa: E731
            self.order = recalibrate(self.model, self.losses, batches, self.order)

    def evaluate(self, batch: Any) -> Measured:
        """Losses, hits and quantities of a batch at the present weights, scaled so that plain means are the results.

        If the samples have weights w_n, the losses are N w_n l_n / sum w, whose mean over all data is the weighted
        mean.
        """
        return self.contract.evaluate(self.passes, batch, self.batches.count(batch))

    def losses(self, batch: Any) -> Tensor:
        """The losses of `evaluate`, without computing the metrics."""
        return self.contract.evaluate(self.passes, batch, self.batches.count(batch), metrics=False).losses

    def measure(self, batch: Any) -> Measured:
        """Like `evaluate`, but with losses that are not scaled by weights, and without the regularizer."""
        return self.contract.measure(self.passes, batch, self.batches.count(batch))[0]

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of ``function(*arguments)``, for the network or a callable loss, see `Passes`."""
        return self.passes(function, *arguments)

    def regularization(self, slice: Slice, coordinates: Tensor) -> Tensor:
        """The values [K] of the regularizer at ``coordinates`` [K, axes] of ``slice``, in float64.

        Afterwards the network is at the origin of the slice.
        """
        values = torch.zeros(len(coordinates), dtype=torch.float64)
        with torch.no_grad():
            for number, position in enumerate(coordinates.tolist()):
                self.network.move_along(slice, position)
                values[number] = self.contract.regularization(self.passes).cpu()
            self.network.move_to(slice.origin)
        return values

    def score(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Losses [batch] and hits [batch] of the ``outputs`` of a batch under a named loss; hits may be None."""
        return self.contract.score(outputs, targets, self.dtype)

    def weights_of(self, start: int, stop: int) -> Tensor | None:
        """Weights of the samples ``start`` to ``stop``, with mean 1 over all samples; None if all are 1."""
        weights = self.contract.weights
        return None if weights is None else weights[start:stop]

    def arithmetic(self) -> contextlib.AbstractContextManager[None]:
        """The context of all computations, see `Passes.arithmetic`."""
        return self.passes.arithmetic()

    def check_moves(self, names: Iterable[str]) -> None:
        """Raise InputError if the loss does not follow the parameters ``names``, which are to be moved.

        It does not follow a parameter that it reads from other memory: from the caller's model, to which a patched
        forward, a hook or the loss itself refers, or from tensors that were computed from that model before. Nor does
        it follow any parameter if it reads none of ``names`` on any batch.
        """
        names, touched = list(names), self.passes.touched
        self.network.check_followed(names)
        if touched is None or not names or touched.intersection(names):
            return
        with self.arithmetic(), torch.no_grad():
            for _, batch in self.batches():
                run = partial(one_pass, self.contract, self.passes, batch)
                touched |= parameters_touched(self.model, run, self.dtype)
                if touched.intersection(names):
                    return
        some = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
        raise InputError(
            f"the loss reads none of the parameters that are moved ({some}), so that it cannot change; "
            "does it call the network that is passed to it?"
        )

    def settle_overwritten(self) -> None:
        """Check that passes do not overwrite parameters at this point, so that they need no copies of them.

        Raises:
            InputError: passes overwrite a parameter, see `Network.check_overwritten`.
        """
        if self.network.overwrites:
            for _, batch in self.batches():
                self.losses(batch)
                self.network.check_overwritten()
            self.network.overwrites = False

    def in_full_precision(self) -> "Objective":
        """The same objective, network and samples in full precision."""
        return self._with(passes=self.passes.in_full_precision())

    def without_regularizer(self) -> "Objective":
        """The same objective whose loss is that of the samples alone."""
        contract = copy.copy(self.contract)
        contract.regularizer = None
        return self._with(contract=contract)

    def on_few_samples(self) -> "Objective":
        """The same objective on the few samples of `Batches.few`."""
        return self._with(batches=self.batches.of_few(), order=None)

    def of_network(self, model: nn.Module) -> "Objective":
        """The same objective for another network, with its present buffers."""
        return self._with(passes=self.passes.of(self.network.of(model)), order=None)

    def in_batches(self, most: int) -> "Objective":
        """The same objective in batches of at most ``most`` samples, unless the batches are fixed."""
        return self._with(batches=self.batches.at_most(most))

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "Objective":
        """The same objective with ``function`` applied to the tensors of resident samples."""
        return self._with(batches=self.batches.mapped(function))

    def twin(self) -> "Objective":
        """The same objective and samples with another copy of the network, for another thread."""
        return self._with(passes=self.passes.twin())

    def subset(self, count: int, seed: int, skip: int = 0) -> "Objective":
        """The same objective on ``count`` random samples, or on all if there are fewer or if they are streamed.

        With ``skip`` they are others than the first ``skip`` samples that are drawn from ``seed``.
        """
        batches, contract = self.batches.subset(count, seed, skip), copy.copy(self.contract)
        if contract.weighs:
            contract.learn_weights(self.passes, batches)
        return self._with(batches=batches, contract=contract, order=None)

    def for_slice(self, slice: Slice | None) -> "Objective":
        """This objective with BatchNorm policy and other buffers chosen for ``slice``, or for single points (None).

        Raises:
            InputError: see `check_buffers`.
        """
        if slice is not None:
            check_buffers(self.network, slice)
        several = slice is not None and (slice.networks or 1) > 1
        ends = buffer_ends(self.model, slice) if slice is not None and several else ()
        policy = self.batch_norm or ("recalibrate" if several and self.has_batch_norm else "running")
        # The statistics and buffers of this objective's own network must not change.
        changes = several and (self.has_batch_norm or any(ends)) and not self.network.in_place
        passes = self.passes.twin() if changes else self.passes
        settled = self._with(passes=passes.of(passes.network.under(policy)))
        if ends:
            settled.network.take_buffers(ends)
        return settled

    def _with(self, **parts: Any) -> "Objective":
        """The same objective with other ``parts``."""
        other = copy.copy(self)
        vars(other).update(parts)
        return other


def check_objective(value: Any, call: str) -> None:
    """Raise InputError unless ``value`` is an objective, as ``call`` needs; the message shows how to make one."""
    if not isinstance(value, Objective):
        raise InputTypeError(
            f"{call} takes an objective, made by ll.objective(model, data), not {type(value).__name__}"
        )
