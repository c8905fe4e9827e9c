"""Training of many small networks of one shape together, which has the overhead of training one network."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.datasets import Data
from landscape.errors import InputError
from landscape.runtime import own_torch_state
from landscape.runtime.devices import select_device
from landscape.training.loop import SCORE_BATCH, Training, make_optimizer

__all__ = ["fit_stacked"]


@own_torch_state()
@torch.enable_grad()
def fit_stacked(
    models: Sequence[nn.Module],
    trains: Sequence[Data],
    tests: Sequence[Data],
    trainings: Sequence[Training],
    *,
    device: str | torch.device = "auto",
    on_epoch: Callable[[int, list[dict[str, Any]]], None] | None = None,
) -> list[list[dict[str, Any]]]:
    """Train M networks together; the result equals that of `fit` for each of them up to rounding.

    Returns the metrics of `fit` by network and epoch. Weights are stacked to [M, ...] and batches to [M, batch, ...],
    so that a layer is one batched product (by torch.baddbmm; torch.func.vmap over the networks took up to twice as
    long). The loss of network m depends on its own weights theta_m only, so the gradient of sum_m L_m(theta_m)
    consists of the gradients of the single networks, and SGD and Adam update every weight separately. Each network
    has its own samples, order of samples and settings.

    Args:
        models: Networks of one shape whose only parameters are those of linear layers with biases, and whose other
            layers treat every sample separately. They are trained in place and hold their current weights at any time.
        trains: Training data of each network, all of one shape.
        tests: Test data of each network, all of one shape.
        trainings: Settings of each network; epochs, batch size and label smoothing must agree, and augment must be
            "none".
        device: See ``select_device``.
        on_epoch: Called as ``on_epoch(epoch, metrics of each network)`` after each epoch, counted from 1.

    Raises:
        InputError: the networks, data or settings cannot be stacked.
    """
    _check_alike(models, trains, tests, trainings)
    place = select_device(device)
    order = sorted(range(len(models)), key=lambda m: str(replace(trainings[m], seed=0)))
    stack = _Stack([models[m].to(place).eval() for m in order], [trainings[m] for m in order])
    train = _Samples([trains[m] for m in order], place)
    test = _Samples([tests[m] for m in order], place)
    generators = [torch.Generator().manual_seed(trainings[m].seed) for m in order]
    history: list[list[dict[str, Any]]] = [[] for _ in models]
    for epoch in range(1, trainings[0].epochs + 1):
        shuffled = torch.stack([torch.randperm(train.size, generator=generator) for generator in generators])
        rates = stack.set_learning_rates(epoch)
        running = _train_epoch(stack, train.batches(shuffled, trainings[0].batch_size), trainings[0].label_smoothing)
        scored = _score(stack, test)
        for row, m in enumerate(order):
            metrics = {"lr": rates[row], "train_loss": running[0][row], "train_accuracy": running[1][row]}
            history[m].append({**metrics, "test_loss": scored[0][row], "test_accuracy": scored[1][row]})
        if on_epoch:
            on_epoch(epoch, [epochs[-1] for epochs in history])
    for parameter in (parameter for model in models for parameter in model.parameters()):
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)  # no longer a view of the stack
    return history


class _Stack:
    """The stacked weights of M networks, with one optimizer for each block of networks that have equal settings."""

    def __init__(self, models: list[nn.Module], trainings: list[Training]):
        self.network = copy.deepcopy(models[0])
        for name, module in models[0].named_modules():
            if isinstance(module, nn.Linear):
                linears = [cast(nn.Linear, model.get_submodule(name)) for model in models]
                parent, _, child = name.rpartition(".")
                setattr(self.network.get_submodule(parent), child, _StackedLinear(linears))
        # (training, networks, parameters, optimizer) of each block of networks that differ only in their seed
        self.blocks: list[tuple[Training, slice, list[nn.Parameter], torch.optim.Optimizer]] = []
        alike = [replace(training, seed=0) for training in trainings]
        for training in dict.fromkeys(alike):
            block = slice(alike.index(training), alike.index(training) + alike.count(training))
            # The parameters of the optimizer are views of the stack.
            parts = [nn.Parameter(value.detach()[block]) for value in self.network.parameters()]
            self.blocks.append((training, block, parts, make_optimizer(parts, training, fused=True)))

    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs [M, batch, classes] for inputs [M, batch, ...]."""
        outputs: Tensor = self.network(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
        return outputs

    def set_learning_rates(self, epoch: int) -> list[float]:
        """Set the learning rates of ``epoch`` and return them by network."""
        rates = []
        for training, block, _, optimizer in self.blocks:
            for group in optimizer.param_groups:
                group["lr"] = training.learning_rate(epoch)
            rates += [training.learning_rate(epoch)] * (block.stop - block.start)
        return rates

    def step(self, loss: Tensor) -> None:
        """One optimizer step of every network; ``loss`` is the sum of their losses."""
        gradients = torch.autograd.grad(loss, list(self.network.parameters()))
        for _, block, parts, optimizer in self.blocks:
            for part, gradient in zip(parts, gradients, strict=True):
                part.grad = gradient[block]
            optimizer.step()


class _StackedLinear(nn.Module):
    """One linear layer of M networks: rows m * batch to (m + 1) * batch of the inputs belong to network m."""

    def __init__(self, linears: list[nn.Linear]):
        super().__init__()
        # Stored as [M, in, out], the layout of the gradients, which torch's fused optimizers require.
        self.weight = nn.Parameter(torch.stack([linear.weight.detach().T for linear in linears]))
        self.bias = nn.Parameter(torch.stack([linear.bias.detach() for linear in linears]))
        for linear, weight, bias in zip(linears, self.weight.detach(), self.bias.detach(), strict=True):
            linear.weight.data, linear.bias.data = weight.T, bias

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.baddbmm(self.bias[:, None], inputs.unflatten(0, (len(self.bias), -1)), self.weight).flatten(0, 1)


class _Samples:
    """The samples of M data sets of one shape: inputs [M, N, ...], targets [M, N]."""

    def __init__(self, data: list[Data], device: torch.device):
        self.inputs = torch.stack([entry.inputs for entry in data]).to(device)
        self.targets = torch.stack([entry.targets for entry in data]).to(device)
        self.rows = torch.arange(len(data), device=device)[:, None]
        self.size = self.targets.shape[1]

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches (inputs [M, size, ...], targets [M, size]) in the ``order`` [M, N] of each network."""
        for positions in order.to(self.rows.device).split(size, dim=1):
            yield self.inputs[self.rows, positions], self.targets[self.rows, positions]


def _train_epoch(stack: _Stack, batches: Iterable[tuple[Tensor, Tensor]], label_smoothing: float) -> list[list[float]]:
    """Train for one pass over ``batches`` and return the running losses and accuracies by network."""
    sums, samples = torch.zeros(()), 0
    for inputs, targets in batches:
        outputs = stack(inputs)
        losses = _losses(outputs, targets, label_smoothing).mean(1)
        stack.step(losses.sum())
        samples += targets.shape[1]
        hits = (outputs.argmax(2) == targets).sum(1)
        sums = sums + torch.stack([losses.detach() * targets.shape[1], hits])
    means: list[list[float]] = (sums / samples).tolist()
    return means


@torch.no_grad()
def _score(stack: _Stack, test: _Samples) -> list[list[float]]:
    """Mean cross-entropies and accuracies by network, averages over the test samples in float64."""
    loss, hits = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    for inputs, targets in zip(test.inputs.split(SCORE_BATCH, 1), test.targets.split(SCORE_BATCH, 1), strict=True):
        outputs = stack(inputs)
        loss = loss + _losses(outputs, targets, 0.0).cpu().double().sum(1)
        hits = hits + (outputs.argmax(2) == targets).sum(1).cpu()
    return [(loss / test.size).tolist(), (hits.double() / test.size).tolist()]


def _losses(outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy [M, batch] of outputs [M, batch, classes]."""
    losses = F.cross_entropy(
        outputs.flatten(0, 1), targets.flatten(), reduction="none", label_smoothing=label_smoothing
    )
    return losses.view(targets.shape)


def _check_alike(
    models: Sequence[nn.Module], trains: Sequence[Data], tests: Sequence[Data], trainings: Sequence[Training]
) -> None:
    sequences: tuple[Sequence[object], ...] = (models, trains, tests, trainings)
    counts = [len(sequence) for sequence in sequences]
    if not counts[0] or len(set(counts)) > 1:
        raise InputError(
            f"there are {counts} networks, training data, test data and settings; pass one of each for every network"
        )
    for training in trainings:
        training.check()
    aspects: dict[str, set[Any]] = {
        "networks": {str(model) for model in models},
        "training data": {(tuple(data.inputs.shape), data.classes) for data in trains},
        "test data": {tuple(data.inputs.shape) for data in tests},
        "settings": {(training.epochs, training.batch_size, training.label_smoothing) for training in trainings},
    }
    if unequal := [aspect for aspect, values in aspects.items() if len(values) > 1]:
        raise InputError(f"the {unequal[0]} differ, so the networks cannot be stacked; train them one by one, with fit")
    if any(training.augment != "none" for training in trainings):
        raise InputError("augmented data cannot be stacked; train the networks one by one, with fit")
    linears = [module for module in models[0].modules() if isinstance(module, nn.Linear) and module.bias is not None]
    tensors = sum(len(list(linear.parameters())) for linear in linears)
    if len(models[0].state_dict()) != tensors or not tensors:
        raise InputError("only networks of linear layers with biases can be stacked; train others one by one, with fit")
