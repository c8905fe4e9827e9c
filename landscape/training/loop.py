"""The training loop: data in memory, SGD or Adam, hooks after every step and epoch, resumable after a crash."""

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from landscape.checks import check_choice, check_count, check_seed
from landscape.datasets import Data
from landscape.errors import InputError
from landscape.points.tensors import as_float64
from landscape.runtime import kept_random_state, own_torch_state
from landscape.runtime.devices import select_device
from landscape.runtime.progress import progress_bar
from landscape.runtime.threads import threads_for_training
from landscape.training.augmentation import Augmentation
from landscape.training.state import TrainingState

__all__ = ["Training", "fit", "make_optimizer", "score"]

MOST_EPOCHS = 10**6
REPORT_EVERY = 100  # batches
SCORE_BATCH = 500  # samples; larger batches are slower on a CPU, once they leave its cache

Optimizer = Literal["sgd", "adam"]
Schedule = Literal["constant", "step", "cosine", None]
Augment = Literal["none", "crop", "crop-flip"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of a training run."""

    epochs: int
    """Passes over the training data."""
    batch_size: int
    """Samples per step; if the last batch is a single sample and the network has BatchNorm, it joins the one before."""
    lr: float
    """Learning rate at the start."""
    seed: int
    """Seed of the initial weights, the order of the samples and the augmentation."""
    optimizer: Optimizer = "sgd"
    """SGD, or Adam."""
    momentum: float = 0.0
    """Momentum of SGD; Adam always uses its default betas, 0.9 and 0.999."""
    weight_decay: float = 0.0
    """Factor of the L2 penalty: this times the weights is added to the gradient."""
    label_smoothing: float = 0.0
    """Share of the target probability that is spread evenly over all classes, in the training loss only."""
    schedule: Schedule = None
    """Learning rate: constant, step (multiplied by gamma after each milestone) or cosine (falls to zero by epochs).
    None means step if there are milestones, else constant."""
    milestones: tuple[int, ...] = ()
    """Epochs after which the learning rate is multiplied by gamma, for the schedule step."""
    gamma: float = 0.1
    """Factor of the learning rate at each milestone."""
    augment: Augment = "none"
    """Augmentation of the training images: crop (random crops) or crop-flip (also mirror images; not for digits)."""

    def check(self) -> None:
        """Raise InputError if a value is out of range; the message says what to change."""
        if self.epochs < 1 or self.batch_size < 1:
            raise InputError(f"epochs is {self.epochs} and batch size {self.batch_size}; both must be at least 1")
        check_count("epochs", self.epochs, most=MOST_EPOCHS)
        check_count("batch size", self.batch_size)
        check_seed(self.seed)
        if not 0 < self.lr < math.inf or not 0 <= self.momentum < 1:
            raise InputError(
                f"lr is {self.lr} and momentum {self.momentum}; lr must be above 0, momentum from 0 to below 1"
            )
        if not 0 <= self.weight_decay < math.inf or not 0 <= self.label_smoothing < 1:
            raise InputError(
                f"weight decay is {self.weight_decay} and label smoothing {self.label_smoothing}; "
                "weight decay must be 0 or more, label smoothing from 0 to below 1"
            )
        for name, kinds in (("optimizer", Optimizer), ("schedule", Schedule), ("augment", Augment)):
            check_choice(name, getattr(self, name), get_args(kinds))
        wrong = self.schedule is not None and (self.schedule == "step") != bool(self.milestones)
        if wrong or min(self.milestones, default=1) < 1:
            raise InputError(
                f"schedule is {self.schedule} and milestones {list(self.milestones)}; "
                "the schedule step needs milestones (epochs from 1), the other schedules take none"
            )
        if not 0 < self.gamma < math.inf:
            raise InputError(f"gamma is {self.gamma}; it must be above 0")

    def learning_rate(self, epoch: int) -> float:
        """The learning rate of ``epoch``, counted from 1; for cosine lr (1 + cos(pi (epoch - 1) / epochs)) / 2.

        Source: Loshchilov and Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", equation 5.
        """
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * (epoch - 1) / self.epochs)) / 2
        return math.prod((self.gamma for milestone in self.milestones if milestone < epoch), start=self.lr)


@own_torch_state()
@torch.enable_grad()
def fit(
    model: nn.Module,
    train: Data,
    test: Data,
    *,
    device: str | torch.device = "auto",
    on_epoch: Callable[[int, nn.Module, dict[str, Any]], None] | None = None,
    on_step: Callable[[int, nn.Module, Tensor], None] | None = None,
    epoch_zero: bool = False,
    state: str | Path | None = None,
    notes: dict[str, Any] | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Minimise the cross-entropy on ``train`` by SGD or Adam and return one dict of metrics per epoch.

    The metrics are lr; train_loss and train_accuracy, means over the mini-batches of the epoch as they were trained on
    (augmented, with label smoothing, the weights changing from step to step); and test_loss and test_accuracy, in eval
    mode after the epoch, without label smoothing. The order of the samples and the crops are drawn from the seed on
    the CPU, so that they are the same on every device. ``model`` is left on the device and in eval mode. Where the
    forward pass of a batch takes fewer than a million multiplications, the CPU trains with one thread, see
    `landscape.runtime.threads`.

    Args:
        model: Training starts from its present weights and changes them in place.
        train: Training data, moved to the device as a whole.
        test: Test data, evaluated after each epoch.
        device: See ``select_device``.
        on_epoch: Called as ``on_epoch(epoch, model, metrics)`` after each epoch, counted from 1.
        on_step: Called as ``on_step(step, model, loss)`` after each step, counted from 1 over all epochs; ``loss`` is
            the loss of the mini-batch before the step.
        epoch_zero: Call ``on_epoch`` also before training, for epoch 0 with the metrics of the test data.
        state: File of the training state, written after each ``on_epoch``. If it exists, training is resumed from it;
            on the CPU the result has the same bits as an uninterrupted run.
        notes: Further settings (plain values) that must equal those stored in ``state`` for the run to be resumed.
        **settings: The fields of :class:`Training`.

    Raises:
        InputError: a setting is out of range, the device is unknown, BatchNorm would get single samples, or
            ``state`` belongs to another run.
    """
    training = Training(**settings)
    training.check()
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise InputError("the model was made under torch.inference_mode, so it cannot be trained; make it outside")
    sizes = _batch_sizes(model, len(train), training.batch_size)
    place, layout = select_device(device), _memory_format(model)
    model.to(place).to(memory_format=layout).eval()
    inputs, targets = train.inputs.to(place), train.targets.to(place)
    there = replace(test, inputs=test.inputs.to(place), targets=test.targets.to(place))
    _check_fits(model, there, 1 + max(int(part.targets.max()) for part in (train, test)))
    threads = threads_for_training(model, inputs, training.batch_size)
    optimizer = make_optimizer(model.parameters(), training)
    generator = torch.Generator().manual_seed(training.seed)
    augment = Augmentation(training.augment, train, generator) if training.augment != "none" else None
    saved = None
    if state:
        identity = asdict(training) | _origin(train, test, place) | (notes or {})
        saved = TrainingState(Path(state), identity, model, optimizer, generator)
    history = saved.restore() if saved else []
    if epoch_zero and on_epoch and not history:
        on_epoch(0, model, _test_metrics(model, there, place))

    epochs_before, start = len(history), time.perf_counter()
    total, first = training.epochs * len(sizes), epochs_before * len(sizes)
    # The bar prints no lines into a log: the line after each epoch already tells the time left.
    with progress_bar(True, "Training", total, unit="batches", initial=first, lines=False) as bar:
        for epoch in range(epochs_before + 1, training.epochs + 1):
            lr = training.learning_rate(epoch)
            for group in optimizer.param_groups:
                group["lr"] = lr
            order = torch.randperm(len(train), generator=generator).to(place).split(sizes)
            batches = _batches(inputs, targets, order, augment, layout)
            title = f"epoch {epoch}, batch {{}} of {len(sizes)}"
            first = (epoch - 1) * len(sizes)
            after_step = partial(_call_on_step, on_step, model, first) if on_step else None
            with threads():
                running = _train_epoch(model, batches, optimizer, training.label_smoothing, title, bar, after_step)
                metrics = {"lr": lr, **running, **_test_metrics(model, there, place)}
            history.append(metrics)
            _report(epoch, training.epochs, metrics, (time.perf_counter() - start) / (epoch - epochs_before))
            if on_epoch:
                on_epoch(epoch, model, metrics)
            if saved:
                saved.save(history)
    return history


def _check_fits(model: nn.Module, data: Data, classes: int) -> None:
    """Raise InputError unless ``model`` takes samples of ``data`` and has an output for each of the ``classes``."""
    inputs = data.inputs[:2]
    try:
        with torch.no_grad(), kept_random_state(draws=True):
            outputs = model(inputs)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        shape = list(inputs.shape[1:])
        raise InputError(f"the network does not take samples of {data.name}, of shape {shape} ({reason})") from error
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2 or outputs.shape[1] < classes:
        shown = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise InputError(
            f"the network gives {shown} for {len(inputs)} samples of {data.name}; it must give a number for each "
            f"sample and each of {classes} classes or more"
        )


@own_torch_state()
def score(model: nn.Module, data: Data, *, device: str | torch.device = "auto") -> dict[str, float]:
    """Mean cross-entropy ("loss") and share of samples whose largest logit is the target ("accuracy"), in eval mode.

    Both are averages over the samples of ``data``, summed in float64. ``model`` is left on the device, every module
    in the mode (training or eval) that it had.

    Raises:
        InputError: The device is unknown.
    """
    place, layout = select_device(device), _memory_format(model)
    model.to(place)
    modes = {module: module.training for module in model.modules()}
    parts = zip(data.inputs.split(SCORE_BATCH), data.targets.split(SCORE_BATCH), strict=True)
    loss, hits = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.int64)
    try:
        with torch.inference_mode():
            model.eval()
            for part, own in parts:
                batch, labels = part.to(place), own.to(place)
                logits = model(batch.contiguous(memory_format=layout))
                loss = loss + as_float64(F.cross_entropy(logits, labels, reduction="none")).sum()
                hits = hits + (logits.argmax(1) == labels).sum()
    finally:
        for module, training in modes.items():
            module.training = training
    return {"loss": loss.item() / len(data), "accuracy": hits.item() / len(data)}


def _call_on_step(
    on_step: Callable[[int, nn.Module, Tensor], None], model: nn.Module, first: int, number: int, loss: Tensor
) -> None:
    on_step(first + number, model, loss)


def _train_epoch(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    label_smoothing: float,
    title: str,
    bar: Any,
    after_step: Callable[[int, Tensor], None] | None,
) -> dict[str, float]:
    """Train for one pass over ``batches`` and return the running loss and accuracy, which are also printed."""
    model.train()
    sums, samples = torch.zeros(()), 0  # sums of loss and hits stay on the device and are read only for reports
    for number, (batch, labels) in enumerate(batches, start=1):
        logits = model(batch)
        loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if after_step:
            after_step(number, loss.detach())
        samples += len(labels)
        sums = sums + torch.stack([loss.detach() * len(labels), (logits.argmax(1) == labels).sum()])
        bar.update()
        if number % REPORT_EVERY == 0:
            running, accuracy = (sums / samples).tolist()
            tqdm.write(f"{title.format(number)}: loss {running:.4f}, accuracy {accuracy:.2%}")
    model.eval()
    running, accuracy = (sums / samples).tolist()
    return {"train_loss": running, "train_accuracy": accuracy}


def _batches(
    inputs: Tensor,
    targets: Tensor,
    order: Iterable[Tensor],
    augment: Augmentation | None,
    layout: torch.memory_format,
) -> Iterator[tuple[Tensor, Tensor]]:
    for positions in order:  # positions of the samples of one batch
        batch = inputs[positions]
        if augment:
            batch = augment(batch)
        yield batch.contiguous(memory_format=layout), targets[positions]


def _batch_sizes(model: nn.Module, samples: int, batch_size: int) -> list[int]:
    """Number of samples of each batch; with BatchNorm a last batch of one sample joins the batch before it."""
    sizes = [len(batch) for batch in torch.arange(samples).split(batch_size)]
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        if min(batch_size, samples) == 1:
            advice = "BatchNorm cannot be trained on single samples, use 2 or more"
            raise InputError(f"batch size is {batch_size} for {samples} samples; {advice}")
        if sizes[-1] == 1:
            sizes[-2:] = [batch_size + 1]
    return sizes


def make_optimizer(parameters: Iterable[nn.Parameter], training: Training, **options: Any) -> torch.optim.Optimizer:
    """SGD or Adam over ``parameters`` with the settings of ``training``; ``options`` are passed to torch."""
    options |= {"lr": training.lr, "weight_decay": training.weight_decay}
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, **options)
    return torch.optim.SGD(parameters, momentum=training.momentum, **options)


def _origin(train: Data, test: Data, device: torch.device) -> dict[str, Any]:
    return {"training data": train.fingerprint, "test data": test.fingerprint, "device": device.type}


def _test_metrics(model: nn.Module, test: Data, device: torch.device) -> dict[str, float]:
    return {f"test_{name}": value for name, value in score(model, test, device=device).items()}


def _report(epoch: int, epochs: int, metrics: dict[str, Any], seconds: float) -> None:
    tqdm.write(
        f"epoch {epoch} of {epochs}: train loss {metrics['train_loss']:.4f}, "
        f"accuracy {metrics['train_accuracy']:.2%}; test loss {metrics['test_loss']:.4f}, "
        f"accuracy {metrics['test_accuracy']:.2%}; {seconds:.1f} s an epoch, {seconds * (epochs - epoch):.0f} s left"
    )
    if not math.isfinite(metrics["train_loss"]):
        warnings.warn(
            f"the training loss of epoch {epoch} is {metrics['train_loss']}; lower the learning rate", stacklevel=3
        )


def _memory_format(model: nn.Module) -> torch.memory_format:
    """channels_last if the model has convolutions, which are three times faster in it on a CPU."""
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return torch.channels_last if convolutional else torch.contiguous_format
