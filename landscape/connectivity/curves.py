"""Fit a curve of low loss between two networks."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from landscape.errors import InputError
from landscape.objective.batch_norm import use_batch_statistics
from landscape.objective.network import between
from landscape.objective.objectives import Objective, check_objective
from landscape.points import Point, as_point, check_finite, check_match, cut, is_continuous
from landscape.runtime import own_torch_state, ranks
from landscape.runtime.progress import progress_bar
from landscape.runtime.seeds import checked_seed
from landscape.slices.chosen import choice_of, chosen_parameters
from landscape.slices.curves import Curve, CurveForm, check_form, control_weights
from landscape.slices.interpolations import agree_elsewhere
from landscape.slices.networks import Networks, set_buffers

__all__ = ["fit_curve"]


@own_torch_state()
def fit_curve(
    objective: Objective,
    a: nn.Module | Point,
    b: nn.Module | Point,
    *,
    kind: CurveForm = "bezier",
    bends: int = 3,
    epochs: int = 10,
    lr: float = 1e-3,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
    parameters: str | Sequence[str] | None = None,
) -> Curve:
    """Train a curve theta(t) from ``a`` to ``b`` that minimises the expected loss E_t L(theta(t)), t uniform in [0, 1].

    Its control points between the ends, the bends, start equally spaced on the line from a to b and are trained by
    Adam, with a value of t drawn for each mini-batch and a learning rate that decays to zero like a cosine. During
    training BatchNorm layers normalise by the batch and dropout is off; ``evaluate(objective, curve, alpha_range=(0,
    1))`` estimates the BatchNorm statistics at every point. Source: Garipov et al. 2018, "Loss Surfaces, Mode
    Connectivity, and Fast Ensembling of DNNs", section 3 (which trains by SGD).

    Args:
        objective: The loss L and the samples to train on; it is not changed.
        a: The network at t = 0.
        b: The network at t = 1.
        kind: "bezier" or "polygon" (a chain of segments).
        bends: Number of trained points between a and b.
        epochs: Number of passes over the samples.
        lr: Learning rate at the start.
        batch_size: Samples in a step, at most; streamed samples come in the batches and the order of their loader.
        seed: Seed of the order of the samples and of the values of t.
        progress: Show a progress bar.
        parameters: The parameters that change along the curve, such as ("*lora*",), see `chosen_parameters`; by default
            all. The others are those of ``a``, so the curve ends at ``a`` with these parameters of ``b``.

    Raises:
        InputError: The networks have other architectures or buffers that cannot be mixed, a setting is out of range,
            the parameters choose nothing, or the loss is not finite.
    """
    settings = {"bends": bends, "epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": checked_seed(seed)}
    recipe = {"kind": f"{kind} curve", **settings}
    check_objective(objective, "fit_curve(objective, a, b)")
    check_form(kind)
    if min(bends, epochs, batch_size) < 1 or not 0 < lr < math.inf:
        raise InputError(
            f"bends is {bends}, epochs {epochs}, batch_size {batch_size} and lr {lr}; the first three must be at least "
            "1, lr above 0"
        )
    held = Networks.between((a, b), ((0.0,), (1.0,)))
    first, last = _checked_ends(objective, a, b)
    names = list(first)
    if parameters is not None:
        names = chosen_parameters(a, parameters)
        recipe |= choice_of(first, names, parameters)
        last, agree = _moved_end(first, last, names)
        held = held if agree or not held else held.through_first()
    objective.check_moves(name for name in names if is_continuous(first[name]))
    held = held.bent(bends + 1) if held else None
    straight = Curve.through((first,) * (bends + 1) + (last,), recipe, held)
    if objective.overwrites:
        raise InputError("the forward pass writes into its parameters, so no curve can be trained through it")
    settled = objective.for_slice(straight)
    with objective.arithmetic():
        trained = _train(settled, straight, names, progress)
    bent = ({name: bend.get(name, value).to(value, copy=True) for name, value in first.items()} for bend in trained)
    return Curve.through((first, *bent, last), recipe, held)


def _moved_end(first: Point, last: Point, names: Sequence[str]) -> tuple[Point, bool]:
    """``first`` with the parameters ``names`` of ``last``, and whether that is ``last``; the user is warned if not."""
    return {**first, **{name: last[name] for name in names}}, agree_elsewhere(first, [last], set(names))


def _checked_ends(objective: Objective, *ends: nn.Module | Point) -> list[Point]:
    """Copies of the parameters at the ends.

    Raises:
        InputError: A curve between these points cannot be trained.
    """
    parameters, points = dict(objective.model.named_parameters()), []
    for end, what in zip(map(as_point, ends), ("first model", "second model"), strict=True):
        check_match(end, parameters, what)
        check_finite(end, what)
        for name, value in end.items():
            if value.is_complex():
                raise InputError(f"a curve is trained in real parameters, but {name!r} is {value.dtype}")
        points.append({name: end[name].detach().clone() for name in parameters})
    return points


def _train(objective: Objective, straight: Curve, names: Sequence[str], progress: bool) -> list[Point]:
    """The parameters ``names`` of the trained bends of a curve from the first network to the last one."""
    network, recipe = _MeanLoss(objective, straight.origin), straight.recipe
    own = dict(objective.model.named_parameters())
    moved = {name: own[name] for name in names if is_continuous(own[name])}
    like = next(iter(moved.values()))
    networks = straight.points[0], straight.points[-1]
    ends = torch.stack([torch.cat([end[name].flatten().to(like) for name in moved]) for end in networks])
    segments = recipe["bends"] + 1
    along = torch.linspace(0, 1, segments + 1).to(ends)[1:-1, None]
    bends = torch.lerp(ends[0], ends[1], along).requires_grad_()
    optimizer = torch.optim.Adam([bends], lr=recipe["lr"])
    generator = torch.Generator().manual_seed(recipe["seed"])
    visible, total, samples = progress and ranks.is_first_rank(), recipe["epochs"] * objective.size, 0
    with torch.enable_grad(), progress_bar(visible, "curve", total, unit="samples") as bar:
        passes = (objective.batches.shuffled(recipe["batch_size"], generator) for _ in range(recipe["epochs"]))
        for batch in itertools.chain.from_iterable(passes):
            optimizer.param_groups[0]["lr"] = recipe["lr"] * (1 + math.cos(math.pi * samples / total)) / 2
            t = torch.rand(1, generator=generator, dtype=torch.float64)
            weights = control_weights(straight.form, t, segments).to(ends)
            point = _parts((weights @ torch.cat([ends[:1], bends, ends[1:]]))[0], moved)
            loss = network.at(point, weights[0, 1:].tolist(), batch)
            if not loss.isfinite():
                raise InputError(f"the loss on the curve is {loss.item()} at t = {t.item():.3f}; lower lr")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            samples += objective.batches.count(batch)
            bar.update(objective.batches.count(batch))
    return [_parts(bend, moved) for bend in bends.detach()]


class _MeanLoss(nn.Module):
    """The mean loss of a batch as a function of the parameters, with BatchNorm statistics of the batch."""

    def __init__(self, objective: Objective, origin: Point):
        super().__init__()
        self.objective = objective.twin()
        self.model = self.objective.model
        use_batch_statistics(self.model)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(origin[name])

    def at(self, point: Point, weights: list[float], batch: Any) -> Tensor:
        """The loss at ``point``, whose ``weights`` are the factors of the directions of the curve."""
        if self.objective.network.ends:
            self._settle(point, weights)
        loss: Tensor = functional_call(self, {f"model.{name}": value for name, value in point.items()}, (batch,))
        return loss

    def _settle(self, point: Point, weights: list[float]) -> None:
        """Set the buffers that are interpolated between the networks, and those computed from the parameters."""
        parameters = dict(self.model.named_parameters())
        for name, value in point.items():
            parameters[name].data = value.detach()
        set_buffers(self.model, between(self.objective.network.ends, weights))

    def forward(self, batch: Any) -> Tensor:
        return self.objective.losses(batch).mean()


def _parts(vector: Tensor, like: Mapping[str, Tensor]) -> Point:
    """``vector`` [P] cut into tensors of the names and shapes of ``like``."""
    pieces = cut(vector, [value.numel() for value in like.values()])
    return {name: piece.view(value.shape) for (name, value), piece in zip(like.items(), pieces, strict=True)}
