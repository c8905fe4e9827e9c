"""Models: sizes, forward passes written out by hand, and the registry."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from landscape.errors import InputError
from landscape.models import LinearMNIST, TinyCNN, build_model

ACTIVATIONS = {
    "relu": lambda z: z * (z > 0),
    "sigmoid": lambda z: 1 / (1 + torch.exp(-z)),
    "tanh": lambda z: (torch.exp(2 * z) - 1) / (torch.exp(2 * z) + 1),
    "gelu": lambda z: z * (1 + torch.erf(z / math.sqrt(2))) / 2,
}


def parameters(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_sizes_are_the_published_ones():
    assert parameters(LinearMNIST()) == 7_850
    assert parameters(TinyCNN()) == 19_466


def test_linear_mnist_is_one_affine_map():
    model, inputs = LinearMNIST().double(), torch.randn(3, 1, 28, 28, dtype=torch.float64)
    weight, bias = model.state_dict().values()
    torch.testing.assert_close(model(inputs), torch.einsum("nd,cd->nc", inputs.reshape(3, -1), weight) + bias)


def test_tiny_cnn_is_three_convolutions_and_one_affine_map():
    model, hidden = TinyCNN().double(), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    *convolutions, weight, bias = model.state_dict().values()
    inputs = hidden
    for kernel, offset in zip(convolutions[::2], convolutions[1::2], strict=True):
        n, _, h, w = hidden.shape
        columns = F.unfold(hidden, 3, padding=1)
        hidden = (kernel.flatten(1) @ columns + offset[:, None]).reshape(n, -1, h, w).relu()
        hidden = hidden.reshape(n, -1, h // 2, 2, w // 2, 2).amax((3, 5))
    torch.testing.assert_close(model(inputs), hidden.reshape(2, -1) @ weight.T + bias)


@pytest.mark.parametrize("name", ["linear-mnist", "tiny-cnn", "simplenet", "resnet8", "vgg9", "vgg11", "vgg16"])
@pytest.mark.parametrize(("shape", "classes"), [((1, 8, 8), 10), ((1, 28, 28), 10), ((3, 17, 30), 4)])
def test_models_take_the_shape_of_the_data(name, shape, classes):
    model = build_model(name, input_shape=list(shape), classes=classes)
    assert model(torch.zeros(2, *shape)).shape == (2, classes)


@pytest.mark.parametrize(
    ("depth", "published"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test_resnets_have_the_published_sizes_with_or_without_shortcuts(depth, published):
    assert parameters(build_model(f"resnet{depth}")) == published
    assert parameters(build_model(f"resnet{depth}", shortcuts=False)) == published


@pytest.mark.parametrize(("depth", "published"), [(11, 9_220_480), (16, 14_714_688)])
def test_the_convolutions_of_vgg_have_the_published_size(depth, published):
    model = build_model(f"vgg{depth}", normalization="none")
    assert parameters(model.features) == published
    assert parameters(model.hidden) == 2 * (512 * 512 + 512) and parameters(model.fc) == 5_130


def test_vgg9_and_simplenet_have_the_sizes_counted_by_hand():
    pairs = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    convolutions = sum(9 * before * after + 2 * after for before, after in pairs)  # BatchNorm: scale and shift
    assert parameters(build_model("vgg9")) == convolutions + 256 * 16 * 256 + 2 * 256 + 2_570
    assert parameters(build_model("simplenet", hidden=7)) == 785 * 7 + 8 * 10
    assert parameters(build_model("simplenet")) == 785 * 20 + 21 * 10


@pytest.mark.parametrize("depth", [8, 11, 14, 16])
def test_the_depth_counts_the_layers_with_weights(depth):
    model = build_model(f"{'vgg' if depth in (11, 16) else 'resnet'}{depth}")
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()) == depth


def shaken(model):
    """Float64, eval mode, and weights and statistics far from their initial values, so that each one matters."""
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.3 * torch.rand_like(tensor)).add_(0.1 * torch.rand_like(tensor))
    return model.double().eval()


def normalized(state, name, kind, z):
    """BatchNorm by running statistics or GroupNorm, written out, for layer ``name`` and images z."""
    if kind == "none":
        return z
    scale, shift = (state[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
    if kind == "batch":
        mean, var = (state[f"{name}.running_{part}"][:, None, None] for part in ("mean", "var"))
        return (z - mean) / (var + 1e-5).sqrt() * scale + shift
    grouped = z.reshape(len(z), len(scale) // 4, -1)  # four channels in a group
    mean, var = grouped.mean(2, keepdim=True), grouped.var(2, correction=0, keepdim=True)
    return ((grouped - mean) / (var + 1e-5).sqrt()).reshape(z.shape) * scale + shift


@pytest.mark.parametrize("shortcuts", [True, False])
@pytest.mark.parametrize("normalization", ["batch", "group", "none"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_resnet_is_the_network_written_out(shortcuts, normalization, activation):
    shape, act = (2, 9, 12), ACTIVATIONS[activation]
    options = {"shortcuts": shortcuts, "normalization": normalization, "activation": activation}
    model = shaken(build_model("resnet14", input_shape=shape, classes=3, **options))
    state, hidden = model.state_dict(), torch.randn(2, *shape, dtype=torch.float64)
    logits = model(hidden)

    def layer(convolution, norm, z, stride=1):
        z = F.conv2d(z, state[f"{convolution}.weight"], state.get(f"{convolution}.bias"), stride, 1)
        return normalized(state, norm, normalization, z)

    hidden = act(layer("stem", "norm", hidden))
    for block in range(6):
        name, halved = f"blocks.{block}", block in (2, 4)
        out = act(layer(f"{name}.conv1", f"{name}.norm1", hidden, 2 if halved else 1))
        out = layer(f"{name}.conv2", f"{name}.norm2", out)
        if shortcuts and halved:  # half the new channels get every second pixel, those around them nothing
            n, channels = out.shape[1] // 4, hidden.shape[1]
            out = torch.cat([out[:, :n], out[:, n : n + channels] + hidden[:, :, ::2, ::2], out[:, n + channels :]], 1)
        elif shortcuts:
            out = out + hidden
        hidden = act(out)
    expected = hidden.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_vgg_and_simplenet_are_the_networks_written_out(activation):
    act, images = ACTIVATIONS[activation], torch.randn(2, 1, 12, 9, dtype=torch.float64)
    model = shaken(build_model("vgg9", input_shape=(1, 12, 9), classes=3, activation=activation, normalization="none"))
    *layers, weight, bias, last_weight, last_bias = model.state_dict().values()
    hidden = images
    for number, (kernel, offset) in enumerate(zip(layers[::2], layers[1::2], strict=True)):
        hidden = act(F.conv2d(hidden, kernel, offset, padding=1))
        if number in (1, 3, 6):  # the last pixel of an odd side is a window of its own
            hidden = F.max_pool2d(F.pad(hidden, (0, -hidden.shape[3] % 2, 0, -hidden.shape[2] % 2), value=-math.inf), 2)
    expected = act(hidden.flatten(1) @ weight.T + bias) @ last_weight.T + last_bias
    torch.testing.assert_close(model(images), expected)

    model = shaken(build_model("simplenet", input_shape=(1, 12, 9), classes=3, activation=activation))
    weight, bias, last_weight, last_bias = model.state_dict().values()
    expected = act(images.flatten(1) @ weight.T + bias) @ last_weight.T + last_bias
    torch.testing.assert_close(model(images), expected)


def test_normalisation_layers_are_those_asked_for():
    def kinds(name, normalization):
        return {type(module) for module in build_model(name, normalization=normalization).modules()}

    for name in ("resnet8", "vgg9"):
        assert nn.BatchNorm2d in kinds(name, "batch") and nn.GroupNorm not in kinds(name, "batch")
        assert nn.GroupNorm in kinds(name, "group") and nn.BatchNorm2d not in kinds(name, "group")
        assert not {nn.GroupNorm, nn.BatchNorm2d, nn.BatchNorm1d} & kinds(name, "none")
    assert nn.BatchNorm1d in kinds("vgg11", "batch")


@pytest.mark.parametrize(("name", "activation"), [("resnet56", "relu"), ("vgg16", "relu"), ("vgg16", "tanh")])
def test_the_initial_signal_neither_dies_nor_explodes_without_normalisation(name, activation):
    torch.manual_seed(0)
    logits = build_model(name, activation=activation, normalization="none")(torch.randn(8, 3, 32, 32))
    assert 0.05 < logits.square().mean().sqrt() < 5


@pytest.mark.parametrize("name", ["simplenet", "resnet8", "vgg9"])
def test_models_are_drawn_from_the_seed_and_work_through_functional_call(name):
    def drawn(seed):
        torch.manual_seed(seed)
        return build_model(name, input_shape=(1, 8, 8), activation="tanh").double().eval()

    first, again, other = drawn(0), drawn(0), drawn(1)
    inputs = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    assert torch.equal(first(inputs), again(inputs)) and not torch.equal(first(inputs), other(inputs))
    moved = functional_call(first, dict(other.named_parameters()), (inputs,))
    torch.testing.assert_close(moved, other(inputs))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "googlenet"])
def test_torchvision_models_are_untrained_and_have_the_classes_of_the_data(name):
    model = build_model(f"torchvision:{name}", input_shape=[3, 32, 32], classes=4)
    assert model.training and model(torch.zeros(2, 3, 32, 32)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet", {}, "unknown model 'resnet'; use one of linear-mnist, tiny-cnn"),
        ("resnet18", {}, "a ResNet has depth 6n + 2 (8, 14, 20, ...), not 18"),
        ("resnet2", {}, "a ResNet has depth 6n + 2"),
        ("resnet14", {"activation": "swish"}, "unknown activation 'swish'; use one of relu, sigmoid, tanh, gelu"),
        ("resnet14", {"normalization": "spectral"}, "unknown normalization 'spectral'; use one of batch, layer"),
        ("resnet14", {"input_shape": (784,)}, "resnet14 needs images (channels, height, width), not inputs (784,)"),
        ("vgg11", {"shortcuts": False}, "model 'vgg11' cannot be built with {'shortcuts': False}"),
        ("vgg13", {}, "unknown model 'vgg13'"),
        ("simplenet", {"hidden": 0}, "hidden is 0"),
        ("torchvision:resnet19", {}, "torchvision has no classification model 'resnet19'; torchvision.models.list_mo"),
        ("torchvision:fcn_resnet50", {}, "torchvision has no classification model 'fcn_resnet50'"),
        ("torchvision:resnet18", {"input_shape": (1, 28, 28)}, "needs colour images (3, height, width), not inputs (1"),
        ("torchvision:alexnet", {"input_shape": (3, 28, 28)}, "torchvision:alexnet does not take inputs (3, 28, 28)"),
        ("torchvision:resnet18", {"hidden": 3}, "cannot be built with {'hidden': 3}"),
        ("tiny-cnn", {"depth": 3}, "model 'tiny-cnn' cannot be built with {'depth': 3}"),
        ("tiny-cnn", {"input_shape": (3, 7, 32)}, "8 x 8 pixels or more, not inputs (3, 7, 32)"),
        ("tiny-cnn", {"input_shape": (784,)}, "8 x 8 pixels or more, not inputs (784,)"),
        ("linear-mnist", {"classes": "ten"}, "model 'linear-mnist' cannot be built"),
    ],
)
def test_impossible_models_are_one_line(name, arguments, message):
    with pytest.raises(InputError) as caught:
        build_model(name, **arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)
