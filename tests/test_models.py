"""Models: sizes, forward passes written out by hand, and the registry."""

import pytest
import torch
from torch.nn import functional as F

from landscape.errors import InputError
from landscape.models import LinearMNIST, TinyCNN, build_model


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


@pytest.mark.parametrize("name", ["linear-mnist", "tiny-cnn"])
@pytest.mark.parametrize(("shape", "classes"), [((1, 8, 8), 10), ((3, 17, 30), 4)])
def test_models_take_the_shape_of_the_data(name, shape, classes):
    model = build_model(name, input_shape=list(shape), classes=classes)
    assert model(torch.zeros(2, *shape)).shape == (2, classes)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet", {}, "unknown model 'resnet'; use one of linear-mnist, tiny-cnn"),
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
