"""Model + data + loss: the per-sample losses at any point of parameter space."""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.errors import InputError, InputTypeError
from landscape.objective.batch_norm import Policy, recalibrate
from landscape.objective.batches import Batches
from landscape.objective.collecting import collect
from landscape.objective.construction import one_pass, settle, take_apart, watch
from landscape.objective.contract import Contract
from landscape.objective.forward_watch import parameters_touched
from landscape.objective.layer_order import Order
from landscape.objective.measured import Measured
from landscape.objective.network import Network
from landscape.objective.passes import Passes
from landscape.objective.samples import Samples
from landscape.objective.settings import Precision, Settings
from landscape.objective.settling import buffer_ends, check_buffers
from landscape.points import Point, as_point
from landscape.presenting import Presented
from landscape.runtime import own_torch_state
from landscape.slices.planes import Slice

__all__ = ["Objective", "check_objective", "objective"]


def objective(
    model: nn.Module,
    data: Any,
    *,
    loss: str | Callable[..., Any] = "cross_entropy",
    batch_norm: Policy | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    precision: Precision = "full",
    batch_size: int | None = None,
    whole_batch: bool = False,
    metrics: Mapping[str, Callable[..., Any]] | None = None,
    regularizer: Callable[..., Any] | None = None,
) -> "Objective":
    """The map theta -> losses l_n(theta), n = 1..N, of ``model`` on ``data``.

    Works on a private copy of ``model`` in eval mode: the caller's model and data and the global random state stay as
    they are. Construction runs the first batch twice and refuses a forward pass that is not deterministic. It tries
    samples from all over the data in several batches and refuses a loss, term or metric that depends on the batches: a
    sum, a weighted mean, or one that couples samples.

    Args:
        model: any module; its parameters are replaced by those of the point, its buffers are kept.
        data: a `Data`, a pair (inputs, targets) or other tuple, mapping or dataclass of tensors, arrays or lists of
            numbers, a Dataset, or a DataLoader that gives the same data each pass. Batches that hold numbers, strings
            or lists beside their tensors stay as they are; others are cut as suits.
        loss: "cross_entropy" (targets of -100 do not count, as in torch), "mse" (mean over output units; one-hot for
            class labels of several outputs), a criterion such as torch.nn.CrossEntropyLoss(weight=w), "language_model"
            (see `landscape.objective.language_loss`), "model" (that which the model computes itself, see
            `landscape.objective.own_loss`), or a callable (model, batch). That gives losses [batch], a `Weighted`, a
            scalar that is the mean over the batch, or a dict of these: its entry "loss", or the sum of all where there
            is none, is the loss, and the others are quantities of the same pass. It may differentiate the network by
            its inputs (residuals of differential equations, forces, gradient penalties) as in training.
        batch_norm: statistics of BatchNorm layers: "running" (the model's own), "recalibrate" (re-estimated on
            all of ``data`` at every point, independent of ``batch_size``) or "batch" (of each batch of
            ``batch_size`` samples; a last one of one sample joins the one before it). None stands for "recalibrate"
            on interpolations, else "running".
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: arithmetic of the forward pass, torch.float32 or torch.float64.
        precision: "full" (products in ``dtype``), or faster ones for float32: "tf32" (CUDA only), "bf16" (the
            forward pass under torch.autocast). Points, losses and averages stay in ``dtype``.
        batch_size: samples a forward pass, where that is not chosen by timing. None: 256 under "batch", otherwise
            as many as make inputs of 2 MiB.
        whole_batch: all data are one batch, for losses that couple samples (contrastive, ranking, Cox) or whose data
            have parts of several lengths. Such a loss has no standard error.
        metrics: further quantities by name, callables (model, batch) with the forms of a loss but for the dict. Each
            runs the model by itself; terms in the dict of a loss cost no pass of their own.
        regularizer: a callable (model) -> scalar of the parameters alone, added to the loss of every sample, and a
            quantity of its own. It is computed once a point on surfaces, and once a batch in derivatives.

    Raises:
        InputError: data, loss, labels or model that do not fit each other; a random forward pass; a loss that
            depends on the batches.

    Example:
        >>> model, data = torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
        >>> losses = objective(model, data)(dict(model.named_parameters()))
        >>> losses.shape
        torch.Size([5])
    """
    settings = Settings.checked(
        loss, dict(metrics or {}), regularizer, batch_norm, device, dtype, precision, batch_size, whole_batch
    )
    return Objective(model, data, settings)


class Objective(Presented):
    """A loss of a network on samples, at any point of parameter space; `objective` makes one.

    Four parts: ``batches`` (the samples), ``passes`` (how the network and the loss are run), its ``network`` (which is
    put at points) and ``contract`` (what loss and metrics give for a batch).
    """

    def __init__(self, model: nn.Module, data: Any, settings: Settings) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"the model must be a torch.nn.Module, not {type(model).__name__}")
        network = Network(model, settings.device, settings.dtype, settings.batch_norm)
        self.passes = Passes(network, settings.precision, settings.is_plain)
        self.contract = Contract(settings)
        self.order: Order | None = None  # of the BatchNorm layers, once it has been watched on all samples
        with self.arithmetic():
            samples = collect(data, settings.whole_batch).to(self.device, self.dtype, copy=not self.passes.only_reads)
            self.batches = Batches(samples, settings, network.has_batch_norm)
            take_apart(self.contract, self.passes, self.batches)
            watch(self.contract, self.passes, self.batches, model)
            with self.arithmetic():  # the default dtype may be another one by now
                settle(self.contract, self.passes, self.batches)

    @own_torch_state()
    @torch.no_grad()
    def __call__(self, point: Point, weights: Sequence[float] = ()) -> Tensor:
        """Losses [N] of all samples at ``point``, on the CPU; ``weights`` are those of the directions of a slice.

        Raises:
            InputError: ``point`` does not belong to this network.
        """
        with self.arithmetic():
            self.move_to(as_point(point), weights)
            return torch.cat([self.losses(batch).cpu() for _, batch in self.batches()])

    def on(self, slice_: Slice, *coordinates: float) -> Tensor:
        """Losses [N] at ``coordinates`` of ``slice_``, for which this objective is settled, see `for_slice`."""
        return self(slice_(*coordinates), slice_.weights_at(*coordinates))

    def move_to(self, point: Point, weights: Sequence[float] = ()) -> None:
        """Put the private network at ``point`` and renew what follows from it, see `renew_statistics`."""
        self.network.move_to(point)
        self.renew_statistics(weights)

    def renew_statistics(self, weights: Sequence[float] = ()) -> None:
        """Set what the present weights, or the ``weights`` of the directions of a slice, decide besides parameters.

        These are the buffers between several networks and, under "recalibrate", the BatchNorm statistics.
        """
        self.network.set_between(weights)
        if self.batch_norm == "recalibrate":
            batches = lambda: (batch for _, batch in self.batches())  # noqa: E731
            self.order = recalibrate(self.model, self.losses, batches, self.order)

    def evaluate(self, batch: Any) -> Measured:
        """Losses, hits and quantities of a batch at the present weights, each with its mean over all data.

        Where samples weigh differently the losses are N w_n l_n / sum w, whose mean over all data is the weighted mean.
        """
        return self.contract.evaluate(self.passes, batch, self.batches.count(batch))

    def losses(self, batch: Any) -> Tensor:
        """The losses that `evaluate` gives, without the metrics."""
        return self.contract.evaluate(self.passes, batch, self.batches.count(batch), metrics=False).losses

    def measure(self, batch: Any) -> Measured:
        """As `evaluate`, with the losses of single samples as they are, whatever these weigh, without a regularizer."""
        return self.contract.measure(self.passes, batch, self.batches.count(batch))[0]

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(*arguments)``, the network or the callable loss, see `Passes`."""
        return self.passes(function, *arguments)

    def regularization(self, slice_: Slice, coordinates: Tensor) -> Tensor:
        """What the regularizer adds to every loss at ``coordinates`` [K, axes] of ``slice_``, [K] in float64.

        The network is at the origin of the slice afterwards.
        """
        found = torch.zeros(len(coordinates), dtype=torch.float64)
        with torch.no_grad():
            for number, place in enumerate(coordinates.tolist()):
                self.network.move_to(slice_(*place))
                found[number] = self.contract.regularization(self.passes).cpu()
            self.network.move_to(slice_.origin)
        return found

    def score(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Losses and hits of ``outputs`` under a named loss."""
        return self.contract.score(outputs, targets, self.dtype)

    def weights_of(self, start: int, stop: int) -> Tensor | None:
        """Weights of the samples from ``start`` to ``stop``, of mean 1 over all samples; None where all are 1."""
        weights = self.contract.weights
        return None if weights is None else weights[start:stop]

    def arithmetic(self) -> contextlib.AbstractContextManager[None]:
        """What all computation runs in, see `Passes.arithmetic`."""
        return self.passes.arithmetic()

    def check_moves(self, names: Iterable[str]) -> None:
        """Raise InputError where the loss does not follow a parameter of ``names`` that is moved.

        That is one whose values it reads from elsewhere: from the model that was passed in, which a patched forward, a
        hook or the loss itself holds on to, or from what was computed from it before.
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
            f"the loss reads none of the parameters that are moved ({some}), so that nothing could change; "
            "does it call the network that it is given?"
        )

    def settle_overwritten(self) -> None:
        """Find out whether passes overwrite parameters at this very point; where not, they need no copies of them.

        Raises:
            InputError: they do, see `Network.check_overwritten`.
        """
        if self.network.overwrites:
            for _, batch in self.batches():
                self.losses(batch)
                self.network.check_overwritten()
            self.network.overwrites = False

    def in_full_precision(self) -> "Objective":
        """The same objective, network and samples in full precision."""
        return self._with(passes=self.passes.in_full_precision())

    def on_few_samples(self) -> "Objective":
        """The same objective on the samples of `Batches.few` alone."""
        return self._with(batches=self.batches.of_few(), order=None)

    def of_network(self, model: nn.Module) -> "Objective":
        """The same objective for another network, with the buffers that it has now."""
        return self._with(passes=self.passes.of(self.network.of(model)), order=None)

    def in_batches(self, most: int) -> "Objective":
        """The same objective in batches of at most ``most`` samples, where these are free."""
        return self._with(batches=self.batches.at_most(most))

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "Objective":
        """The same objective with ``function`` applied to the tensors of resident samples."""
        return self._with(batches=self.batches.mapped(function))

    def twin(self) -> "Objective":
        """The same objective on the same samples with a network of its own, for another thread."""
        return self._with(passes=self.passes.twin())

    def subset(self, count: int, seed: int) -> "Objective":
        """The same objective on ``count`` random samples (all where there are fewer, or where they are streamed)."""
        batches, contract = self.batches.subset(count, seed), copy.copy(self.contract)
        if contract.weighs:
            contract.learn_weights(self.passes, batches)
        return self._with(batches=batches, contract=contract, order=None)

    def for_slice(self, slice_: Slice | None) -> "Objective":
        """This objective with BatchNorm policy and other buffers settled for ``slice_``, or for single points (None).

        Raises:
            InputError: see `check_buffers`.
        """
        if slice_ is not None:
            check_buffers(self.network, slice_)
        several = slice_ is not None and (slice_.networks or 1) > 1
        ends = buffer_ends(self.model, slice_) if slice_ is not None and several else ()
        policy = self.batch_norm or ("recalibrate" if several and self.has_batch_norm else "running")
        # The own statistics and buffers stay as they are.
        passes = self.passes.twin() if several and (self.has_batch_norm or ends) else self.passes
        settled = self._with(passes=passes.of(passes.network.under(policy)))
        if ends:
            settled.network.take_buffers(ends)
        return settled

    def _with(self, **parts: Any) -> "Objective":
        """The same objective with other ``parts``."""
        other = copy.copy(self)
        vars(other).update(parts)
        return other

    @property
    def network(self) -> Network:
        """The private network."""
        return self.passes.network

    @property
    def model(self) -> nn.Module:
        """The private network as torch knows it."""
        return self.network.model

    @property
    def loss(self) -> str | Callable[..., Any]:
        """The name of the loss, or the callable."""
        return self.contract.loss

    @property
    def overwrites(self) -> bool:
        """Whether passes write into the parameters."""
        return self.network.overwrites

    @property
    def renews(self) -> bool:
        """Whether statistics or other buffers change from point to point."""
        return self.network.renews

    @property
    def precision(self) -> Precision:
        return self.passes.precision

    @property
    def batches_fixed(self) -> bool:
        """Whether there is one partition into batches for all, see `Batches`."""
        return self.batches.fixed

    @property
    def regularizes(self) -> bool:
        """Whether there is a regularizer, which `measure` leaves out."""
        return self.contract.regularizer is not None

    @property
    def scores_outputs(self) -> bool:
        """Whether all that `measure` gives follows from the outputs of the network, by `score`."""
        return not callable(self.loss) and not self.contract.metrics

    @property
    def samples(self) -> Samples:
        return self.batches.samples

    @property
    def size(self) -> int:
        """N, the number of samples."""
        return self.batches.size

    @property
    def batch_size(self) -> int:
        return self.batches.batch_size

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        return self.network.dtype

    @property
    def batch_norm(self) -> Policy | None:
        return self.network.batch_norm

    @property
    def has_batch_norm(self) -> bool:
        return self.network.has_batch_norm

    @property
    def has_accuracy(self) -> bool:
        """Whether `evaluate` gives hits."""
        return self.contract.has_accuracy

    @property
    def quantity_names(self) -> tuple[str, ...]:
        """Names of the quantities that `evaluate` gives beside the losses."""
        return self.contract.quantity_names

    @property
    def derived(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
        """Quantities that follow from the mean loss at a point, by name, and how."""
        found: Mapping[str, Callable[[np.ndarray], np.ndarray]] = getattr(self.loss, "derived", {})
        return found

    @property
    def per_sample(self) -> bool:
        """Whether there is a loss of every sample."""
        return self.contract.per_sample

    @property
    def independent(self) -> bool:
        """Whether the loss is a mean over samples that are known one by one, so that it has a standard error."""
        return self.per_sample and not self.samples.whole

    @property
    def facts(self) -> dict[str, str]:
        name = self.loss if isinstance(self.loss, str) else getattr(self.loss, "__qualname__", type(self.loss).__name__)
        return {
            "model": type(self.model).__name__,
            "parameters": f"{sum(parameter.numel() for parameter in self.model.parameters()):,}",
            "samples": f"{self.size:,}",
            "loss": name,
            "BatchNorm": (self.batch_norm or "") if self.has_batch_norm else "",
            "dtype": str(self.dtype).removeprefix("torch."),
            "precision": self.precision if self.precision != "full" else "",
            "device": str(self.device),
        }

    @property
    def description(self) -> dict[str, Any]:
        """What the losses depend on besides the point; JSON types only."""
        name = self.loss if isinstance(self.loss, str) else _name_of(self.loss)
        whole = {"whole_batch": True} if self.samples.whole else {}  # absent otherwise, as in files of earlier versions
        return whole | {
            "loss": name,
            "batch_norm": (self.batch_norm or "running") if self.has_batch_norm else None,
            "batch_size": self.batch_size if self.has_batch_norm and self.batch_norm == "batch" else None,
            "dtype": str(self.dtype).removeprefix("torch."),
            "precision": self.passes.precision,
            "buffers": self.network.buffer_fingerprint(),
        }


def check_objective(found: Any, call: str) -> None:
    """Refuse what is no objective where ``call`` takes one: swapped arguments, or a model."""
    if not isinstance(found, Objective):
        raise InputTypeError(
            f"{call} takes an objective, made by ll.objective(model, data), not {type(found).__name__}"
        )


def _name_of(loss: Callable[..., Any]) -> str:
    """What a callable loss is called, the same in every process."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    return str(getattr(loss, "__qualname__", type(loss).__qualname__))
