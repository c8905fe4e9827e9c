"""Curves of low loss between two networks."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from landscape.errors import InputError
from landscape.objective.batch_norm import use_batch_statistics
from landscape.objective.objectives import Objective, check_objective
from landscape.objective.settling import between
from landscape.points import Point, as_point, check_finite, check_match, cut, in_precision
from landscape.runtime import own_torch_state, ranks
from landscape.runtime.progress import progress_bar
from landscape.runtime.seeds import checked_seed
from landscape.slices.networks import Networks, set_buffers
from landscape.slices.planes import Slice
from landscape.storage.provenance import fingerprint

__all__ = ["Curve", "fit_curve"]

KINDS = ("bezier", "polygon")


@dataclass(frozen=True, eq=False, repr=False)
class Curve(Slice):
    """t in [0, 1] -> sum_k w_k(t) points[k], k = 0..n: exactly the first point at 0 and exactly the last one at 1.

    Bezier: w_k(t) = C(n, k) t^k (1 - t)^(n - k). Polygon: w_k(t) = max(0, 1 - |n t - k|). The weights add up to one, so
    that it is the affine map of a `Slice` at w_1(t), ..., w_n(t), with directions points[k] - points[0].
    """

    points: tuple[Point, ...] = ()  # the first network, the bends, the second network

    @classmethod
    def through(cls, points: tuple[Point, ...], recipe: dict[str, Any], held: Networks | None = None) -> "Curve":
        """The curve of these control points between two networks; ``recipe["kind"]`` says which."""
        origin, *others = points
        directions = tuple({name: point[name] - origin[name] for name in origin} for point in others)
        return cls(origin, directions, recipe, 2, held, tuple(points))

    @property
    def dimension(self) -> int:
        return 1

    def weights(self, coordinates: Tensor) -> Tensor:
        """w_1, ..., w_n [K, n] at ``coordinates`` t [K, 1]."""
        return _control_weights(self.recipe["kind"], coordinates[:, 0], len(self.directions))[:, 1:]

    @own_torch_state()
    def __call__(self, *coordinates: float) -> Point:
        (t,) = coordinates
        time = torch.tensor([t], dtype=torch.float64)
        weights = _control_weights(self.recipe["kind"], time, len(self.directions))[0].tolist()
        return {
            name: sum(weight * point[name] for weight, point in zip(weights, self.points, strict=True))
            for name in self.origin
        }

    @own_torch_state()
    def to(self, dtype: torch.dtype) -> "Curve":
        points = tuple({name: in_precision(value, dtype) for name, value in point.items()} for point in self.points)
        return Curve.through(points, self.recipe, self.held)

    @cached_property
    def fingerprint(self) -> str:
        kind = torch.tensor([*self.recipe["kind"].encode()])  # the same points make another curve of another kind
        return fingerprint([kind, *(v for point in self.points for v in point.values()), *self._varying])


@own_torch_state()
def fit_curve(
    objective: Objective,
    a: nn.Module | Point,
    b: nn.Module | Point,
    *,
    kind: Literal["bezier", "polygon"] = "bezier",
    bends: int = 3,
    epochs: int = 10,
    lr: float = 1e-3,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> Curve:
    """A curve theta(t) from ``a`` to ``b`` whose bends minimise the expected loss E_t L(theta(t)), t uniform in [0, 1].

    Each mini-batch takes a step of Adam at a t of its own; the learning rate falls to zero by a cosine. The bends start
    equally spaced on the line from a to b, whose ends never move. While the bends are trained BatchNorm normalises by
    the batch, and dropout is off; ``evaluate(objective, curve, alpha_range=(0, 1))`` estimates the statistics anew at
    every point. Source: Garipov et al. 2018, "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", section
    3, with SGD.

    Args:
        objective: the loss L and the samples that it is trained on; not changed.
        a: the network at t = 0.
        b: the network at t = 1.
        kind: "bezier" or "polygon" (a chain of segments).
        bends: trained points between a and b.
        epochs: passes over the samples.
        lr: learning rate at the start.
        batch_size: samples a step, at most; streamed samples come in the batches and the order of their loader.
        seed: of the order of the samples and of t.
        progress: show a progress bar.

    Raises:
        InputError: networks of other architectures or with buffers that cannot be mixed, a setting out of range, a
            loss that is not finite.
    """
    seed = checked_seed(seed)
    check_objective(objective, "fit_curve(objective, a, b)")
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r} of curve; use {' or '.join(map(repr, KINDS))}")
    if min(bends, epochs, batch_size) < 1 or not 0 < lr < math.inf:
        raise InputError(
            f"bends is {bends}, epochs {epochs}, batch_size {batch_size} and lr {lr}; the first three must be at least "
            "1, lr above 0"
        )
    held = Networks.between((a, b), ((0.0,), (1.0,)))
    held = held.bent(bends + 1) if held else None
    ends, parameters = [as_point(end) for end in (a, b)], dict(objective.model.named_parameters())
    for end, what in zip(ends, ("first model", "second model"), strict=True):
        check_match(end, parameters, what)
        check_finite(end, what)
        for name, value in end.items():
            if not value.is_floating_point():
                raise InputError(f"a curve is trained in real parameters, but {name!r} is {value.dtype}")
    objective.check_moves(parameters)
    if objective.overwrites:
        raise InputError("the forward pass writes into its parameters, so no curve can be trained through it")
    settings = {"bends": bends, "epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed}
    recipe = {"kind": f"{kind} curve", **settings}
    like = next(iter(parameters.values()))
    straight = Curve.through((ends[0],) * (bends + 1) + (ends[1],), recipe, held)
    settled = objective.for_slice(straight)
    with objective.arithmetic():
        control = torch.stack([torch.cat([end[name].flatten().to(like) for name in parameters]) for end in ends])
        rows = _train(settled, control, recipe, progress).to(ends[0][next(iter(parameters))])
    bent = ({name: part.clone() for name, part in _parts(row, parameters).items()} for row in rows)
    first, last = ({name: end[name].detach().clone() for name in parameters} for end in ends)
    return Curve.through((first, *bent, last), recipe, held)


def _train(objective: Objective, ends: Tensor, recipe: dict[str, Any], progress: bool) -> Tensor:
    """The bends [bends, P], trained; ``ends`` [2, P]."""
    segments = recipe["bends"] + 1
    along = torch.linspace(0, 1, segments + 1).to(ends)[1:-1, None]
    bends = torch.lerp(ends[0], ends[1], along).requires_grad_()
    network = _MeanLoss(objective)
    parameters = dict(objective.model.named_parameters())
    optimizer = torch.optim.Adam([bends], lr=recipe["lr"])
    generator = torch.Generator().manual_seed(recipe["seed"])
    shown, total, seen = progress and ranks.is_first_rank(), recipe["epochs"] * objective.size, 0
    with torch.enable_grad(), progress_bar(shown, "curve", total, unit="samples") as bar:
        passes = (objective.shuffled(recipe["batch_size"], generator) for _ in range(recipe["epochs"]))
        for batch in itertools.chain.from_iterable(passes):
            optimizer.param_groups[0]["lr"] = recipe["lr"] * (1 + math.cos(math.pi * seen / total)) / 2
            t = torch.rand(1, generator=generator, dtype=torch.float64)
            weights = _control_weights(recipe["kind"], t, segments).to(ends)
            point = (weights @ torch.cat([ends[:1], bends, ends[1:]]))[0]
            if network.objective.ends:
                network.settle(_parts(point.detach(), parameters), weights[0, 1:].tolist())
            moved = {f"model.{name}": part for name, part in _parts(point, parameters).items()}
            loss = functional_call(network, moved, (batch,))
            if not loss.isfinite():
                raise InputError(f"the loss on the curve is {loss.item()} at t = {t.item():.3f}; lower lr")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += objective.count(batch)
            bar.update(objective.count(batch))
    return bends.detach()


class _MeanLoss(nn.Module):
    """The mean loss of a batch as a function of the parameters, BatchNorm by the batch at hand."""

    def __init__(self, objective: Objective):
        super().__init__()
        self.objective = objective.twin()
        self.model = self.objective.model
        use_batch_statistics(self.model)

    def settle(self, point: Point, weights: list[float]) -> None:
        """Set the buffers that lie between those of the two networks, and that the weights there decide."""
        for name, parameter in self.model.named_parameters():
            parameter.data = point[name]
        set_buffers(self.model, between(self.objective.ends, weights))

    def forward(self, batch: Any) -> Tensor:
        return self.objective.evaluate(batch).losses.mean()


def _control_weights(kind: str, t: Tensor, count: int) -> Tensor:
    """w_0, ..., w_n [K, n + 1] at ``t`` [K], for n = ``count``.

    Raises:
        InputError: a t outside [0, 1].
    """
    if bool(((t < 0) | (t > 1)).any()):
        raise InputError("a curve runs from 0 to 1; evaluate it with alpha_range=(0, 1)")
    k = torch.arange(count + 1, dtype=t.dtype)
    if kind == "polygon curve":
        return (1 - (count * t[:, None] - k).abs()).clamp(min=0)
    binomial = torch.tensor([math.comb(count, i) for i in range(count + 1)], dtype=t.dtype)
    return binomial * t[:, None] ** k * (1 - t[:, None]) ** (count - k)


def _parts(vector: Tensor, like: Mapping[str, Tensor]) -> Point:
    """``vector`` [P] cut into tensors of the names and shapes of ``like``."""
    pieces = cut(vector, [value.numel() for value in like.values()])
    return {name: piece.view(value.shape) for (name, value), piece in zip(like.items(), pieces, strict=True)}
