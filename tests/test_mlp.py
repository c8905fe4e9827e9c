"""Fully connected networks: sizes counted by hand, the formula written out, the spread of their initial weights."""

import math

import pytest
import torch

import landscape_lib as ll

SIZES = {
    "shallow-small": 3 * 50 + 51 * 2,
    "shallow-wide": 3 * 500 + 501 * 2,
    "medium": 3 * 100 + 101 * 100 + 101 * 2,
    "deep-small": 3 * 100 + 3 * 101 * 100 + 101 * 2,
    "deep-large": 3 * 250 + 3 * 251 * 250 + 251 * 2,
}
FORMULAS = {
    "relu": lambda z: z.clamp(min=0),
    "tanh": lambda z: 1 - 2 / ((2 * z).exp() + 1),
    "gelu": lambda z: z * (1 + torch.erf(z / math.sqrt(2))) / 2,
}


@pytest.mark.parametrize(("name", "count"), SIZES.items())
def test_variants_have_the_sizes_counted_by_hand(name, count):
    model = ll.build_model(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert model(torch.zeros(3, 2)).shape == (3, 2)


@pytest.mark.parametrize("activation", FORMULAS)
def test_the_network_is_its_formula(activation):
    torch.manual_seed(0)
    model = ll.build_model("mlp", input_shape=(1, 2, 2), classes=3, depth=3, width=7, activation=activation).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    values = list(model.parameters())
    signal = inputs = torch.randn(5, 1, 2, 2, dtype=torch.float64)
    signal = signal.reshape(5, 4)
    for weight, bias in zip(values[:-2:2], values[1:-2:2], strict=True):
        signal = FORMULAS[activation](signal @ weight.T + bias)
    torch.testing.assert_close(model(inputs), signal @ values[-2].T + values[-1])


@pytest.mark.parametrize(
    ("activation", "variance"), [("relu", 2 / 400), ("gelu", 2 / 400), ("tanh", 2 / 800), ("sigmoid", 2 / 800)]
)
def test_hidden_weights_have_the_variance_that_fits_the_activation(activation, variance):
    torch.manual_seed(0)
    model = ll.build_model("mlp", depth=2, width=400, classes=100, activation=activation)
    weights = dict(model.named_parameters())
    # 160,000 weights: the relative standard error of their variance is sqrt(2 / 160,000) = 0.0035; five of them.
    assert weights["hidden.2.weight"].double().var().item() == pytest.approx(variance, rel=0.018)
    assert weights["fc.weight"].double().var().item() == pytest.approx(2 / 500, rel=0.036)
    assert all(not value.any() for name, value in weights.items() if name.endswith("bias"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "depth is 0 and width 100"),
        ({"width": 0}, "depth is 2 and width 0"),
        ({"activation": "sine"}, "unknown activation 'sine'"),
        ({"hidden": 3}, "unexpected keyword argument 'hidden'"),
    ],
)
def test_what_is_no_network_is_refused(arguments, message):
    with pytest.raises(ll.InputError, match=message):
        ll.build_model("mlp", **arguments)
