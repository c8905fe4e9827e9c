"""Slices through several networks: whose buffers hold where, against networks built by hand at every point."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from networks import images, make
from torch import nn

import landscape_lib as ll

SMALL = {"resolution": 5, "progress": False}


class Scaled(nn.Module):
    """Inputs standardised by two buffers, as they come from the data that a network was trained on."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.randn(2, 1, 1))
        self.register_buffer("std", torch.rand(2, 1, 1) + 0.5)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(32, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, x):
        return self.body((x - self.mean) / self.std)


def instance_norm():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True), nn.Flatten(), nn.Linear(16, 3)
    )
    return trained(model)


def spectral(kind, cycles):
    def build():
        net = nn.Sequential(nn.Flatten(), nn.Linear(32, 6), nn.Tanh(), nn.Linear(6, 3))
        for layer in (net[1], net[3]):
            kind(layer, n_power_iterations=cycles)
        return trained(net)

    return build


def trained(model):
    """Some passes in training mode, at weights that differ in size from network to network."""
    model.train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(1 + 2 * torch.rand(())) if "weight" in name or "original" in name else None
        for _ in range(20):
            model(torch.randn(16, 2, 4, 4) * (1 + torch.rand(())) + 1)
    return model.eval()


NEW, OLD = torch.nn.utils.parametrizations.spectral_norm, torch.nn.utils.spectral_norm
BUILD = {
    "scaler": Scaled,
    "instance norm": instance_norm,
    "spectral norm": spectral(NEW, 20),
    "spectral norm of few cycles": spectral(NEW, 1),
    "old spectral norm": spectral(OLD, 20),
}


def pair(name, count=2):
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        found.append(BUILD[name]().eval())
    return found


def loss_of(model, inputs, targets):
    with torch.no_grad():
        return nn.functional.cross_entropy(copy.deepcopy(model).double()(inputs.double()), targets).item()


def blended(models, weights):
    """Parameters and floating-point buffers sum_k w_k x_k; spectral norms by a singular value decomposition."""
    model = copy.deepcopy(models[0]).double()
    states = [m.state_dict() for m in models]
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.copy_(sum(w * state[name].double() for w, state in zip(weights, states, strict=True)))
    state = model.state_dict()
    for name in state:  # u, v and W are neighbours of one name
        if name.endswith("_u"):
            weight = [
                state[key] for key in state if key.startswith(name[:-1].rpartition("weight")[0]) and "orig" in key
            ]
            left, _, right = torch.linalg.svd(weight[0])
            state[name].copy_(left[:, 0])
            state[name[:-1] + "v"].copy_(right[0])
    return model.eval()


@pytest.mark.parametrize("name", BUILD)
def test_buffers_between_two_networks(name):
    a, b = pair(name)
    data, before = images(), [copy.deepcopy(model.state_dict()) for model in (a, b)]
    objective = ll.objective(a, data, device="cpu", dtype=torch.float64)
    surface = ll.barrier(objective, a, b, **SMALL).surface
    np.testing.assert_allclose(surface.loss[[0, -1]], [loss_of(model, *data) for model in (a, b)], rtol=1e-6)
    inside = [loss_of(blended((a, b), (1 - t, t)), *data) for t in surface.alphas]
    np.testing.assert_allclose(surface.loss, inside, rtol=1e-2 if "few" in name else 1e-5)
    assert surface.metadata["slice"]["networks"] == 2 and surface.metadata["slice"]["varying_buffers"]
    for check, model in zip(surface.metadata["checks"]["networks"], (a, b), strict=True):
        assert check["model_loss"] == pytest.approx(loss_of(model, *data), rel=1e-6)
        assert check["loss"] == pytest.approx(check["model_loss"], rel=1e-6)
    for model, state in zip((a, b), before, strict=True):
        assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    again = ll.barrier(ll.objective(b, data, device="cpu", dtype=torch.float64), a, b, **SMALL).surface
    np.testing.assert_allclose(again.loss, surface.loss, rtol=1e-12)


@pytest.mark.parametrize("name", ["scaler", "instance norm", "spectral norm"])
@pytest.mark.parametrize("method", ["auto", "direct"])
def test_buffers_in_the_plane_of_three_networks(name, method):
    models, data = pair(name, 3), images()
    plane = ll.three_point_plane(*models)
    surface = ll.evaluate(
        ll.objective(models[1], data, device="cpu", dtype=torch.float64), plane,
        alpha_range=(0, 1), beta_range=(0, 0.5), resolution=(3, 2), method=method, progress=False,
    )  # fmt: skip
    for i, alpha in enumerate(surface.alphas):
        for j, beta in enumerate(surface.betas):
            expected = loss_of(blended(models, (1 - alpha - beta, alpha, beta)), *data)
            assert surface.loss[i, j] == pytest.approx(expected, rel=1e-5)
    assert len(surface.metadata["checks"]["networks"]) == 3


@pytest.mark.parametrize("kind", ["bezier", "polygon"])
@pytest.mark.parametrize("name", ["scaler", "spectral norm"])
def test_buffers_on_a_curve(name, kind):
    a, b = pair(name)
    data = images()
    objective = ll.objective(a, data, device="cpu", dtype=torch.float64)
    curve = ll.fit_curve(objective, a, b, kind=kind, bends=2, epochs=3, lr=0.05, progress=False)
    surface = ll.evaluate(objective, curve, alpha_range=(0, 1), **SMALL)
    np.testing.assert_allclose(surface.loss[[0, -1]], [loss_of(model, *data) for model in (a, b)], rtol=1e-6)
    for t, loss in zip(surface.alphas, surface.loss, strict=True):
        model = blended((a, b), (1 - t, t))
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                parameter.copy_(curve(float(t))[key])
        model = blended((model, model), (1.0, 0.0))  # spectral norms at these weights
        assert loss == pytest.approx(loss_of(model, *data), rel=1e-5)


def test_aligned_networks_keep_their_own_buffers():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(32, 6), nn.Linear(6, 3)
            self.register_buffer("shift", torch.randn(6))

        def forward(self, x):
            return self.last(torch.relu(self.first(x.flatten(1)) - self.shift))

    torch.manual_seed(0)
    a, b = Shifted().eval(), Shifted().eval()
    data = images()
    aligned = ll.align(a, b, data=data).model
    assert not torch.equal(aligned.shift, b.shift) and torch.equal(aligned.shift.sort()[0], b.shift.sort()[0])
    objective = ll.objective(a, data, device="cpu", dtype=torch.float64)
    surface = ll.barrier(objective, a, aligned, **SMALL).surface
    assert surface.loss[-1] == pytest.approx(loss_of(b, *data), rel=1e-6)
    found = ll.connectivity(objective, a, b, methods=("weights",), resolution=3, progress=False)
    assert [way.surface.loss[-1] for way in found.barriers.values()] == pytest.approx([loss_of(b, *data)] * 2, rel=1e-6)


def test_projected_models_have_their_own_buffers():
    models, data = pair("scaler", 4), images()
    plane = ll.random_plane(models[0], seed=0)
    objective = ll.objective(models[0], data, device="cpu", dtype=torch.float64)
    found = ll.project(models, plane, objective, progress=False)
    np.testing.assert_allclose(found.loss, [loss_of(model, *data) for model in models], rtol=1e-6)


def test_projected_batch_norm_models_have_their_own_statistics():
    models, data = [make("batch_norm_cnn", seed) for seed in range(3)], images()
    plane = ll.random_plane(models[0], seed=0)
    objective = ll.objective(models[0], data, device="cpu", dtype=torch.float64)
    found = ll.project(models, plane, objective, progress=False)
    np.testing.assert_allclose(found.loss, [loss_of(model, *data) for model in models], rtol=1e-6)
    with pytest.raises(ll.InputError, match="points hold no statistics of the layer '1'"):
        ll.project([ll.parameters_of(model) for model in models], plane, objective, progress=False)


def test_a_plane_of_principal_components_takes_equal_buffers_and_refuses_others():
    models, data = pair("scaler", 4), images()
    objective = ll.objective(models[0], data, device="cpu")
    plane = ll.pca_plane(models)
    with pytest.raises(ll.InputError, match="buffer 'mean' differs, and this plane does not go through the networks"):
        ll.evaluate(objective, plane, **SMALL)
    for model in models[1:]:
        model.load_state_dict({**model.state_dict(), "mean": models[0].mean, "std": models[0].std})
    surface = ll.evaluate(objective, ll.pca_plane(models), resolution=3, progress=False)
    assert surface.loss[1, 1] == pytest.approx(loss_of(models[-1], *data), rel=1e-5)


def difference(a, b):
    a, b = ll.parameters_of(a), ll.parameters_of(b)
    return a, {name: b[name] - a[name] for name in a}


class Counted(Scaled):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.randint(0, 1000, (1,)))


class OwnSpectral(nn.Linear):
    """Spectral normalisation written anew, whose vector no library can know."""

    def __init__(self):
        super().__init__(32, 3)
        self.register_buffer("u0", nn.functional.normalize(torch.randn(3), dim=0))

    def forward(self, x):
        v = nn.functional.normalize(self.u0 @ self.weight, dim=0)
        return nn.functional.linear(x.flatten(1), self.weight / (self.u0 @ self.weight @ v), self.bias)


def two(kind):
    torch.manual_seed(0)
    return kind().eval(), kind().eval()


def on(line, network, **options):
    return ll.evaluate(ll.objective(network, images(), device="cpu", **options), line, alpha_range=(0, 1), **SMALL)


def untrained(kind):
    def build():
        return nn.Sequential(nn.Flatten(), kind(nn.Linear(32, 3)))

    return build


REFUSED = {
    "whole numbers": (
        lambda: two(Counted),
        ll.interpolation_line,
        "'steps' differs, and it holds integers",
    ),
    "unit vectors": (lambda: two(OwnSpectral), ll.interpolation_line, "buffer 'u0' differs, and it is a unit vector"),
    "not converged": (lambda: two(untrained(OLD)), ll.interpolation_line, "times its true value; run the networks"),
    "by hand": (
        lambda: [make("batch_norm_cnn", seed) for seed in (0, 1)],
        lambda a, b: ll.Line(difference(a, b)[0], (difference(a, b)[1],)),
        "made by hand does not tell whose BatchNorm statistics.*networks=1",
    ),
    "buffer by hand": (
        lambda: two(Scaled),
        lambda a, b: ll.Line(difference(a, b)[0], (difference(a, b)[1],)),
        "made by hand does not tell whose buffer 'mean'",
    ),
    "spectral norm by hand": (
        lambda: pair("spectral norm"),
        lambda a, b: ll.Line(difference(a, b)[0], (difference(a, b)[1],)),
        "made by hand does not tell whose buffer",
    ),
    "points": (
        lambda: two(Scaled),
        lambda a, b: ll.interpolation_line(ll.parameters_of(a), ll.parameters_of(b)),
        "only the parameters are known, not the buffer 'mean'",
    ),
    "other network": (lambda: two(Scaled), lambda a, b: ll.random_line(b), "'mean' is not that of the objective's"),
    "statistics of another network": (
        lambda: [make("batch_norm_cnn", seed) for seed in (0, 1)],
        lambda a, b: ll.random_line(b),
        "'1.running_mean' is not that of the objective's",
    ),
    "other buffers": (
        lambda: (Scaled(), Counted()),
        lambda a, b: ll.interpolation_line(a, b),
        "network 2 does not belong to this network: it has the foreign buffer 'steps'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_buffers_that_cannot_be_mixed_or_are_not_known_are_refused_by_name(case):
    models, slice_of, message = REFUSED[case]
    a, b = models()
    with pytest.raises(ll.InputError, match=message) as raised:
        on(slice_of(a, b), a)
    assert "\n" not in str(raised.value)


def test_a_slice_made_by_hand_says_through_how_many_networks_it_goes():
    a, b = (make("batch_norm_cnn", seed) for seed in (0, 1))
    origin, direction = difference(a, b)
    line = ll.interpolation_line(a, b)
    np.testing.assert_array_equal(on(ll.Line(origin, (direction,), networks=2), a).loss, on(line, a).loss)
    running = on(ll.Line(origin, (direction,), networks=1), a)
    assert running.metadata["objective"]["batch_norm"] == "running"
    np.testing.assert_array_equal(on(ll.Line(origin, (direction,)), a, batch_norm="running").loss, running.loss)
    spectral_line = ll.Line(*(lambda o, d: (o, (d,)))(*difference(*pair("spectral norm"))), networks=2)
    np.testing.assert_allclose(
        on(spectral_line, pair("spectral norm")[0]).loss,
        on(ll.interpolation_line(*pair("spectral norm")), pair("spectral norm")[0]).loss,
        rtol=1e-4,
    )
    a, b = two(Scaled)
    points = ll.interpolation_line(ll.parameters_of(a), ll.parameters_of(b))
    assert on(dataclasses.replace(points, networks=1), a).loss[0] == pytest.approx(loss_of(a, *images()), rel=1e-5)


def test_a_variance_that_would_become_negative_is_refused_before_the_work():
    a, b = two(Scaled)
    with torch.no_grad():
        a.std.fill_(0.5)
        b.std.fill_(2.0)
    with pytest.raises(ll.InputError, match=r"'std' is positive in all networks.*would not be at \(-1\)"):
        ll.evaluate(ll.objective(a, images(), device="cpu"), ll.interpolation_line(a, b), **SMALL)


def test_networks_that_differ_in_what_is_no_tensor_are_refused():
    a, b = (nn.Sequential(nn.Flatten(), nn.Linear(32, 6), act, nn.Linear(6, 3)) for act in (nn.ReLU(), nn.Tanh()))
    with pytest.raises(ll.InputError, match=r"the network at \(1.0,\) of this slice gives a loss of"):
        on(ll.interpolation_line(a, b), a)


def test_lines_between_networks_in_half_precision_end_at_the_second_one():
    a, b = (make("mlp", seed).to(torch.bfloat16) for seed in (0, 1))
    line = ll.interpolation_line(a, b)
    for name, value in ll.parameters_of(b).items():
        assert torch.equal(line(1)[name], value)
    assert on(line, a).loss[-1] == pytest.approx(loss_of(b, *images()), rel=1e-5)
