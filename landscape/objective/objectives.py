"""Model + data + loss: the per-sample losses at any point of parameter space."""

import contextlib
import copy
import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from landscape.errors import InputError, InputTypeError
from landscape.objective.batch_norm import POLICIES, Policy, has_batch_norm, recalibrate, use_batch_statistics
from landscape.objective.criteria import Criterion, as_loss
from landscape.objective.forward_watch import Findings, find_out, parameters_touched
from landscape.objective.independence import changed_buffer, check_independence
from landscape.objective.layer_order import Order
from landscape.objective.losses import IGNORED, LOSSES, Weighted, check_labels, check_range, counted, is_classification
from landscape.objective.measured import Measured
from landscape.objective.private_network import converted, held_by, private_copy, require_gradients
from landscape.objective.samples import Samples, collect
from landscape.objective.settling import between, buffer_ends, check_buffers
from landscape.objective.spectral_norm import spectral_layers
from landscape.objective.structure import is_plain, works_by_row
from landscape.objective.trees import batch_length, leaves, map_tensors, tensors_of
from landscape.points import (
    Point,
    aligned,
    as_point,
    check_match,
    copy_of,
    named_parameters,
    unwrapped,
    without_wrapped_names,
)
from landscape.presenting import Presented
from landscape.runtime import OwnLock, kept_random_state, own_torch_state
from landscape.runtime.devices import has_bf16, select_device
from landscape.slices.networks import buffers_of, set_buffers, statistics_names, varying_names
from landscape.slices.planes import Slice
from landscape.storage.provenance import fingerprint

__all__ = ["Objective", "check_objective", "objective"]

FEW = 16  # samples that checks run on
TRIED = 32  # samples that are tried in several batches
FIRST = 8  # losses that tell networks apart
RANDOM = "turn off dropout and other random parts in eval mode"
KEPT = (
    "something is kept from one pass to the next (a state, a cache, a counter), or drawn from a generator that is not "
    "torch's; begin every pass anew"
)
Precision = Literal["full", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
BATCH_BYTES = 2 * 2**20  # of inputs: with the activations, about what a cache takes


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
) -> "Objective":
    """The map theta -> losses l_n(theta), n = 1..N, of ``model`` on ``data``.

    Works on a private copy of ``model`` in eval mode: the caller's model and data and the global random state stay as
    they are. Construction runs the first batch twice and refuses a forward pass that is not deterministic. It tries
    samples from all over the data in several batches and refuses a loss that depends on the batches: a sum, a
    weighted mean, or one that couples samples.

    Args:
        model: any module; its parameters are replaced by those of the point, its buffers are kept.
        data: a `Data`, a pair (inputs, targets) or other tuple, mapping or dataclass of tensors, a Dataset, or a
            DataLoader that gives the same data each pass. Batches that hold numbers, strings or lists beside their
            tensors stay as they are; others are cut as suits.
        loss: "cross_entropy" (targets of -100 do not count, as in torch), "mse" (mean over output units; one-hot for
            class labels of several outputs), a criterion such as torch.nn.CrossEntropyLoss(weight=w), or a callable
            (model, batch) -> losses [batch], a `Weighted`, or a scalar that is the mean over the batch. It may
            differentiate the network by its inputs (residuals of differential equations, forces, gradient penalties)
            as in training.
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

    Raises:
        InputError: data, loss, labels or model that do not fit each other; a random forward pass; a loss that
            depends on the batches.

    Example:
        >>> model, data = torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
        >>> losses = objective(model, data)(dict(model.named_parameters()))
        >>> losses.shape
        torch.Size([5])
    """
    return Objective(model, data, loss, batch_norm, device, dtype, precision, batch_size, whole_batch)


class Objective(Presented):
    """See `objective`, which makes one."""

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        loss: str | Callable[..., Any],
        batch_norm: Policy | None,
        device: str | torch.device,
        dtype: torch.dtype,
        precision: Precision,
        batch_size: int | None,
        whole_batch: bool = False,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"the model must be a torch.nn.Module, not {type(model).__name__}")
        loss = as_loss(loss)
        if not callable(loss) and not (isinstance(loss, str) and loss in LOSSES):
            raise InputError(f"unknown loss {loss!r}; use {', '.join(map(repr, LOSSES))} or a callable")
        if batch_norm not in (None, *POLICIES):
            raise InputError(f"unknown BatchNorm policy {batch_norm!r}; use one of {', '.join(POLICIES)}")
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        if dtype not in (torch.float32, torch.float64):
            raise InputError(f"dtype is torch.float32 or torch.float64, not {dtype}; precision='bf16' is the lower one")
        if precision not in PRECISIONS or (precision != "full" and dtype != torch.float32):
            raise InputError(
                f"precision {precision!r} with {dtype}: use {', '.join(PRECISIONS)}, lower ones for float32"
            )
        self.loss, self.batch_norm, self.dtype, self.precision = loss, batch_norm, dtype, precision
        self.device = select_device(device)
        if precision == "bf16" and not has_bf16(self.device):
            warnings.warn("no bf16 instructions here: this is slower than full precision", stacklevel=4)
        self.has_batch_norm = has_batch_norm(model)
        self._lock, self.draws, self.default_dtype = OwnLock(), False, torch.float32
        self.proofs = {"unwritten": True}  # what has been tried once, for all copies of this objective
        with self.arithmetic():
            self.model = self._private(model)
            self.given_buffers = buffers_of(self.model)
            self.ends: tuple[Point, ...] = ()  # buffers at the ends of the slice that this is settled for
            self.order: Order | None = None  # of the BatchNorm layers, once it has been watched on all samples
            self.samples = collect(data, whole_batch).to(self.device, dtype)
            self.size = self.samples.size
            self.batch_size = batch_size or (256 if batch_norm == "batch" else self.samples.count_in(BATCH_BYTES))
            if whole_batch:
                self.batch_size = self.size
            elif batch_norm == "batch" and self.has_batch_norm and self.samples.shortest == 1:
                raise InputError(
                    "batch_norm='batch': a batch of the DataLoader holds one sample, of which there are no statistics; "
                    "use another batch_size, or drop_last=True"
                )
            self.weights: Tensor | None = None  # [N] float64 of mean 1, on the CPU, where samples weigh differently
            self._watch(model)
        with self.arithmetic():
            self._check()

    @own_torch_state()
    @torch.no_grad()
    def __call__(self, point: Point, weights: Sequence[float] = ()) -> Tensor:
        """Losses [N] of all samples at ``point``, on the CPU; ``weights`` are those of the directions of a slice.

        Raises:
            InputError: ``point`` does not belong to this network.
        """
        pieces = []
        with self.arithmetic():
            self.move_to(as_point(point), weights)
            for _, batch in self.batches():
                pieces.append(self.evaluate(batch).losses.cpu())
        return torch.cat(pieces)

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

    def on(self, slice_: Slice, *coordinates: float) -> Tensor:
        """Losses [N] at ``coordinates`` of ``slice_``, for which this objective is settled, see `for_slice`."""
        return self(slice_(*coordinates), slice_.weights_at(*coordinates))

    def move_to(self, point: Point, weights: Sequence[float] = ()) -> None:
        """Put the private model at ``point`` and renew what follows from it, see `renew_statistics`."""
        own = dict(self.model.named_parameters())
        point = without_wrapped_names(point, own)
        check_match(point, own)
        self.place(point)
        self.renew_statistics(weights)

    def place(self, point: Mapping[str, Tensor]) -> None:
        """Put ``point`` into the parameters; where the forward pass writes into these, it gets copies every time."""
        values = self._own(point)
        for name, fixed in self.fixed.items():
            if bool(((values[name] - fixed).abs() > 4 * torch.finfo(fixed.dtype).eps * fixed.abs()).any()):
                raise InputError(self._not_followed(name))
        self._values = values if self.overwrites else {}
        for name, parameter in self.model.named_parameters():
            parameter.data = values[name].clone() if self.overwrites else values[name]

    def _own(self, point: Mapping[str, Tensor]) -> Point:
        """The values of ``point`` on the device and in the dtype of the objective."""
        values = {}
        for name, parameter in self.model.named_parameters():
            value = aligned(converted(point[name].detach(), self.device, self.dtype))
            whole = value.dtype != parameter.dtype
            values[name] = value.round().to(parameter.dtype) if whole else value
            if whole and not torch.allclose(values[name].to(value.dtype), value):
                raise InputError(f"parameter {name!r} holds whole numbers ({parameter.dtype}), so it cannot be moved")
        return values

    def check_overwritten(self) -> None:
        """Raise InputError if the last pass gave a parameter another value: autograd would not see that step.

        Losses at such a point are right all the same; derivatives are not.
        """
        for name, parameter in self.model.named_parameters():
            if self.overwrites and not torch.equal(parameter.data, self._values[name]):
                raise InputError(
                    f"the forward pass overwrites parameter {name!r} at this point, which derivatives would leave out; "
                    "write the limited weights into the model first, or limit them in a differentiable way"
                )

    @property
    def renews(self) -> bool:
        """Whether statistics or other buffers change from point to point."""
        return self.batch_norm == "recalibrate" or bool(self.ends)

    def renew_statistics(self, weights: Sequence[float] = ()) -> None:
        """Set what the present weights, or the ``weights`` of the directions of a slice, decide besides parameters.

        These are the buffers between several networks and, under "recalibrate", the BatchNorm statistics.
        """
        if self.ends:
            set_buffers(self.model, between(self.ends, weights))
        if self.batch_norm == "recalibrate":
            batches = lambda: (batch for _, batch in self.batches())  # noqa: E731
            self.order = recalibrate(self.model, self.evaluate, batches, self.order)

    @property
    def quantity_names(self) -> tuple[str, ...]:
        """Names of the quantities that `evaluate` gives beside the losses."""
        return ()

    @property
    def batches_fixed(self) -> bool:
        """Whether there is one partition into batches for all: BatchNorm by batch, one batch, batches as they come."""
        return self.batch_norm == "batch" or self.samples.whole or self.samples.tensors is None

    @property
    def independent(self) -> bool:
        """Whether the loss is a mean over samples that are known one by one, so that it has a standard error."""
        return self.per_sample and not self.samples.whole

    def batches(self, batch_size: int | None = None) -> Iterator[tuple[int, Any]]:
        """(index of the first sample, batch) over all samples, on the device; ``batch_size`` is used if free."""
        size = self.batch_size if self.batches_fixed else batch_size or self.batch_size
        least = 2 if self.batch_norm == "batch" and self.has_batch_norm else 1
        for start, batch in self.samples.batches(size, self.device, self.dtype, least):
            yield start, self._with_indices(batch)

    def weights_of(self, start: int, stop: int) -> Tensor | None:
        """Weights of the samples from ``start`` to ``stop``, of mean 1 over all samples; None where all are 1."""
        return None if self.weights is None else self.weights[start:stop]

    def count(self, batch: Any) -> int:
        """Number of samples in a batch."""
        return self.size if self.samples.whole else batch_length(batch)

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Any]:
        """Batches over all samples in an order drawn from ``generator``, on the device."""
        return map(self._with_indices, self.samples.shuffled(batch_size, generator, self.device, self.dtype))

    def _with_indices(self, batch: Any) -> Any:
        """The batch with class labels of any integer type as int64, which torch takes as indices everywhere."""
        named = not callable(self.loss) or isinstance(self.loss, Criterion)
        if not named or not _is_pair(batch) or not isinstance(batch[1], Tensor):
            return batch
        inputs, targets = batch
        kept = targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool
        return inputs, targets if kept else targets.long()

    def few_samples(self) -> Any:
        """A first batch for checks: small, unless its size is part of the objective."""
        return next(iter(self.batches(min(self.batch_size, FEW))))[1]

    def spread_samples(self) -> list[Any]:
        """Small batches of samples from all over the data."""
        count = min(TRIED, max(2, self.batch_size))
        return [self._with_indices(batch) for batch in self.samples.spread(count, self.device, self.dtype)]

    def evaluate(self, batch: Any) -> Measured:
        """Losses, hits and quantities of a batch at the present weights, each with its mean over all data.

        Where samples weigh differently the losses are N w_n l_n / sum w, whose mean over all data is the weighted mean.
        """
        found, weights = self._measure(batch)
        if weights is None or self.weights is None:
            return found
        losses = torch.where(weights > 0, found.losses, 0) * (weights * self._scale).to(found.losses)
        return Measured(losses, found.hits, found.quantities)

    def measure(self, batch: Any) -> Measured:
        """As `evaluate`, with the losses of single samples as they are, whatever these weigh."""
        return self._measure(batch)[0]

    def _measure(self, batch: Any) -> tuple[Measured, Tensor | None]:
        """What `measure` gives, and the weights [batch] that the loss gives the samples (or None)."""
        if not callable(self.loss):
            inputs, targets = batch
            losses, hits = self.score(self.forward(self.model, inputs), targets)
            return Measured(losses, hits), counted(targets) if self.weights is not None else None
        weights: Tensor | None = None
        given: Any = self.forward(self.loss, self.model, batch)
        if isinstance(given, Weighted):
            given, weights = given.values, given.weights.detach()
        if given.ndim == 0:
            given = given.expand(self.count(batch))
        return Measured(given.to(self.dtype)), weights

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(*arguments)``, a network or a callable loss, in the asked precision.

        A loss that differentiates inside does so on views of its own, and leaves no graph where none was asked for.
        One that writes into its batch gets a copy.
        """
        if self.overwrites:
            for name, parameter in self.model.named_parameters():
                parameter.data = self._values[name].clone()
        if self.writes:
            return self._pass(function, *(map_tensors(torch.clone, argument) for argument in arguments))
        tensors = tensors_of(arguments)
        versions = [tensor._version for tensor in tensors]
        found = self._pass(function, *arguments)
        if versions != [tensor._version for tensor in tensors]:
            self.proofs["unwritten"] = False
        if not self.proofs["unwritten"]:  # from now on no pass is right: the samples are no longer what they were
            raise InputError(
                "the network or the loss writes into its batch, though not for the samples and weights that were tried "
                "first; let it work on a copy (x = x.clone()), and make the objective anew"
            )
        return found

    def _pass(self, function: Callable[..., Any], *arguments: Any) -> Any:
        recorded = torch.is_grad_enabled()
        if not self.differentiates:
            with self.autocast():
                return function(*arguments)
        own = [map_tensors(lambda t: t.detach(), argument) for argument in arguments]
        with self.autocast(), torch.enable_grad():
            found = function(*own)
        return found if recorded else map_tensors(lambda t: t.detach(), found)

    def score(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Losses and hits of ``outputs`` under a named loss."""
        outputs = outputs.to(self.dtype)
        return LOSSES[str(self.loss)](outputs, targets), outputs.argmax(1) == targets if self.has_accuracy else None

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Compute in the asked precision, whatever the caller has set in torch, and leave all of that as it was.

        One thread at a time: another one that uses the same network waits.
        """
        tf32 = self.precision == "tf32"
        state = own_torch_state(self.default_dtype, tf32=tf32, device=self.device)
        with self._lock as outermost, state, self._kept_random_state() if outermost else contextlib.nullcontext():
            yield

    def _kept_random_state(self) -> contextlib.AbstractContextManager[None]:
        return kept_random_state(lambda: self.draws, self.device)

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """What a forward pass runs in; holds for one thread only."""
        if self.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def in_full_precision(self) -> "Objective":
        """The same objective, network and samples in full precision."""
        full = copy.copy(self)
        full.precision = "full"
        return full

    def on_few_samples(self) -> "Objective":
        """The same objective on the samples of `few_samples` alone."""
        few, batch = copy.copy(self), self.few_samples()
        few.size, few.order = self.count(batch), None
        few.samples = Samples(few.size, self.samples.description, tensors=batch, whole=True)
        return few

    def of_network(self, model: nn.Module) -> "Objective":
        """The same objective for another network, with the buffers that it has now."""
        other = copy.copy(self)
        other.model, other.ends, other.order = self._private(model), (), None
        if any(parameter.requires_grad for parameter in self.model.parameters()):
            require_gradients(other.model)
        return other

    def twin(self) -> "Objective":
        """The same objective on the same samples with a network of its own, for another thread."""
        twin = copy.copy(self)
        twin.model, twin._lock = copy_of(self.model), OwnLock()
        return twin

    def subset(self, count: int, seed: int) -> "Objective":
        """The same objective on ``count`` random samples (all where there are fewer, or where they are streamed)."""
        subset = copy.copy(self)
        subset.samples = self.samples.subset(count, seed)
        subset.order = None
        subset.size = self.size if self.samples.whole else subset.samples.size
        if self.weights is not None:
            subset._weigh()
        return subset

    def for_slice(self, slice_: Slice | None) -> "Objective":
        """This objective with BatchNorm policy and other buffers settled for ``slice_``, or for single points (None).

        Raises:
            InputError: see `check_buffers`.
        """
        if slice_ is not None:
            check_buffers(self, slice_)
        several = slice_ is not None and (slice_.networks or 1) > 1
        ends = buffer_ends(self.model, slice_) if slice_ is not None and several else ()
        # The own statistics and buffers stay as they are.
        settled = self.twin() if several and (self.has_batch_norm or ends) else copy.copy(self)
        if self.batch_norm is None:
            settled.batch_norm = "recalibrate" if several and self.has_batch_norm else "running"
        if ends:
            settled.take_buffers(ends)
        return settled

    def take_buffers(self, ends: Sequence[Point]) -> None:
        """Take the buffers that are equal at all ``ends``, and keep those that `renew_statistics` sets at a point."""
        moved = {layer.left for layer in spectral_layers(self.model)} | set(varying_names(ends))
        set_buffers(self.model, {name: value for name, value in ends[0].items() if name not in moved})
        if moved:
            self.ends = tuple({name: end[name].to(self.device) for name in moved} for end in ends)

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
            "precision": self.precision,
            "buffers": self._buffer_fingerprint(),
        }

    def _buffer_fingerprint(self) -> str | None:
        """Of the buffers that are the same at every point; None where there are none besides BatchNorm statistics."""
        renewed = statistics_names(self.model) if self.batch_norm == "recalibrate" else set()
        if self.ends:
            layers = spectral_layers(self.model)
            renewed |= self.ends[0].keys() | {layer.right for layer in layers}
        kept = [buffer for name, buffer in self.model.named_buffers() if name not in renewed]
        return fingerprint(kept) if kept or self.batch_norm != "recalibrate" else None

    def _private(self, model: nn.Module) -> nn.Module:
        private = private_copy(model, self.device, self.dtype)
        if self.batch_norm == "batch":
            use_batch_statistics(private)
        return private

    def _watch(self, model: nn.Module) -> None:
        """Find out how the network treats the memory of its parameters, and what else a pass depends on."""
        self.overwrites, self.fixed, self.differentiates, self.writes, self.has_accuracy = False, {}, True, True, False
        batch = self.few_samples()
        own = dict(self.model.named_parameters())
        if not callable(self.loss) and is_plain(unwrapped(model)):
            found = Findings(touched=set(own))
        else:
            found = find_out(self.model, model, lambda: self._one_pass(batch), self.dtype)
        if found.constants and self.dtype != self.default_dtype:
            self.default_dtype = self.dtype
            with self.arithmetic():
                found = find_out(self.model, model, lambda: self._one_pass(batch), self.dtype)
        self.draws, self.touched = found.draws, found.touched
        if found.lowered and self.dtype == torch.float64:
            raise InputError(
                f"the network or the loss computes in lower precision inside ({found.lowered}), so that results would "
                "not be those of float64; use dtype=torch.float32, or take the cast out"
            )
        values = {name: value.detach() for name, value in named_parameters(model)}
        fixed = [name for name in values if name in found.elsewhere]
        self.fixed = {name: converted(values[name], self.device, self.dtype).clone() for name in fixed}
        self.overwrites = bool(found.written)
        self.place(values if self.overwrites else own)

    def _one_pass(self, batch: Any) -> None:
        """A forward pass with the loss, where that is a callable; a loss may ask for derivatives by the parameters."""
        function, *arguments = (self.loss, self.model, batch) if callable(self.loss) else (self.model, batch[0])
        try:
            self.forward(function, *arguments)
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
            require_gradients(self.model)
            self.forward(function, *arguments)

    def check_moves(self, names: Iterable[str]) -> None:
        """Raise InputError where the loss does not follow a parameter of ``names`` that is moved.

        That is one whose values it reads from elsewhere: from the model that was passed in, which a patched forward, a
        hook or the loss itself holds on to, or from what was computed from it before.
        """
        names = list(names)
        for name in names:
            if name in self.fixed:
                raise InputError(self._not_followed(name))
        if self.touched is None or not names or self.touched.intersection(names):
            return
        with self.arithmetic(), torch.no_grad():
            for _, batch in self.batches():
                self.touched |= parameters_touched(self.model, partial(self._one_pass, batch), self.dtype)
                if self.touched.intersection(names):
                    return
        some = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
        raise InputError(
            f"the loss reads none of the parameters that are moved ({some}), so that nothing could change; "
            "does it call the network that it is given?"
        )

    @staticmethod
    def _not_followed(name: str) -> str:
        return (
            f"the loss does not follow parameter {name!r}: forward, a hook or the loss reads it from the model that "
            "was passed in, or keeps what was computed from it; use the network that each of them is called with, and "
            "compute anew in every pass"
        )

    @torch.no_grad()
    def _check(self) -> None:
        """Refuse what would make a surface wrong: by passes over a first batch, and over samples from all the data."""
        batch = self.few_samples()
        self.has_accuracy, self.per_sample, self.differentiates, self.writes = False, True, True, True
        self.weighs = False  # whether a callable loss gives weights
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        if not callable(self.loss):
            self._check_labels(batch)
        elif isinstance(self.loss, Criterion):
            self._check_criterion(self.loss, batch)
        losses, again = self._settle_gradients(batch)
        self._settle_shape(batch, losses)
        self.first_losses = losses.flatten()[:FIRST].tolist()
        if not _close(losses, again):
            advice = changed_buffer(self.model, buffers) or (RANDOM if self.draws else KEPT)
            raise InputError(f"the forward pass is not deterministic (two passes over one batch differ): {advice}")
        self._settle_keeps(batch)
        self._settle_writes(batch)
        if isinstance(self.loss, Criterion):
            self.loss.check(self._outputs(batch[0]), batch[1])
        if not self.samples.whole and not self._is_by_row(batch):
            check_independence(self, self.spread_samples())
        if self.weighs:
            self._weigh()

    def _is_by_row(self, batch: Any) -> bool:
        """Whether no loss can depend on the other samples of its batch, by structure."""
        resident = self.samples.tensors is not None and not callable(self.loss)
        return resident and isinstance(batch[0], Tensor) and batch[0].ndim > 1 and works_by_row(self.model)

    def _settle_shape(self, batch: Any, losses: Tensor) -> None:
        """Whether the loss is one value a sample, and of how many samples where all are one batch."""
        count = self.count(batch)
        if losses.is_complex() or not losses.is_floating_point():
            raise InputError(f"the loss gives values of {losses.dtype}; it must give real floating-point numbers")
        self.per_sample = losses.ndim == 1
        if self.samples.whole and self.per_sample and len(losses):
            self.size = self.batch_size = self.samples.size = len(losses)
        elif losses.shape not in ((), (count,)):
            raise InputError(
                f"the loss gives shape {tuple(losses.shape)}; it must be [{count}] (one value a sample) or a scalar, "
                "the mean over the batch"
            )

    def _settle_writes(self, batch: Any) -> None:
        """Whether the network or the loss writes into its batch, in which case every pass gets a copy.

        So it does where the samples lie in memory of others.
        """
        self.writes = not self.samples.own
        for tried in [batch] if self.samples.whole else [batch, *self.spread_samples()]:
            if self.writes:
                break
            given = map_tensors(torch.clone, tried)
            with contextlib.suppress(InputError, RuntimeError, TypeError, ValueError, LookupError):  # reported later
                self._raw_losses(given)
            same = len(leaves(given)) == len(leaves(tried))  # nothing taken out of a dictionary, or put in
            same = same and all(map(torch.equal, tensors_of(given), tensors_of(tried)))
            self.writes = not same or not self.proofs["unwritten"]
        self.proofs["unwritten"] = True

    def _settle_keeps(self, batch: Any) -> None:
        """Whether a pass leaves something in the network: a buffer, a list, an attribute."""
        held = held_by(self.model)
        self._raw_losses(map_tensors(torch.clone, batch))
        now = held_by(self.model)
        self.keeps = len(held) != len(now) or any(a is not b for a, b in zip(held, now, strict=True))

    def _weigh(self) -> None:
        """Learn the weights of all samples, in one pass; the loss is scaled with their sum from then on."""
        if callable(self.loss):
            pieces: Iterable[Tensor | None] = (self._measure(batch)[1] for _, batch in self.batches())
        else:
            pieces = (counted(targets) for targets in self._targets())
        weights = torch.cat([piece.detach().cpu().double() for piece in pieces if piece is not None])
        if not bool(weights.isfinite().all()) or not bool((weights >= 0).all()) or not bool(weights.sum() > 0):
            low, high = weights.aminmax()
            raise InputError(
                f"the weights of the samples run from {low:g} to {high:g} and add up to {weights.sum():g}; they must "
                "be finite, at least 0, and above 0 for some sample"
            )
        self._scale = float(len(weights) / weights.sum())
        self.weights = weights * self._scale

    def _targets(self) -> Iterator[Tensor]:
        """The targets of all samples of data of pairs."""
        if self.samples.tensors is not None:
            yield self._with_indices(self.samples.tensors)[1]
        else:
            yield from (batch[1] for _, batch in self.batches())

    def _settle_gradients(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Find out whether the loss differentiates inside; the losses of two passes over ``batch``.

        It does where the pass fails, or gives something else, without gradients. The parameters of the network take
        part only where the loss asks for derivatives by them.
        """
        try:
            losses = self._raw_losses(batch)
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
            require_gradients(self.model)
            return self._raw_losses(batch), self._raw_losses(batch)
        self.differentiates = False
        try:
            again = self._raw_losses(batch)
        except RuntimeError:
            again = None
        if again is None or not _close(losses, again):
            self.differentiates = True
            again = self._raw_losses(batch)
        return losses, again

    def _check_pairs(self, batch: Any) -> None:
        """Raise InputError unless a named loss, or a criterion, gets what it takes."""
        if not _is_pair(batch) or not isinstance(batch[1], Tensor):
            raise InputError(
                f"loss={self._loss_name} needs data of pairs of tensors (inputs, targets); pass a callable loss instead"
            )

    @property
    def _loss_name(self) -> str:
        return self.loss.name if isinstance(self.loss, Criterion) else repr(self.loss)

    def _check_labels(self, batch: Any) -> None:
        """Raise InputError unless the targets are labels for the outputs; find out which of them count."""
        self._check_pairs(batch)
        inputs, targets = batch
        outputs = self._outputs(inputs)
        check_labels(outputs, targets, str(self.loss))
        if targets.is_floating_point():
            return
        classes = outputs.ndim > 1 and (self.loss == "cross_entropy" or outputs.shape[1] > 1)
        if not classes or (self.loss == "mse" and outputs.shape == targets.shape):
            return
        every = [*self._targets()]
        for part in every:
            check_range(outputs.shape[1], part, IGNORED if self.loss == "cross_entropy" else None)
        if self.loss == "cross_entropy" and any(bool((part < 0).any()) for part in every):
            self._weigh()
        self.has_accuracy = outputs.ndim == 2 and all(map(is_classification, every))

    def _check_criterion(self, criterion: Criterion, batch: Any) -> None:
        """Raise InputError unless the targets are class labels where a criterion takes these."""
        self._check_pairs(batch)
        if not criterion.by_class or batch[1].is_floating_point():
            return
        outputs = self._outputs(batch[0])
        if outputs.ndim > 1:
            for part in self._targets():
                check_range(outputs.shape[1], part, criterion.criterion.ignore_index)

    def _outputs(self, inputs: Any) -> Tensor:
        try:
            outputs = self.forward(self.model, inputs)
        except InputError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            shape = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
            raise InputError(f"the model does not accept inputs of shape {shape}: {_reason(error)}") from error
        if not isinstance(outputs, Tensor):
            raise InputError(
                f"the model returns {type(outputs).__name__}, not a tensor; pass loss=callable(model, batch)"
            )
        return outputs

    def _raw_losses(self, batch: Any) -> Tensor:
        """What the loss gives for ``batch``, weights aside; a failure of the loss in one line."""
        if not callable(self.loss):
            return self.measure(batch).losses
        try:
            losses = self.forward(self.loss, self.model, batch)
        except InputError:
            raise
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            if "does not require grad" in str(error):
                raise
            text = f"the loss fails on a batch of {self.count(batch)} samples: {type(error).__name__}: {_reason(error)}"
            raise InputError(text + self._way_out(text)) from error
        self.weighs = isinstance(losses, Weighted)
        if isinstance(losses, Weighted):
            values, weights = losses.values, losses.weights
            if not isinstance(values, Tensor) or not isinstance(weights, Tensor) or values.shape != weights.shape:
                raise InputError("Weighted takes two tensors [batch], the values and the weights of the samples")
            return values
        if not isinstance(losses, Tensor):
            raise InputError(
                f"the loss gives {type(losses).__name__}; it must give a tensor [batch] with one value a sample, a "
                "scalar tensor that is their mean, or Weighted(values, weights)"
            )
        return losses

    def _way_out(self, failure: str) -> str:
        """What to do about a loss that fails with this text, where that can be told."""
        if "dtype" in failure:
            return f"; network and data are in {self.dtype} here, so tensors that it closes over must be, too"
        if type(self.model).__name__ in failure:  # the network in the place of its outputs
            return "; a loss is called with (model, batch), not with (outputs, targets), and calls the model itself"
        if isinstance(self.loss, Criterion) and "missing" in failure:
            return "; pass loss=callable(model, batch), which can give the criterion all that it takes"
        return ""


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


def _is_pair(batch: Any) -> bool:
    return isinstance(batch, tuple | list) and len(batch) == 2


def _close(losses: Tensor, again: Tensor) -> bool:
    """Whether two passes over one batch agree."""
    return losses.shape == again.shape and torch.allclose(losses, again, rtol=1e-4, atol=1e-6, equal_nan=True)


def _reason(error: Exception) -> str:
    """The first line of what an exception says."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
