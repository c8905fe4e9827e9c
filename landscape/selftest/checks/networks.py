"""Symmetries of networks, and the statistics that belong to one of them."""

import copy
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from landscape.selftest.comparison import Check, Comparison, compared
from landscape.selftest.models import batch_norm_network, classification, relu_network
from landscape.selftest.subject import Place, Toolkit

__all__ = ["CHECKS"]


def rescaled(model: nn.Sequential) -> nn.Sequential:
    """The same function: what enters the first hidden units times eight, what leaves them divided by it."""
    other = copy.deepcopy(model)
    first, second = (layer for layer in list(other)[:3] if isinstance(layer, nn.Linear))
    with torch.no_grad():
        first.weight.mul_(8)
        first.bias.mul_(8)
        second.weight.div_(8)
    return other


def permuted(model: nn.Sequential, seed: int) -> nn.Sequential:
    """The same function: the hidden units in another order."""
    other = copy.deepcopy(model)
    layers = [layer for layer in other if isinstance(layer, nn.Linear)]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for before, after in pairwise(layers):
            order = torch.randperm(before.out_features, generator=generator)
            before.weight.copy_(before.weight[order].clone())
            before.bias.copy_(before.bias[order].clone())
            after.weight.copy_(after.weight[:, order].clone())
    return other


def relu_rescaling(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    model, data = relu_network(1), classification(23)
    grid = {"resolution": (5, 4), "progress": False}
    surfaces = [
        toolkit.evaluate(toolkit.objective(one, data, **place.options), toolkit.random_plane(one, seed=7), **grid)
        for one in (model, rescaled(model))
    ]
    yield compared("surface of the rescaled network", surfaces[1].loss, surfaces[0].loss, place.tolerance(1e-6))
    objective = toolkit.objective(model, data, **place.options)
    values = [toolkit.sharpness(objective, one, "adaptive-sam").value for one in (model, rescaled(model))]
    yield compared("adaptive sharpness of the rescaled network", values[1], values[0], place.tolerance(1e-6))


def permuted_copies(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    model, data = relu_network(2), classification(40)
    other = permuted(model, seed=3)
    objective = toolkit.objective(model, data, **place.options)
    naive = toolkit.barrier(objective, model, other, resolution=9, progress=False)
    yield compared("a barrier before", naive.value > 1e-3, True, 0.0)
    aligned = toolkit.align(model, other).model
    after = toolkit.barrier(objective, model, aligned, resolution=9, progress=False)
    yield compared("barrier of the permuted copy, aligned", after.value, 0.0, place.tolerance(1e-9), scale=1.0)
    inputs = data[0]
    yield compared("its function", aligned.cpu().double()(inputs), model.cpu().double()(inputs), 1e-6)


def batch_norm_ends(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    data = classification(40)
    a, b = batch_norm_network(1), batch_norm_network(2)
    line = toolkit.interpolation_line(a, b)
    kept = toolkit.objective(a, data, batch_norm="recalibrate", **place.options)
    surface = toolkit.evaluate(kept, line, alpha_range=(0, 1), resolution=3, progress=False)
    exact = [_training_loss(model, data) for model in (a, b)]
    yield compared("ends of an interpolation", surface.loss[[0, -1]], exact, place.tolerance(1e-7))
    middle = copy.deepcopy(a)
    with torch.no_grad():
        for parameter, other in zip(middle.parameters(), b.parameters(), strict=True):
            parameter.add_(other).div_(2)
    yield compared("its middle", surface.loss[1], _training_loss(middle, data), place.tolerance(1e-7))
    running = toolkit.objective(b, data, batch_norm="running", **place.options)
    one = toolkit.evaluate(running, toolkit.random_plane(b, seed=1), resolution=3, progress=False)
    yield compared("origin of a random plane", one.loss[1, 1], _own_loss(b, data), place.tolerance(1e-7))


def _training_loss(model: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> float:
    """The loss in training mode, where torch normalises by the statistics of the batch, here all data."""
    return _own_loss(copy.deepcopy(model).train(), data)


@torch.no_grad()
def _own_loss(model: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> float:
    return float(F.cross_entropy(model(data[0]), data[1]))


CHECKS = (
    Check("rescaled ReLU units", "the same function has the same picture (Dinh et al. 2017)", relu_rescaling),
    Check("permuted units", "the same function; barrier zero after alignment", permuted_copies),
    Check("BatchNorm between networks", "statistics of torch in training mode", batch_norm_ends),
)
