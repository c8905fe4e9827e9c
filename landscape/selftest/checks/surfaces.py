"""Surfaces of networks beside plain forward passes, and what must not change them, or be changed by them."""

import copy
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from landscape.objective.losses import Weighted
from landscape.selftest.comparison import Check, Comparison, compared
from landscape.selftest.models import batch_norm_network, classification, relu_network
from landscape.selftest.subject import Place, Toolkit

__all__ = ["CHECKS"]

GRID = {"alpha_range": (-1.0, 0.5), "beta_range": (-0.5, 2.0), "resolution": (4, 6), "progress": False}


def plain_losses(model: nn.Module, slice_: Any, surface: Any, data: tuple[Tensor, Tensor]) -> np.ndarray:
    """Losses [A, B, N] by plain forward passes in float64 on the CPU."""
    inputs, targets = data
    model = model.cpu().double()
    losses = []
    for at in itertools.product(surface.alphas, surface.betas):
        outputs = functional_call(model, _moved(slice_, *at), (inputs,))
        losses.append(F.cross_entropy(outputs, targets, reduction="none").detach().numpy())
    return np.stack(losses).reshape(*surface.loss.shape, -1)


def forward_passes(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    model, data = relu_network(1), classification(23)
    plane = toolkit.random_plane(model, seed=2)
    objective = toolkit.objective(model, data, batch_size=7, **place.options)  # the last batch has two samples
    surface = toolkit.evaluate(objective, plane, per_sample=True, **GRID)
    losses = plain_losses(model, plane, surface, data)
    yield compared("mean", surface.loss, losses.mean(-1), place.tolerance(1e-9))
    yield compared("single samples", surface.per_sample, losses, place.tolerance(1e-6))
    error = losses.std(-1, ddof=1) / np.sqrt(losses.shape[-1])
    yield compared("standard error", surface.standard_error, error, place.tolerance(1e-6))
    yield compared("accuracy", surface.accuracy[3, 0], _share_right(model, plane, (0.5, -0.5), data), 1e-12)


def _share_right(model: nn.Module, plane: Any, at: tuple[float, float], data: tuple[Tensor, Tensor]) -> float:
    """The accuracy at one point of ``plane``, by a plain forward pass."""
    outputs = functional_call(model.cpu().double(), _moved(plane, *at), (data[0],))
    return float((outputs.argmax(1) == data[1]).double().mean())


def _moved(plane: Any, *at: float) -> dict[str, Tensor]:
    """origin + sum_i c_i d_i in float64 on the CPU."""
    point = {name: value.detach().cpu().double() for name, value in plane.origin.items()}
    for coordinate, direction in zip(at, plane.directions, strict=True):
        point = {name: value + coordinate * direction[name].detach().cpu().double() for name, value in point.items()}
    return point


def logit_trick(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    torch.manual_seed(0)
    model, data = nn.Linear(6, 3).double(), classification(31)
    plane = toolkit.random_plane(model, seed=4, ignore=())
    surface = toolkit.evaluate(toolkit.objective(model, data, **place.options), plane, **GRID)
    losses = plain_losses(model, plane, surface, data)
    yield compared("linear classifier", surface.loss, losses.mean(-1), place.tolerance(1e-9))


def nothing_changes_it(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    model, data = relu_network(2), classification(23)
    plane = toolkit.random_plane(model, seed=2)

    def of_batches(size: int) -> Any:
        return toolkit.objective(model, data, batch_size=size, **place.options)

    reference = toolkit.evaluate(of_batches(23), plane, method="direct", **GRID).loss
    for size in (4, 7):
        surface = toolkit.evaluate(of_batches(size), plane, method="direct", **GRID)
        yield compared(f"batches of {size} samples", surface.loss, reference, place.tolerance(1e-12))
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            surface = toolkit.evaluate(of_batches(7), plane, method="direct", **GRID)
            yield compared(f"workers on {count} cores", surface.loss, reference, place.tolerance(1e-12))
    finally:
        torch.set_num_threads(threads)
    surface = toolkit.evaluate(of_batches(23), plane, method="prefix", **GRID)
    yield compared("constant and affine parts computed once", surface.loss, reference, place.tolerance(1e-9))
    with tempfile.TemporaryDirectory() as folder:
        for what in ("kept points", "points read again"):
            surface = toolkit.evaluate(of_batches(23), plane, resume=Path(folder) / "unfinished.npz", **GRID)
            yield compared(what, surface.loss, reference, place.tolerance(1e-9))


def it_changes_nothing(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    model, data = batch_norm_network(3).to(place.device, place.dtype), classification(23)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    toolkit.evaluate(toolkit.objective(model, data, **place.options), toolkit.random_plane(model, seed=2), **GRID)
    for name, value in model.state_dict().items():
        yield compared(name, value, before[name], 0.0)
    yield compared("mode", model.training, True, 0.0)
    yield compared("global random state", torch.get_rng_state(), random_state, 0.0)
    yield compared("gradients required", [p.requires_grad for p in model.parameters()], [True] * 6, 0.0)


def in_place(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    """The caller's own network, also after an error in the middle of an evaluation."""
    model, data = relu_network(4).to(place.device, torch.float32), classification(23)
    data = data[0].float(), data[1]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plane, calls = toolkit.random_plane(model, seed=2), 0

    def failing(network: nn.Module, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if stop and calls > stop:
            raise Interrupted
        losses: Tensor = F.cross_entropy(network(batch[0]), batch[1], reduction="none")
        return losses

    stop = 0
    objective = toolkit.objective(model, data, loss=failing, copy=False, dtype=None, batch_size=7)
    surface = toolkit.evaluate(objective, plane, **GRID)
    exact_losses = plain_losses(copy.deepcopy(model), plane, surface, (data[0].double(), data[1])).mean(-1)
    yield compared("surface", surface.loss, exact_losses, 1e-5)
    yield from (compared(f"{name} afterwards", value, before[name], 0.0) for name, value in model.state_dict().items())
    stop = calls + 15  # of more than 24 calls, for as many points
    interrupted = False
    try:
        toolkit.evaluate(objective, plane, **GRID)
    except Interrupted:
        interrupted = True
    yield compared("the evaluation was interrupted", interrupted, True, 0.0)
    for name, value in model.state_dict().items():
        yield compared(f"{name} after an error", value, before[name], 0.0)


class Interrupted(Exception):
    """Raised by a loss in the middle of an evaluation."""


def gaps(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    model, data = relu_network(1), classification(9)
    plane = toolkit.random_plane(model, seed=2)

    shift = 0.2 - model(data[0])[:, 0].min().item()  # finite at the origin, and not far from it

    def logarithm(network: nn.Module, batch: Any) -> Tensor:
        losses: Tensor = torch.log(network(batch[0])[:, 0] + shift)
        return losses

    surface = toolkit.evaluate(toolkit.objective(model, data, loss=logarithm, **place.options), plane, **GRID)
    values = [
        torch.log(functional_call(model.cpu().double(), _moved(plane, *at), (data[0],))[:, 0] + shift).mean().item()
        for at in itertools.product(surface.alphas, surface.betas)
    ]
    exact = np.reshape(values, surface.loss.shape)
    yield compared("points that are not a number stay so", surface.loss, exact, place.tolerance(1e-6))
    yield compared("some are, some are not", 0 < np.isnan(exact).sum() < exact.size, True, 0.0)


def _error_of_ratio(values: np.ndarray, weights: np.ndarray) -> float:
    """The standard error of sum w v / sum w, from the covariance of both sums by the delta method."""
    top, bottom = (weights * values).mean(), weights.mean()
    slope = np.array([1 / bottom, -top / bottom**2])
    return float(np.sqrt(slope @ np.cov(weights * values, weights) @ slope / len(values)))


def weights_and_whole_batches(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    model, (inputs, targets) = relu_network(1), classification(23)
    plane, weights = toolkit.random_plane(model, seed=2), torch.rand(23, dtype=torch.float64) + 0.1

    def weighted(network: nn.Module, batch: Any) -> Weighted:
        x, y, w = batch
        return Weighted(F.cross_entropy(network(x), y, reduction="none"), w)

    def coupled(network: nn.Module, batch: Any) -> Tensor:
        outputs = network(batch[0])
        loss: Tensor = (outputs @ outputs.T).exp().mean().log()
        return loss

    data = (inputs, targets, weights)
    surface = toolkit.evaluate(
        toolkit.objective(model, data, loss=weighted, batch_size=5, **place.options), plane, **GRID
    )
    losses = plain_losses(model, plane, surface, (inputs, targets))
    exact = (losses * weights.numpy()).sum(-1) / float(weights.sum())
    yield compared("weighted mean", surface.loss, exact, place.tolerance(1e-9))
    errors = np.apply_along_axis(_error_of_ratio, -1, losses, weights.numpy())
    yield compared("standard error of the weighted mean", surface.standard_error, errors, place.tolerance(1e-6))
    whole = toolkit.objective(model, (inputs,), loss=coupled, whole_batch=True, **place.options)
    surface = toolkit.evaluate(whole, plane, **GRID)
    outputs = functional_call(model.cpu().double(), _moved(plane, surface.alphas[1], surface.betas[2]), (inputs,))
    one = (outputs @ outputs.T).exp().mean().log()
    yield compared("loss that couples the samples", surface.loss[1, 2], one, place.tolerance(1e-8))


CHECKS = (
    Check("surfaces of networks", "plain forward passes in float64", forward_passes),
    Check("linear classifiers", "plain forward passes in float64", logit_trick),
    Check("what must not change a surface", "batch size, workers, method, resumption", nothing_changes_it),
    Check("what a surface must not change", "the model, its mode, the global random state", it_changes_nothing),
    Check("evaluation in place", "the same bits, also after an error", in_place),
    Check("gaps", "plain forward passes; NaN is never replaced", gaps),
    Check("weighted and coupled losses", "all samples at once", weights_and_whole_batches),
)
