"""One training loop: data in memory, SGD or Adam, a hook after every epoch, resumable."""

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from landscape.checks import check_count, check_seed
from landscape.datasets import Data
from landscape.errors import InputError
from landscape.runtime import own_torch_state
from landscape.runtime.devices import select_device
from landscape.runtime.progress import progress_bar
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
    """How a network is trained."""

    epochs: int
    """Passes over the training data."""
    batch_size: int
    """Samples per step; a single sample left over joins the batch before it where the network has BatchNorm."""
    lr: float
    """Learning rate at the start."""
    seed: int
    """Seed of the initial weights, of the order of the samples and of the augmentation."""
    optimizer: Optimizer = "sgd"
    """SGD, or Adam."""
    momentum: float = 0.0
    """Momentum of SGD; Adam keeps its own 0.9 and 0.999."""
    weight_decay: float = 0.0
    """L2 penalty: this times the weights is added to the gradient."""
    label_smoothing: float = 0.0
    """Share of the label that is spread over all classes, in the training loss only."""
    schedule: Schedule = None
    """Learning rate: constant, step (falls after each of the milestones), cosine (falls towards zero, epoch by epoch);
    None is step where there are milestones, else constant."""
    milestones: tuple[int, ...] = ()
    """Epochs after which the learning rate falls, for the schedule step."""
    gamma: float = 0.1
    """Factor by which the learning rate falls there."""
    augment: Augment = "none"
    """Random crops of the training images, with mirror images (crop-flip; not for digits) or without (crop)."""

    def check(self) -> None:
        """Raise InputError, with one line that says what to change, where a value is out of range."""
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
            if getattr(self, name) not in get_args(kinds):
                known = ", ".join(map(str, get_args(kinds)))
                raise InputError(f"unknown {name} {getattr(self, name)!r}; use one of {known}")
        wrong = self.schedule is not None and (self.schedule == "step") != bool(self.milestones)
        if wrong or min(self.milestones, default=1) < 1:
            raise InputError(
                f"schedule is {self.schedule} and milestones {list(self.milestones)}; "
                "the schedule step, and no other, needs milestones, epochs from 1"
            )
        if not 0 < self.gamma < math.inf:
            raise InputError(f"gamma is {self.gamma}; it must be above 0")

    def learning_rate(self, epoch: int) -> float:
        """That of ``epoch``, counted from 1; cosine: lr (1 + cos(pi (epoch - 1) / epochs)) / 2.

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

    Metrics: train_loss and train_accuracy (running, over the epoch's samples as they were augmented and smoothed),
    test_loss and test_accuracy (after it, in eval mode, plain cross-entropy), lr. Batches are shuffled, and crops
    drawn, on the CPU from the seed, so that every device sees the same. ``model`` stays on the device, in eval
    mode.

    Args:
        model: Its present weights are the initial ones.
        train: Moves to the device as a whole.
        test: Scored after each epoch.
        device: As for ``select_device``.
        on_epoch: Called as ``on_epoch(epoch, model, metrics)`` after each epoch, counted from 1.
        on_step: Called as ``on_step(step, model, loss)`` after each step, counted from 1 over all epochs, with the
            loss of its mini-batch before the step.
        epoch_zero: Call ``on_epoch`` also before training, for epoch 0 with the metrics of the test data.
        state: File that keeps all that is needed to go on, written after ``on_epoch``. Where it exists, training
            goes on from it, on the CPU to the same bits as without a break.
        notes: More settings (plain values) that a run must share with ``state`` to go on from it.
        **settings: The fields of :class:`Training`.

    Raises:
        InputError: a setting out of range, unknown device, single samples for BatchNorm, ``state`` of another run.
    """
    training = Training(**settings)
    training.check()
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise InputError("the model was made under torch.inference_mode, so it cannot be trained; make it outside")
    sizes = _batch_sizes(model, len(train), training.batch_size)
    place, layout = select_device(device), _memory_format(model)
    model.to(place).to(memory_format=layout).eval()
    inputs, targets = train.inputs.to(place), train.targets.to(place)
    optimizer = make_optimizer(model.parameters(), training)
    generator = torch.Generator().manual_seed(training.seed)
    augment = Augmentation(training.augment, train, generator) if training.augment != "none" else None
    saved = None
    if state:
        identity = asdict(training) | _origin(train, test, place) | (notes or {})
        saved = TrainingState(Path(state), identity, model, optimizer, generator)
    history = saved.restore() if saved else []
    if epoch_zero and on_epoch and not history:
        on_epoch(0, model, _test_metrics(model, test, place))

    done, start = len(history), time.perf_counter()
    total, first = training.epochs * len(sizes), done * len(sizes)
    # In a log the line after each epoch tells the time left.
    with progress_bar(True, "Training", total, unit="batches", initial=first, lines=False) as bar:
        for epoch in range(done + 1, training.epochs + 1):
            lr = training.learning_rate(epoch)
            for group in optimizer.param_groups:
                group["lr"] = lr
            order = torch.randperm(len(train), generator=generator).to(place).split(sizes)
            batches = _batches(inputs, targets, order, augment, layout)
            title = f"epoch {epoch}, batch {{}} of {len(sizes)}"
            first = (epoch - 1) * len(sizes)
            after = partial(_tell_step, on_step, model, first) if on_step else None
            running = _train_epoch(model, batches, optimizer, training.label_smoothing, title, bar, after)
            metrics = {"lr": lr, **running}
            metrics |= _test_metrics(model, test, place)
            history.append(metrics)
            _report(epoch, training.epochs, metrics, (time.perf_counter() - start) / (epoch - done))
            if on_epoch:
                on_epoch(epoch, model, metrics)
            if saved:
                saved.save(history)
    return history


@own_torch_state()
def score(model: nn.Module, data: Data, *, device: str | torch.device = "auto") -> dict[str, float]:
    """Mean cross-entropy ("loss") and share of correct top classes ("accuracy") over ``data``, in eval mode.

    Sums over samples in float64, so that a short last batch weighs what it should. ``model`` moves to the
    device and is left in the mode it had, module by module.
    """
    place, layout = select_device(device), _memory_format(model)
    model.to(place)
    modes = {module: module.training for module in model.modules()}
    loss, hits = 0.0, 0
    try:
        with torch.inference_mode():
            model.eval()
            for picked in torch.arange(len(data)).split(SCORE_BATCH):
                batch, labels = data.inputs[picked].to(place), data.targets[picked].to(place)
                logits = model(batch.contiguous(memory_format=layout))
                loss += F.cross_entropy(logits, labels, reduction="none").cpu().double().sum().item()
                hits += (logits.argmax(1) == labels).sum().item()
    finally:
        for module, training in modes.items():
            module.training = training
    return {"loss": loss / len(data), "accuracy": hits / len(data)}


def _tell_step(
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
    after: Callable[[int, Tensor], None] | None,
) -> dict[str, float]:
    """One pass over ``batches``; running loss and accuracy, printed on the way."""
    model.train()
    sums, seen = torch.zeros(()), 0  # loss and hits, read from the device only to report
    for number, (batch, labels) in enumerate(batches, start=1):
        logits = model(batch)
        loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if after:
            after(number, loss.detach())
        seen += len(labels)
        sums = sums + torch.stack([loss.detach() * len(labels), (logits.argmax(1) == labels).sum()])
        bar.update()
        if number % REPORT_EVERY == 0:
            running, accuracy = (sums / seen).tolist()
            tqdm.write(f"{title.format(number)}: loss {running:.4f}, accuracy {accuracy:.2%}")
    model.eval()
    running, accuracy = (sums / seen).tolist()
    return {"train_loss": running, "train_accuracy": accuracy}


def _batches(
    inputs: Tensor,
    targets: Tensor,
    order: Iterable[Tensor],
    augment: Augmentation | None,
    layout: torch.memory_format,
) -> Iterator[tuple[Tensor, Tensor]]:
    for picked in order:  # positions of one batch
        batch = inputs[picked]
        if augment:
            batch = augment(batch)
        yield batch.contiguous(memory_format=layout), targets[picked]


def _batch_sizes(model: nn.Module, samples: int, batch_size: int) -> list[int]:
    """Samples of each batch; BatchNorm cannot train on a single one, so that joins the batch before it."""
    sizes = [len(batch) for batch in torch.arange(samples).split(batch_size)]
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        if min(batch_size, samples) == 1:
            advice = "BatchNorm cannot train on single samples, use 2 or more"
            raise InputError(f"batch size is {batch_size} for {samples} samples; {advice}")
        if sizes[-1] == 1:
            sizes[-2:] = [batch_size + 1]
    return sizes


def make_optimizer(parameters: Iterable[nn.Parameter], training: Training, **options: Any) -> torch.optim.Optimizer:
    """SGD or Adam over ``parameters``, as ``training`` asks; further ``options`` are torch's."""
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
        warnings.warn(f"the loss of epoch {epoch} is {metrics['train_loss']}: lower lr", stacklevel=3)


def _memory_format(model: nn.Module) -> torch.memory_format:
    """channels_last where the model has convolutions: three times faster on a CPU."""
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return torch.channels_last if convolutional else torch.contiguous_format
