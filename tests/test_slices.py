"""Lines and planes: where they pass, and what they refuse."""

import json

import pytest
import torch
from networks import images, make, plain_losses

import landscape_lib as ll
from landscape.results.axes import SliceAxes


def points(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        {"w": torch.randn(4, 3, generator=generator).double(), "b": torch.randn(5, generator=generator).double()}
        for _ in range(count)
    ]


def flat(point):
    return torch.cat([value.flatten() for value in point.values()])


def close(a, b):
    torch.testing.assert_close(flat(a), flat(b))


def test_interpolation_passes_through_both_models():
    a, b = points(2)
    line = ll.interpolation_line(a, b)
    close(line(0), a)
    close(line(1), b)
    torch.testing.assert_close(flat(line(0.25)), 0.75 * flat(a) + 0.25 * flat(b))


def test_interpolation_takes_modules():
    a, b = make("mlp", 0), make("mlp", 1)
    line = ll.interpolation_line(a, b)
    close(line(1), ll.parameters_of(b))


def test_a_normalised_interpolation_points_to_the_second_model_at_the_scale_of_the_first():
    a, b = points(2)
    line = ll.interpolation_line(a, b, normalize="filter")
    expected = {"w": torch.empty_like(a["w"]), "b": torch.empty_like(a["b"])}
    for row in range(4):
        way = b["w"][row] - a["w"][row]
        expected["w"][row] = way * (a["w"][row] ** 2).sum().sqrt() / (way**2).sum().sqrt()
    way = b["b"] - a["b"]
    expected["b"] = way * (a["b"] ** 2).sum().sqrt() / (way**2).sum().sqrt()
    close(line(0), a)
    close(line(1), {name: a[name] + expected[name] for name in a})
    close(line(-0.5), {name: a[name] - 0.5 * expected[name] for name in a})
    assert line.recipe == {"kind": "normalised interpolation line", "normalize": "filter"}
    assert line.geometry["relative_norms"] == pytest.approx([1])
    assert (flat(line(1)) - flat(b)).norm() > 0.1


def test_a_normalised_interpolation_keeps_the_statistics_of_the_first_network():
    a, b = make("batch_norm_cnn", 0), make("batch_norm_cnn", 1)
    objective = ll.objective(a, images(), device="cpu")
    surface = ll.evaluate(objective, ll.interpolation_line(a, b, normalize="filter"), resolution=3, progress=False)
    assert surface.metadata["objective"]["batch_norm"] == "running"
    losses, _ = plain_losses(a, ll.interpolation_line(a, b, normalize="filter"), (1.0,), *images())
    assert surface.loss[2] == pytest.approx(losses.mean().item(), rel=1e-5)


def test_three_point_plane_passes_through_all_three():
    a, b, c = points(3)
    plane = ll.three_point_plane(a, b, c)
    close(plane(0, 0), a)
    close(plane(1, 0), b)
    close(plane(0, 1), c)


def test_a_slice_is_not_changed_by_using_it():
    a, b, c = points(3)
    plane = ll.three_point_plane(a, b, c)
    before = plane.fingerprint
    plane(0.3, 0.4)["w"].zero_()
    assert ll.three_point_plane(a, b, c).fingerprint == before
    close(plane(0, 0), a)


def test_geometry_against_flat_vectors():
    plane = ll.random_plane(make("cnn").double(), seed=1)
    origin, first, second = (flat(p) for p in (plane.origin, *plane.directions))
    assert plane.geometry["origin_norm"] == pytest.approx(origin.norm().item())
    assert plane.geometry["relative_norms"] == pytest.approx(
        [(d.norm() / origin.norm()).item() for d in (first, second)]
    )
    assert plane.geometry["cosine"] == pytest.approx(torch.cosine_similarity(first, second, dim=0).item())


A, B, C = points(3)
SLICES = {
    "random line": (lambda: ll.random_line(make("mlp"), normalize="layer"), ("units of layer-wise norms",), ()),
    "random plane": (lambda: ll.random_plane(make("mlp"), normalize=None), ("direction not normalised",) * 2, ()),
    "line": (
        lambda: ll.interpolation_line(A, B),
        ("0 = first model, 1 = second model",),
        ("first model", "second model"),
    ),
    "towards": (
        lambda: ll.interpolation_line(A, B, normalize="filter"),
        ("filter-norm units towards the second model",),
        ("first model",),
    ),
    "three points": (
        lambda: ll.three_point_plane(A, B, C),
        ("1 = second model", "1 = third model"),
        ("first model", "second model", "third model"),
    ),
    "components": (
        lambda: ll.pca_plane([A, B, C], normalize="model"),
        ("principal component 1, units of the model's norm", "principal component 2, units of the model's norm"),
        ("origin",),
    ),
    "curve": (
        lambda: ll.results.Curve.through((A, C, B), {"kind": "polygon curve"}),
        ("0 = first model, 1 = second model",),
        ("first model", "second model"),
    ),
}


@pytest.mark.parametrize("case", SLICES)
def test_a_slice_knows_its_axes_and_the_models_on_it(case):
    build, units, models = SLICES[case]
    slice_ = build()
    assert (slice_.axes.units, slice_.axes.models) == (units, models)
    assert SliceAxes.read(json.loads(json.dumps(slice_.description))) == slice_.axes
    earlier = SliceAxes.read(slice_.recipe)  # which is what files of earlier versions hold
    assert earlier.units[: len(units)] == units and earlier.models == models


def test_a_slice_knows_what_it_moves():
    model = make("mlp")
    names = [name for name, _ in model.named_parameters()]
    assert ll.random_line(model, ignore=("bias",)).moved == [name for name in names if name.endswith("weight")]
    assert ll.random_line(model, ignore=()).moved == names
    zero = torch.zeros_like
    line = ll.Line(A, ({"w": zero(A["w"]), "b": B["b"]},))
    assert line.moved == ["b"] and line.not_moved == {"zero": ["w"]} and line.axes == SliceAxes()


BAD = {
    "other network": (lambda: ll.interpolation_line(make("mlp"), make("cnn")), "second model does not belong"),
    "other shape": (lambda: ll.interpolation_line(A, {**A, "b": torch.zeros(2)}), r"'b' has shape \(2,\) instead"),
    "normalisation": (lambda: ll.interpolation_line(A, B, normalize="row"), "unknown normalization 'row'"),
    "same models": (lambda: ll.interpolation_line(A, A, normalize="filter"), "models are the same"),
    "diverged": (lambda: ll.interpolation_line(A, {**B, "b": B["b"] * torch.nan}), "holds NaN or infinite"),
    "on one line": (lambda: ll.three_point_plane(A, B, ll.interpolation_line(A, B)(3)), "span no plane"),
    "coincide": (lambda: ll.three_point_plane(A, A, B), "span no plane"),
}


@pytest.mark.parametrize("case", BAD)
def test_points_that_span_no_slice_are_refused(case):
    call, message = BAD[case]
    with pytest.raises(ll.InputError, match=message):
        call()


def test_directions_of_other_parameters_are_refused_however_the_slice_is_made():
    with pytest.raises(ll.InputError, match="direction"):
        ll.Line(A, ({"w": B["w"]},))
    with pytest.raises(ll.InputError, match="the direction of 'w' is complex, but the parameter is not"):
        ll.Line(A, ({**B, "w": B["w"] * 1j},))


def test_whole_numbers_stay_on_the_slice_and_a_point_never_shares_what_may_be_changed():
    origin = {"w": torch.ones(3), "order": torch.arange(4)}
    line = ll.Line(origin, ({"w": torch.ones(3), "order": torch.ones(4, dtype=torch.long)},))
    point = line(2.0)
    assert torch.equal(point["w"], torch.full((3,), 3.0)) and torch.equal(point["order"], torch.arange(4))
    point["order"].zero_()
    assert torch.equal(line.origin["order"], torch.arange(4))


def test_rounding_to_half_precision_is_the_share_of_the_step_that_it_takes():
    origin = {"w": torch.tensor([1.0, 2.0]).half()}
    step = torch.tensor([0.0007, 0.25])  # the spacing of half precision at 1 is 2 ** -10
    line = ll.Line(origin, ({"w": step},))
    rounded = line(1)["w"].double() - origin["w"].double()
    expected = ((rounded - step.double()).norm() / step.double().norm()).item()
    assert expected > 1e-3 and line.geometry["rounding"] == [pytest.approx(expected, rel=1e-3)]
    assert ll.Line(origin, ({"w": torch.zeros(2)},)).geometry["rounding"] == [None]
    assert ll.Line({"w": torch.ones(2)}, ({"w": step},)).geometry["rounding"] is None


def test_wrong_number_of_coordinates_and_wrong_types_are_told():
    with pytest.raises(TypeError, match=r"takes 1 coordinate\(s\), not 2"):
        ll.interpolation_line(A, B)(0, 1)
    with pytest.raises(TypeError, match="a point is a module or a dict"):
        ll.interpolation_line(A, [1, 2])
