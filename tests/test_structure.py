"""What the structure of a network proves: the same as watched passes find; nothing of an altered network."""

import pytest
import torch
from torch import nn

import landscape_lib as ll
from landscape.objective.forward_watch import find_out
from landscape.objective.structure import is_plain, works_by_row
from landscape.objective.twins import are_independent
from landscape.points import copy_of

OWN = ["linear-mnist", "mlp", "tiny-cnn", "simplenet", "resnet8", "vgg9", "norm-cnn"]
NORMALIZATIONS = ["none", "layer", "group", "rms", "dyt", "piecewise"]
LAYERS = [
    *(nn.Flatten(), nn.Linear(48, 32), nn.BatchNorm1d(32), nn.GELU(), nn.LayerNorm(32), nn.Dropout(), nn.Linear(32, 4)),
    nn.Softmax(1),
]
CONVOLUTIONS = [
    *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(2)),
    *(nn.MaxPool2d(2), nn.Dropout2d(), nn.Flatten(), nn.Linear(4, 4)),
]
MLP = [nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 3)]


@pytest.mark.parametrize("layers", [LAYERS, CONVOLUTIONS, MLP], ids=["layers", "convolutions", "mlp"])
def test_plain_networks_are_what_watched_passes_find(layers):
    _compare(nn.Sequential(*layers), torch.rand(5, 3, 4, 4))


@pytest.mark.parametrize("name", OWN)
def test_own_networks_are_what_watched_passes_find(name):
    _compare(ll.build_model(name, input_shape=(3, 16, 16)), torch.rand(5, 3, 16, 16))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_own_normalizations_are_what_watched_passes_find(normalization):
    model = ll.build_model("norm-cnn", input_shape=(3, 8, 8), normalization=normalization)
    _compare(model, torch.rand(5, 3, 8, 8))


def _compare(given, images):
    assert is_plain(given)
    given.eval().requires_grad_(False)
    model = copy_of(given)
    found = find_out(model, given, lambda: model(images.clone()), torch.float32)
    assert found.touched == set(dict(model.named_parameters()))
    assert not (found.elsewhere or found.written or found.draws or found.constants or found.lowered)
    assert are_independent(model, lambda network, batch: network(batch), (images[:3].clone(), images[3:].clone()))


class Doubled(nn.Linear):
    def forward(self, input):
        return super().forward(input) * 2


def _patched(model):
    model[1].forward = lambda input: input[:, :8]
    return model


def _hooked(model):
    model[2].register_forward_hook(lambda module, inputs, output: output * 2)
    return model


def _parametrized(model):
    nn.utils.parametrizations.weight_norm(model[1])
    return model


def _with_idle_parameter(model):
    model[2].weight = nn.Parameter(torch.ones(3))
    return model


@pytest.mark.parametrize("alter", [_patched, _hooked, _parametrized, _with_idle_parameter])
def test_altered_networks_are_watched(alter):
    assert not is_plain(alter(copy_of(nn.Sequential(*MLP))))


def test_other_classes_and_global_hooks_are_watched():
    assert not is_plain(nn.Sequential(Doubled(4, 3)))
    assert not is_plain(nn.Sequential(nn.Embedding(4, 3, max_norm=1.0)))
    model = nn.Sequential(*MLP)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert not is_plain(model)
    finally:
        handle.remove()
    assert is_plain(model)


def test_only_layers_that_keep_rows_apart_work_by_row():
    assert works_by_row(nn.Sequential(*MLP))
    for layer in (nn.Flatten(0), nn.Softmax(0), nn.Conv2d(3, 4, 3), nn.BatchNorm1d(48), nn.LayerNorm(48)):
        assert not works_by_row(nn.Sequential(*MLP, layer))


def test_networks_by_row_are_objectives_with_the_losses_of_their_samples():
    images, labels = torch.rand(23, 3, 4, 4), torch.arange(23) % 3
    model = nn.Sequential(*MLP)
    found = ll.objective(model, (images, labels), device="cpu")(dict(model.named_parameters()))
    single = [nn.functional.cross_entropy(model(x[None]), y[None]) for x, y in zip(images, labels, strict=True)]
    torch.testing.assert_close(found, torch.stack(single).detach())
