"""Directions: norms, zeros, orthogonality, seeds; and the invariance that filter normalisation is for."""

import copy
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import NETWORKS, images, make
from torch import nn

import landscape_lib as ll


def rows(tensor):
    return tensor.flatten(1) if tensor.ndim > 1 else tensor.reshape(1, -1)


@pytest.mark.parametrize("name", NETWORKS)
def test_filter_norms_match_and_ignored_parameters_are_zero(name):
    model = make(name).double()
    weights = ll.parameters_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # which says that a filter of one weight has no second direction
        plane = ll.random_plane(model, seed=5, ignore=("bias", "norm"), orthogonal=True)
    for number, direction in enumerate(plane.directions):
        for key, value in direction.items():
            one_dimensional_bias = key.endswith("bias") and value.ndim == 1
            if one_dimensional_bias or "norm" in key or (name == "batch_norm_cnn" and key in ("1.weight", "4.weight")):
                assert torch.count_nonzero(value) == 0
            elif value.numel() == 1 and number == 1:
                assert value == 0
            else:
                torch.testing.assert_close(rows(value).norm(dim=1), rows(weights[key]).norm(dim=1))


@pytest.mark.parametrize("normalize", ["filter", "layer", "model", None])
def test_orthogonal_directions_are_orthogonal_in_every_filter(normalize):
    model = make("cnn").double()
    first, second = ll.random_plane(model, orthogonal=True, normalize=normalize).directions
    for key in first:
        products = (rows(first[key]) * rows(second[key])).sum(1)
        lengths = rows(first[key]).norm(dim=1) * rows(second[key]).norm(dim=1)
        assert (products.abs() <= 1e-12 * (1 + lengths)).all()


def test_layer_and_model_normalization():
    model = make("mlp").double()
    weights = ll.parameters_of(model)
    (layer,) = ll.random_line(model, normalize="layer", ignore=()).directions
    for key, value in layer.items():
        assert value.norm().item() == pytest.approx(weights[key].norm().item())
    (whole,) = ll.random_line(model, normalize="model").directions
    assert ll.norm(whole) == pytest.approx(ll.norm(weights))


def test_one_dimensional_parameters_are_one_filter_not_scaled_element_by_element():
    model = make("mlp").double()
    (direction,) = ll.random_line(model, ignore=()).directions
    bias = ll.parameters_of(model)["1.bias"]
    assert direction["1.bias"].norm().item() == pytest.approx(bias.norm().item())
    assert not torch.allclose(direction["1.bias"].abs(), bias.abs())


def test_seed_fixes_the_draw_whatever_is_ignored_and_second_direction_differs():
    model = make("cnn")
    plane, again, other = (ll.random_plane(model, seed=s) for s in (7, 7, 8))
    all_moved = ll.random_plane(model, seed=7, ignore=())
    raw = torch.Generator().manual_seed(7)
    weight = torch.randn(model[0].weight.shape, generator=raw)
    expected = ll.filter_normalize({"w": weight}, {"w": model[0].weight.detach()})["w"]
    torch.testing.assert_close(plane.directions[0]["0.weight"], expected)
    for key in plane.origin:
        assert torch.equal(plane.directions[0][key], again.directions[0][key])
    assert torch.equal(plane.directions[0]["0.weight"], all_moved.directions[0]["0.weight"])
    assert not torch.equal(plane.directions[0]["0.weight"], other.directions[0]["0.weight"])
    assert abs(plane.geometry["cosine"]) < 0.3


@pytest.mark.parametrize("distribution", ["gaussian", "uniform", "rademacher"])
def test_distributions_have_mean_zero_and_their_variance(distribution):
    model = nn.Linear(200, 200)
    (direction,) = ll.random_directions(model, 1, seed=0, normalize=None, distribution=distribution)
    values = direction["weight"].flatten()
    variance = {"gaussian": 1.0, "uniform": 1 / 3, "rademacher": 1.0}[distribution]
    assert abs(values.mean()) < 5 * (variance / len(values)) ** 0.5
    assert values.var().item() == pytest.approx(variance, rel=0.05)
    if distribution == "uniform":
        assert values.min() < -0.9 and values.max() < 1


def test_directions_do_not_touch_the_global_random_state_or_go_through_buffers():
    model = make("batch_norm_cnn")
    before = torch.get_rng_state()
    plane = ll.random_plane(model)
    assert torch.equal(before, torch.get_rng_state())
    assert set(plane.directions[0]) == {name for name, _ in model.named_parameters()}


def test_zero_filters_stay_zero():
    model = make("mlp")
    with torch.no_grad():
        model[1].weight[2] = 0
    (direction,) = ll.random_line(model).directions
    assert torch.count_nonzero(direction["1.weight"][2]) == 0
    assert all(value.isfinite().all() for value in direction.values())


def test_filters_of_one_weight_cannot_be_orthogonal_and_say_so():
    model = nn.Sequential(nn.Linear(1, 5), nn.Linear(5, 2))
    with pytest.warns(UserWarning, match=r"0\.weight: filters of 1 weight"):
        plane = ll.random_plane(model, orthogonal=True)
    assert plane.geometry["cosine"] == pytest.approx(0, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.05, 20), st.integers(0, 5))
def test_relu_rescaling_leaves_the_filter_normalized_surface_unchanged(scale, seed):
    """A ReLU layer times s and the next one over s is the same network, and must give the same picture."""
    model, data = make("mlp", seed).double(), images()
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        scaled[1].weight *= scale
        scaled[1].bias *= scale
        scaled[3].weight /= scale
    surfaces = [
        ll.evaluate(
            ll.objective(net, data, dtype=torch.float64, device="cpu"),
            ll.random_plane(net, seed=seed),
            resolution=(4, 3),
            progress=False,
        )
        for net in (model, scaled)
    ]
    torch.testing.assert_close(*(torch.from_numpy(s.loss) for s in surfaces), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": "filters"}, "unknown normalization 'filters'"),
        ({"distribution": "cauchy"}, "unknown distribution 'cauchy'"),
        ({"ignore": ("layer9.*",)}, "matches no parameter"),
        ({"ignore": "bias"}, "sequence of names"),
        ({"ignore": ("*",)}, "no parameter is left"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ll.InputError, match=message):
        ll.random_plane(make("mlp"), **options)


def test_a_direction_of_another_network_is_refused():
    with pytest.raises(ll.InputError, match="does not belong to this network"):
        ll.filter_normalize(ll.parameters_of(make("mlp")), ll.parameters_of(make("cnn")))
