"""Normalisation layers against formulas written out, and the network that compares them."""

import pytest
import torch
from test_train_classifier import train
from torch import nn
from torch.nn import functional as F

import landscape_lib as ll
from landscape.models.norm_cnn import NormCNN
from landscape.models.normalization import NORMALIZATIONS, normalization_layer
from landscape.slices.directions import ignored_parameters

CHANNELS = 16


def written_out(name, state, x, groups):
    """y of layer ``name`` for x [N, C, ...], sums and square roots only."""
    shape = (1, -1, *[1] * (x.ndim - 2))
    weight, bias = (state[key].reshape(shape) if key in state else 0.0 for key in ("weight", "bias"))
    if name == "none":
        return x
    if name == "batch":
        mean, var = (state[f"running_{key}"].reshape(shape) for key in ("mean", "var"))
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias
    if name in ("layer", "group"):
        parts = x.reshape(len(x), 1 if name == "layer" else groups, -1)
        mean = parts.sum(2, keepdim=True) / parts.shape[2]
        var = (parts - mean).square().sum(2, keepdim=True) / parts.shape[2]
        return ((parts - mean) / (var + 1e-5).sqrt()).reshape(x.shape) * weight + bias
    if name == "rms":
        return x / (x.square().sum(1, keepdim=True) / x.shape[1] + 1e-5).sqrt() * weight
    u = state["alpha"] * x
    if name == "dyt":
        return weight * (1 - 2 / (torch.exp(2 * u) + 1)) + bias
    tail = state["tail"].reshape(shape).expand_as(u)
    h = u.clone()
    h[u > 1] = (1 + tail * (u - 1))[u > 1]
    h[u < -1] = (-1 + tail * (u + 1))[u < -1]
    return weight * h + bias


def shaken(module):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor += 0.3 * torch.rand(tensor.shape, generator=generator)
    return module.double().eval()


@pytest.mark.parametrize("shape", [(5, CHANNELS, 4, 3), (5, CHANNELS)])
@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_every_layer_is_its_formula(name, shape):
    layer = shaken(normalization_layer(name, CHANNELS, images=len(shape) == 4, groups=8))
    x = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    torch.testing.assert_close(layer(x), written_out(name, layer.state_dict(), x, 8))
    if len(shape) == 4:  # the memory format changes nothing
        torch.testing.assert_close(layer(x.contiguous(memory_format=torch.channels_last)), layer(x))
    assert layer(x.float().double()).shape == x.shape


def test_the_initial_values_and_torchs_own_modules():
    layers = {name: normalization_layer(name, CHANNELS) for name in NORMALIZATIONS}
    for name, kind in {
        "batch": nn.BatchNorm2d,
        "layer": nn.GroupNorm,
        "group": nn.GroupNorm,
        "rms": nn.RMSNorm,
    }.items():
        assert isinstance(layers[name], kind)
    assert layers["layer"].num_groups == 1 and layers["group"].num_groups == 4
    x = torch.tensor([[-4.0], [-2.0], [-1.0], [0.0], [2.0], [12.0]]).expand(6, CHANNELS)
    torch.testing.assert_close(layers["dyt"](x), torch.tanh(x / 2))
    expected = torch.tensor([-1.1, -1.0, -0.5, 0.0, 1.0, 1.5])[:, None].expand(6, CHANNELS)
    torch.testing.assert_close(layers["piecewise"](x), expected)
    with pytest.raises(ll.InputError, match="unknown normalization 'spectral'; use one of batch, layer, group"):
        normalization_layer("spectral", 4)


def test_piecewise_stays_continuous_for_any_parameters_and_every_parameter_learns():
    layer = normalization_layer("piecewise", 2).double()
    with torch.no_grad():
        layer.alpha.fill_(-1.7)
        layer.tail.copy_(torch.tensor([3.0, -2.0]))
        layer.weight.copy_(torch.tensor([0.5, -1.5]))
    x = torch.linspace(-3, 3, 60_001, dtype=torch.float64)[:, None].expand(-1, 2)
    steps = layer(x).diff(dim=0).abs()
    assert steps.max() <= 1e-4 * 1.7 * 3.0 * 1.5 * (1 + 1e-9)
    layer(x).square().sum().backward()
    assert all(parameter.grad.abs().min() > 0 for name, parameter in layer.named_parameters() if name != "bias")


COUNTS = {"none": 0, "rms": 288, "batch": 576, "layer": 576, "group": 576, "dyt": 580, "piecewise": 868}


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_the_network_is_the_one_written_out(normalization):
    model = ll.build_model("norm-cnn", normalization=normalization)
    assert sum(parameter.numel() for parameter in model.parameters()) == 458_570 + COUNTS[normalization]
    assert model.fc1.in_features == 3136
    model = shaken(model)
    state = model.state_dict()
    x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def norm(k, x):
        prefix = f"norm{k}."
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        return written_out(normalization, own, x, 8)

    hidden = x
    for k in (1, 2, 3):
        hidden = F.conv2d(hidden, state[f"conv{k}.weight"], state[f"conv{k}.bias"], padding=1)
        hidden = norm(k, hidden).clamp(min=0)
        if k > 1:
            n, c, h, w = hidden.shape
            hidden = hidden.reshape(n, c, h // 2, 2, w // 2, 2).amax((3, 5))
    hidden = norm(4, hidden.reshape(3, -1) @ state["fc1.weight"].T + state["fc1.bias"]).clamp(min=0)
    torch.testing.assert_close(model(x), hidden @ state["fc2.weight"].T + state["fc2.bias"])

    seen = []
    model.train().dropout.register_forward_hook(lambda _, inputs, outputs: seen.append((inputs[0], outputs)))
    model(x.repeat(40, 1, 1, 1))
    before, after = seen[0]
    assert (after[before != 0] == 0).double().mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_its_normalisation_layers_can_be_kept_still(normalization):
    model = ll.build_model("norm-cnn", normalization=normalization)
    ignored = ignored_parameters(model, ("norm",))
    assert sum(dict(model.named_parameters())[name].numel() for name in ignored) == COUNTS[normalization]
    assert all(name.startswith("norm") for name in ignored)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_every_network_with_an_option_takes_every_layer(normalization):
    for name in ("resnet8", "vgg9"):
        model = ll.build_model(name, input_shape=(1, 8, 8), normalization=normalization)
        kinds = {type(module) for module in model.modules()}
        assert type(normalization_layer(normalization, 16)) in kinds
        shifted = any(key.endswith("bias") and "fc" not in key for key in model.state_dict())
        assert shifted and model(torch.zeros(2, 1, 8, 8)).isfinite().all()


def test_small_images_are_refused():
    with pytest.raises(ll.InputError, match="4 x 4 pixels or more, not 3 x 9"):
        ll.build_model("norm-cnn", input_shape=(1, 3, 9))
    assert NormCNN((3, 9, 14), 4)(torch.zeros(2, 3, 9, 14)).shape == (2, 4)


@pytest.mark.parametrize("normalization", ["dyt", "piecewise"])
def test_the_training_script_trains_it_and_its_checkpoint_rebuilds_it(here, normalization):
    train("--model", "norm-cnn", "--normalization", normalization, "--lr", "0.02")
    checkpoint = ll.load_checkpoint(here / "runs" / "norm-cnn_digits" / "epoch_002.pth")
    assert checkpoint.metadata["model"]["arguments"]["normalization"] == normalization
    measured = ll.cli.score(checkpoint.model, ll.load_dataset("digits", split="test"), device="cpu")
    assert measured["accuracy"] == checkpoint.metadata["metrics"]["test_accuracy"]
    start = ll.load_checkpoint(here / "runs" / "norm-cnn_digits" / "epoch_000.pth")
    assert not torch.equal(start.model.norm1.alpha, checkpoint.model.norm1.alpha)
