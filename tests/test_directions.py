"""Directions: norms, zeros, orthogonality, seeds; and the invariance that filter normalisation is for."""

import copy
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import NETWORKS, images, make
from torch import nn

import landscape_lib as ll
from landscape.points import flatten, inner, unflatten


def rows(tensor):
    return tensor.flatten(1) if tensor.ndim > 1 else tensor.reshape(1, -1)


@pytest.mark.parametrize("name", NETWORKS)
def test_filter_norms_match_and_ignored_parameters_are_zero(name):
    model = make(name).double()
    weights = ll.parameters_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # which says that a filter of one weight has no second direction
        plane = ll.random_plane(model, seed=5, ignore=("bias", "norm"), orthogonal=True)
    for direction in plane.directions:
        for key, value in direction.items():
            one_dimensional_bias = key.endswith("bias") and value.ndim == 1
            if one_dimensional_bias or "norm" in key or (name == "batch_norm_cnn" and key in ("1.weight", "4.weight")):
                assert torch.count_nonzero(value) == 0
            elif value.numel() == 1:
                assert value == 0 and key in plane.not_moved["scale"]
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
    assert 1e-9 < abs(plane.geometry["cosine"]) < 0.3  # independent, and not orthogonal unless requested


@pytest.mark.parametrize("distribution", ["gaussian", "uniform", "rademacher"])
def test_distributions_have_mean_zero_and_their_variance(distribution):
    model = nn.Linear(200, 200)
    (direction,) = ll.random_directions(model, 1, seed=0, normalize=None, distribution=distribution)
    values = direction["weight"].flatten()
    variance = {"gaussian": 1.0, "uniform": 1 / 3, "rademacher": 1.0}[distribution]
    assert abs(values.mean()) < 5 * (variance / len(values)) ** 0.5
    assert values.var().item() == pytest.approx(variance, rel=0.05)
    if distribution == "uniform":
        assert -1 <= values.min() < -0.99 and 0.99 < values.max() <= 1
    if distribution == "rademacher":
        assert set(values.tolist()) == {-1.0, 1.0}


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
    assert plane.directions[0]["0.weight"].all() and not plane.directions[1]["0.weight"].any()


def test_filters_hold_as_many_orthogonal_directions_as_weights():
    model = nn.Linear(2, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = (d["weight"] for d in ll.random_directions(model, 2, seed=0, orthogonal=True))
    assert second.all() and ((first * second).sum(1).abs() < 1e-6).all()
    with pytest.warns(UserWarning, match=r"filters of 2 weight\(s\) cannot hold 3 orthogonal directions"):
        directions = ll.random_directions(model, 3, seed=0, orthogonal=True)
    assert torch.equal(directions[1]["weight"], second) and not directions[2]["weight"].any()


def test_only_zero_matrices_that_move_are_warned_of():
    model = make("mlp")
    with torch.no_grad():
        model[1].bias.zero_()
        model[1].weight[0] = 0
        model[3].weight.zero_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ll.random_plane(model, parameters=("1.*", "5.*"), ignore=())
        ll.random_plane(model, parameters=("3.weight", "5.weight"), ignore=("3.weight",))
    with pytest.warns(UserWarning, match=r"1 weight\(s\) are zero, first '3\.weight'"):
        ll.random_plane(model, parameters=("*",), ignore=())


def test_whole_numbers_have_no_direction():
    direction = {"n": torch.tensor([1, 2]), "w": torch.ones(2, 2)}
    found = ll.filter_normalize(direction, {"n": torch.tensor([3, 4]), "w": 5 * torch.ones(2, 2)})
    assert found["n"].tolist() == [0, 0] and found["w"].tolist() == [[5, 5], [5, 5]]


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


# --- what is not moved, and in which numbers ----------------------------------------------------------------


class T5LayerNorm(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)


class MyBN(T5LayerNorm):
    def __init__(self, width=4):
        super().__init__(width)
        self.bias = nn.Parameter(torch.rand(width))


class ScaleOnly(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(width) + 0.5)


class NormedLinear(nn.Linear):
    pass


class Zoo(nn.Module):
    """Parameters of every kind, most of which a default direction leaves alone."""

    def __init__(self):
        super().__init__()
        self.rms, self.own, self.scale_only, self.slope = T5LayerNorm(), MyBN(), ScaleOnly(), nn.PReLU()
        self.cell, self.attention = nn.LSTM(3, 4), nn.MultiheadAttention(4, 2, add_bias_kv=True)
        self.normed, self.channels = NormedLinear(4, 3), nn.PReLU(4)
        self.logit_scale = nn.Parameter(torch.tensor(2.6))
        self.temperature = nn.Parameter(torch.tensor([[0.7]]))
        self.layer_scale = nn.Parameter(torch.rand(4, 1, 1))
        self.gamma_1 = nn.Parameter(torch.rand(4))
        self.position_bias = nn.Parameter(torch.rand(2, 5))
        self.single = nn.Linear(1, 1)
        self.embedding = nn.Parameter(torch.rand(4))
        self.biases = nn.ParameterList([nn.Parameter(torch.rand(4))])
        with torch.no_grad():
            for parameter in self.parameters():
                parameter[parameter == 0] = 0.1


UNMOVED = {
    "bias": [
        "own.bias", "cell.bias_ih_l0", "cell.bias_hh_l0", "attention.in_proj_bias", "attention.bias_k",
        "attention.bias_v", "attention.out_proj.bias", "normed.bias", "single.bias", "biases.0",
    ],
    "norm": ["rms.weight", "own.weight", "scale_only.gamma"],
    "scale": ["logit_scale", "temperature", "layer_scale", "gamma_1", "slope.weight", "channels.weight"],
}  # fmt: skip


def test_what_a_plane_does_not_move_is_recorded_with_the_reason():
    torch.manual_seed(0)
    model = Zoo()
    plane = ll.random_plane(model)
    assert {reason: sorted(names) for reason, names in plane.not_moved.items()} == {
        reason: sorted(names) for reason, names in UNMOVED.items()
    }
    for name in (name for names in UNMOVED.values() for name in names):
        assert not any(direction[name].any() for direction in plane.directions)
    assert plane.recipe["not_moved"] == plane.description["not_moved"] == plane.not_moved
    everything = sum(map(len, UNMOVED.values()))
    moved = len(plane.origin) - everything
    assert f"moves {moved} of {len(plane.origin)} parameters, not: " in repr(plane) and "norm 3" in repr(plane)
    assert not ll.random_plane(model, ignore=()).not_moved


def test_weights_that_are_zero_are_told_to_stay():
    model = make("mlp")
    with torch.no_grad():
        model[1].weight.zero_()
    assert ll.random_plane(model, ignore=("bias",)).not_moved == {
        "bias": ["1.bias", "3.bias", "5.bias"],
        "zero": ["1.weight"],
    }


def test_recipes_of_the_first_rule_give_the_directions_that_they_gave():
    """Draws in the precision of the parameters, biases by the end of their names, normalisation by class."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.LSTM(3, 4), nn.PReLU(), nn.Linear(4, 2, dtype=torch.bfloat16), nn.LayerNorm(2))
    plane = ll.random_plane(model, seed=3, rule=1)
    assert plane.recipe["rule"] == 1 and ll.random_plane(model, seed=3).recipe["rule"] == 2
    assert set(plane.not_moved["bias"]) == {"2.bias", "3.bias"}
    reference = ll.parameters_of(model)
    generator = torch.Generator().manual_seed(3)
    for direction in plane.directions:
        for name, value in direction.items():
            raw = torch.randn(value.shape, generator=generator).to(reference[name])
            if name in ("2.bias", "3.bias", "3.weight"):
                raw.zero_()
            scaled = rows(raw.double())
            length = scaled.norm(dim=1, keepdim=True)
            wide = torch.where(
                length > 0, scaled / length * rows(reference[name].double()).norm(dim=1, keepdim=True), 0
            )
            assert torch.equal(value, wide.reshape(value.shape).to(reference[name]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_filter_norms_of_half_precision_weights_match_and_rounding_is_told(dtype):
    model = make("mlp").to(dtype)
    plane = ll.random_plane(model)
    for name, value in plane.directions[0].items():
        if not name.endswith("bias"):
            expected = rows(plane.origin[name].double()).norm(dim=1)
            torch.testing.assert_close(rows(value.double()).norm(dim=1), expected, rtol=1e-6, atol=0)
    point, taken, length = plane(1.0, 0.0), 0.0, 0.0
    for name, value in point.items():
        assert value.dtype == dtype
        step = plane.directions[0][name].double()
        taken += float((value.double() - plane.origin[name].double() - step).square().sum())
        length += float(step.square().sum())
    assert plane.geometry["rounding"][0] == pytest.approx((taken / length) ** 0.5, rel=1e-3)
    assert ll.random_plane(make("mlp")).geometry["rounding"] is None


class Mixed(nn.Module):
    """Complex, whole and no numbers among the parameters."""

    def __init__(self):
        super().__init__()
        self.wave = nn.Parameter(torch.randn(3, 5, dtype=torch.cfloat))
        self.order = nn.Parameter(torch.arange(4), requires_grad=False)
        self.mask = nn.Parameter(torch.ones(2, dtype=torch.bool), requires_grad=False)
        self.none, self.empty = nn.Parameter(torch.empty(0)), nn.Parameter(torch.empty(0, 3))
        self.weight = nn.Parameter(torch.randn(2, 3))


def mixed(seed=0):
    torch.manual_seed(seed)
    return Mixed()


@pytest.mark.parametrize("normalize", ["filter", "layer", "model", None])
@pytest.mark.parametrize("orthogonal", [False, True])
def test_complex_whole_and_empty_parameters(normalize, orthogonal):
    model = mixed()
    plane = ll.random_plane(model, normalize=normalize, orthogonal=orthogonal)
    first, second = plane.directions
    assert first["wave"].is_complex() and bool((first["wave"].imag != 0).all())
    assert plane.not_moved["whole numbers"] == ["order", "mask"]
    real = lambda value: torch.view_as_real(value).flatten(1)  # noqa: E731
    if normalize == "filter":
        torch.testing.assert_close(real(first["wave"]).norm(dim=1), real(model.wave.detach()).norm(dim=1))
    if orthogonal:
        products = (real(first["wave"]) * real(second["wave"])).sum(1)
        assert float(products.abs().max()) < 1e-4
    moved = plane(0.5, -0.25)
    torch.testing.assert_close(moved["wave"], model.wave + 0.5 * first["wave"] - 0.25 * second["wave"])
    assert torch.equal(moved["order"], torch.arange(4)) and moved["mask"].dtype == torch.bool
    assert moved["empty"].shape == (0, 3)


def test_complex_draws_have_the_variance_of_real_ones():
    model = nn.Module()
    model.wave = nn.Parameter(torch.randn(100, 100, dtype=torch.cfloat))
    (direction,) = ll.random_directions(model, 1, seed=0, normalize=None)
    for part in (direction["wave"].real, direction["wave"].imag):
        assert part.var().item() == pytest.approx(0.5, rel=0.05)
    (earlier,) = ll.random_directions(model, 1, seed=0, normalize=None, rule=1)
    assert not earlier["wave"].imag.any() and earlier["wave"].real.var().item() == pytest.approx(1, rel=0.05)


def test_norms_products_and_vectors_hold_imaginary_parts():
    a, b = (ll.parameters_of(mixed(seed)) for seed in (0, 1))
    parts = lambda point: torch.cat(  # noqa: E731
        [torch.view_as_real(v).flatten().double() if v.is_complex() else v.flatten().double() for v in point.values()]
    )
    assert ll.norm(a) == pytest.approx(parts(a).norm().item())
    assert inner(a, b) == pytest.approx((parts(a) @ parts(b)).item())
    assert ll.cosine(a, b) == pytest.approx(torch.cosine_similarity(parts(a), parts(b), dim=0).item())
    assert torch.equal(flatten(a), parts(a))
    again = unflatten(flatten(a), a)
    assert all(torch.equal(again[name].to(value), value) for name, value in a.items())


def test_lines_planes_and_projections_of_complex_parameters():
    models = [mixed(seed) for seed in range(4)]
    line = ll.interpolation_line(models[0], models[1])
    torch.testing.assert_close(line(0.5)["wave"], (models[0].wave + models[1].wave).detach() / 2)
    plane = ll.pca_plane(models)
    assert plane.directions[0]["wave"].imag.any() and abs(plane.geometry["cosine"]) < 1e-5
    assert ll.norm(plane.directions[0]) == pytest.approx(1, rel=1e-5)
    through = ll.three_point_plane(*models[:3])
    found = ll.project(models, through, progress=False)
    np.testing.assert_allclose(found.coordinates[:3], [[0, 0], [1, 0], [0, 1]], atol=1e-6)
    assert found.distance[3] > 1
    models[1].order.data = models[1].order.flip(0)
    for call in (lambda: ll.interpolation_line(*models[:2]), lambda: ll.pca_plane(models)):
        with pytest.raises(ll.InputError, match="'order' holds whole numbers"):
            call()


def test_names_with_brackets_match_as_they_are_written():
    model = nn.Module()
    model.register_parameter("a[0]", nn.Parameter(torch.ones(2, 2)))
    model.register_parameter("a0", nn.Parameter(torch.ones(2, 2)))
    model.register_parameter("b[x]", nn.Parameter(torch.ones(2, 2)))
    for entry, expected in {"a[0]": ["a[0]"], "*[x]": ["b[x]"], "a[01]": ["a0"], "?0": ["a0"]}.items():
        assert ll.random_plane(model, ignore=(entry,)).not_moved == {entry: expected}


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 1.0, "1", None, True])
def test_seeds_that_are_none_are_refused(seed):
    a, b = make("mlp", 0), make("mlp", 1)
    calls = (
        lambda: ll.random_plane(a, seed=seed),
        lambda: ll.random_line(a, seed=seed),
        lambda: ll.random_directions(a, 1, seed=seed),
        lambda: ll.align(a, b, data=images(), seed=seed),
        lambda: ll.fit_curve(ll.objective(a, images(), device="cpu"), a, b, seed=seed, progress=False),
    )
    for call in calls:
        with pytest.raises(ll.InputError, match=r"a seed (is a whole number|has at most 64 bits)") as raised:
            call()
        assert "\n" not in str(raised.value)


def test_seeds_of_any_whole_kind_give_the_same():
    model = make("mlp")
    expected = ll.random_plane(model, seed=7)
    for seed in (np.int64(7), np.uint8(7), torch.tensor(7)):
        found = ll.random_plane(model, seed=seed)
        assert found.fingerprint == expected.fingerprint and found.recipe == expected.recipe
    assert ll.random_plane(model, seed=-1).fingerprint == ll.random_plane(model, seed=2**64 - 1).fingerprint
