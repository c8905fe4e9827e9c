"""Other tools and loops written by hand that evaluate the loss at the points of a plane, one after the other."""

import contextlib
import copy
import importlib
import importlib.metadata
import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import landscape_lib as ll

__all__ = ["PEERS", "Peer", "Task", "Timing", "missing", "timed"]

BATCH = 128  # of the plain loops, as in the 2018 tool
CACHED_BATCH = 64  # of the convolutions tuned by hand: small enough for activations to stay in the cache

Coordinates = Sequence[tuple[float, float]]
Visit = Callable[[float], None]  # called with the loss after every point


@dataclass(frozen=True, eq=False)
class Task:
    """A network in eval mode, all its data as tensors, and a plane through its weights."""

    model: nn.Module
    inputs: Tensor  # [N, ...] float32
    targets: Tensor  # [N] int64
    plane: ll.Plane

    def batches(self, size: int) -> list[tuple[Tensor, Tensor]]:
        """The data cut into views of ``size`` samples."""
        return list(zip(self.inputs.split(size), self.targets.split(size), strict=True))

    @cached_property
    def fastest_batch(self) -> int:
        """The fastest batch size for a forward pass over all samples, out of three."""
        seconds = {}
        for size in {min(size, len(self.inputs)) for size in (BATCH, 1024, len(self.inputs))}:
            mean_loss(self.model, self.batches(size)[:2])  # warm-up
            began = time.perf_counter()
            mean_loss(self.model, self.batches(size))
            seconds[size] = time.perf_counter() - began
        return min(seconds, key=seconds.get)


@dataclass(frozen=True)
class Peer:
    """Another tool, or a loop, that evaluates the losses on a grid."""

    name: str
    run: Callable[[Task, Coordinates, Visit], None]
    use: str  # how it is used here, and what it computes
    package: str | None = None  # distribution that it comes from
    module: str | None = None  # what to import to see whether that works
    affine_only: bool = False  # right only where the logits are affine in the coordinates
    is_target: bool = True  # counts when the best peer is looked for


class Packaged(Protocol):
    """What may come from a package that is not installed."""

    @property
    def package(self) -> str | None: ...

    @property
    def module(self) -> str | None: ...


@dataclass(frozen=True)
class Timing:
    """Seconds of a run; the first point includes all preparation."""

    first: float  # seconds until the first loss was there
    last: float  # seconds until the last one was there
    points: int

    def seconds_for(self, points: int) -> float:
        """Seconds for ``points`` points, measured if so many were run, else extrapolated linearly after the first."""
        if points == self.points:
            return self.last
        return self.first + (points - 1) * (self.last - self.first) / (self.points - 1)


def timed(peer: Peer, task: Task, coordinates: Coordinates) -> Timing:
    """Run ``peer`` on ``coordinates`` (two points or more) and read the clock after every point."""
    stamps = []
    began = time.perf_counter()
    peer.run(task, coordinates, lambda _: stamps.append(time.perf_counter()))
    return Timing(stamps[0] - began, stamps[-1] - began, len(stamps))


def missing(peer: Packaged) -> str | None:
    """Why ``peer`` cannot run here, or None."""
    if peer.package is None:
        return None
    try:
        importlib.metadata.version(peer.package)
        importlib.import_module(peer.module)
    except ImportError as error:  # PackageNotFoundError is one
        return f"{peer.package} is not installed ({error})"
    return None


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Mean cross-entropy over the samples of ``batches``."""
    total = sum(F.cross_entropy(model(inputs), targets, reduction="sum") for inputs, targets in batches)
    return float(total) / sum(len(targets) for _, targets in batches)


def move(model: nn.Module, plane: ll.Plane, alpha: float, beta: float) -> None:
    """Set the weights of ``model`` to those at (alpha, beta)."""
    for name, parameter in model.named_parameters():
        first, second = (direction[name] for direction in plane.directions)
        parameter.data = plane.origin[name] + alpha * first + beta * second


@torch.no_grad()
def logits_of(task: Task) -> list[Tensor]:
    """L_0, L_1, L_2 [N, C] with logits(alpha, beta) = L_0 + alpha L_1 + beta L_2, by three forward passes."""
    model, rows = copy.deepcopy(task.model), []
    for alpha, beta in ((0, 0), (1, 0), (0, 1)):
        move(model, task.plane, alpha, beta)
        rows.append(torch.cat([model(inputs) for inputs, _ in task.batches(1024)]))
    return [rows[0], rows[1] - rows[0], rows[2] - rows[0]]


def relative_logits_of(task: Task) -> list[Tensor]:
    """The result of `logits_of` minus the logit of the true class, transposed to [C, N]."""
    picked = task.targets[:, None]
    return [(logits - logits.gather(1, picked)).T.contiguous() for logits in logits_of(task)]


@torch.no_grad()
def logits_pointwise(task: Task, coordinates: Coordinates, visit: Visit) -> None:
    constant, first, second = logits_of(task)
    for alpha, beta in coordinates:
        visit(F.cross_entropy(constant + alpha * first + beta * second, task.targets).item())


@torch.no_grad()
def logits_pointwise_with_accuracy(task: Task, coordinates: Coordinates, visit: Visit) -> None:
    constant, first, second = logits_of(task)
    for alpha, beta in coordinates:
        logits = constant + alpha * first + beta * second
        losses, hits = F.cross_entropy(logits, task.targets, reduction="none"), logits.argmax(1) == task.targets
        _ = losses.std().item(), hits.double().mean().item()
        visit(losses.mean().item())


@torch.no_grad()
def logits_transposed(task: Task, coordinates: Coordinates, visit: Visit) -> None:
    constant, first, second = relative_logits_of(task)
    for alpha, beta in coordinates:
        visit((constant + alpha * first + beta * second).exp_().sum(0).log_().mean().item())


@torch.no_grad()
def logits_transposed_by_row(task: Task, coordinates: Coordinates, visit: Visit) -> None:
    constant, first, second = relative_logits_of(task)
    buffer, row_of = torch.empty_like(constant), None
    for alpha, beta in coordinates:
        if alpha != row_of:
            row, row_of = torch.add(constant, first, alpha=alpha), alpha
        visit(torch.add(row, second, alpha=beta, out=buffer).exp_().sum(0).log_().mean().item())


@torch.no_grad()
def dataloader_loop(task: Task, coordinates: Coordinates, visit: Visit) -> None:
    model = copy.deepcopy(task.model)
    loader = DataLoader(TensorDataset(task.inputs, task.targets), batch_size=BATCH)
    criterion = nn.CrossEntropyLoss()
    for alpha, beta in coordinates:
        move(model, task.plane, alpha, beta)
        model.eval()
        total = 0.0
        for inputs, targets in loader:
            total += criterion(model(inputs), targets).item() * len(targets)
        visit(total / len(task.targets))


def resident_loop(task: Task, coordinates: Coordinates, visit: Visit) -> None:
    model, batches = copy.deepcopy(task.model), task.batches(BATCH)
    for alpha, beta in coordinates:
        move(model, task.plane, alpha, beta)
        visit(mean_loss(model, batches))


def resident_loop_tuned(task: Task, coordinates: Coordinates, visit: Visit) -> None:
    model, batches = copy.deepcopy(task.model), task.batches(task.fastest_batch)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        batches = [
            (inputs.contiguous(memory_format=torch.channels_last), targets)
            for inputs, targets in task.batches(CACHED_BATCH)
        ]
    for alpha, beta in coordinates:
        move(model, task.plane, alpha, beta)
        visit(mean_loss(model, batches))


def loss_landscapes_plane(task: Task, coordinates: Coordinates, visit: Visit) -> None:
    """A plane of its own with the largest square grid of no more than ``len(coordinates)`` points."""
    import loss_landscapes
    from loss_landscapes.metrics import Loss

    class Visited(Loss):
        def __call__(self, wrapper):
            loss = super().__call__(wrapper)
            visit(loss)
            return loss

    metric = Visited(nn.CrossEntropyLoss(), task.inputs, task.targets)
    # The package moves the weights of the model in place.
    loss_landscapes.random_plane(copy.deepcopy(task.model), metric, steps=math.isqrt(len(coordinates)))


def landscaper_plane(task: Task, coordinates: Coordinates, visit: Visit) -> None:
    """A plane of its own with the largest square grid of no more than ``len(coordinates)`` points."""
    from landscaper import LossLandscape
    from landscaper.utils import generate_random_orthogonal_directions

    def visited(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
        loss = mean_loss(model, batches)
        visit(loss)
        return loss

    model = copy.deepcopy(task.model)
    directions = generate_random_orthogonal_directions(model, 2)
    batches, steps = task.batches(task.fastest_batch), math.isqrt(len(coordinates))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        LossLandscape.compute(model, batches, directions, visited, steps=steps, distance=1.0, dim=2, device="cpu")


PEERS = (
    Peer(
        "precomputed logits point by point",
        logits_pointwise,
        "L0 + a L1 + b L2, [N, C], then F.cross_entropy at every point; right for linear models only",
        affine_only=True,
    ),
    Peer(
        "precomputed logits point by point, with accuracy and standard error",
        logits_pointwise_with_accuracy,
        "the same with all that a surface of this toolkit holds; for information, no target",
        affine_only=True,
        is_target=False,
    ),
    Peer(
        "precomputed logits transposed",
        logits_transposed,
        "the losses alone in [C, N], relative to the true class: exp, sum, log; overflows at large ranges",
        affine_only=True,
    ),
    Peer(
        "precomputed logits transposed, by row",
        logits_transposed_by_row,
        "the same with L0 + a L1 kept along a row and one buffer; for information, no target",
        affine_only=True,
        is_target=False,
    ),
    Peer(
        "loss-landscapes",
        loss_landscapes_plane,
        "random_plane with its Loss metric, all samples as one batch (its README); its own grid: uniform "
        "directions, both rescaled to |theta|, odd rows shifted by one cell",
        package="loss-landscapes",
        module="loss_landscapes.metrics",
    ),
    Peer(
        "landscaper",
        landscaper_plane,
        "LossLandscape.compute with a scalar function over batches in memory (its quick start), the fastest of "
        "three batch sizes; its own grid: random directions rescaled to |theta|, noise added to the maximum, "
        "non-finite losses replaced",
        package="landscaper",
        module="landscaper",
    ),
    Peer(
        "DataLoader loop",
        dataloader_loop,
        "DataLoader over tensors with batch 128 and no workers; sets the weights, eval(), averages (the way of the "
        "2018 tool, less its image transforms)",
    ),
    Peer(
        "loop over tensors",
        resident_loop,
        "data in memory as one tensor, views of 128 samples, sets the weights, averages; no DataLoader",
    ),
    Peer(
        "loop over tensors, tuned by hand",
        resident_loop_tuned,
        "the same with the fastest of three batch sizes; convolutions with batches of 64 in channels_last, which an "
        "expert would have to know; for information, no target",
        is_target=False,
    ),
)
