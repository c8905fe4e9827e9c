"""No shortcut changes a number: what it takes for granted is proved, else the plain forward pass is used."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import landscape_lib as ll
from landscape.evaluation.methods.first_outputs import FirstOutputs
from landscape.evaluation.methods.prefix import Prefix
from landscape.evaluation.methods.protocol import Arrangement, NotApplicable
from landscape.objective.forwards import replaced_forwards

GRID = {"alpha_range": (-1.0, 0.5), "beta_range": (-0.75, 1.5), "resolution": (4, 3), "progress": False}


def data(count=41, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=generator), torch.randint(0, 3, (count,), generator=generator)


def perceptron(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).eval()


def check(model, samples, loss, rel=1e-5, **options):
    """The surface, after comparing every point with ``loss`` of a moved copy in float64."""
    plane = ll.random_plane(model, seed=3, **options)
    target = ll.objective(model, samples, device="cpu", **({"loss": loss} if callable(loss) else {}))
    surface = ll.evaluate(target, plane, **GRID)
    for i, alpha in enumerate(surface.alphas):
        for j, beta in enumerate(surface.betas):
            assert surface.loss[i, j] == pytest.approx(plain(model, plane, (alpha, beta), samples, loss), rel=rel)
    return surface


def plain(model, plane, place, samples, loss):
    moved = copy.deepcopy(model).double()
    for name, parameter in moved.named_parameters():
        steps = [c * d[name].double() for c, d in zip(place, plane.directions, strict=True)]
        parameter.data = plane.origin[name].double() + sum(steps)
    batch = (samples[0].double(), samples[1])
    value = loss(moved, batch) if callable(loss) else F.cross_entropy(moved(batch[0]), batch[1])
    return float(value.detach().mean())


def entropies(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


READERS = {
    "decay of all weights": lambda m: 2e-5 * sum(p.square().sum() for p in m.parameters()),
    "decay of the first layer": lambda m: 1e-6 * m[0].weight.square().sum(),
    "through data": lambda m: 1e-5 * m[0].weight.data.square().sum(),
    "a count, which NaN would not show": lambda m: 1e-5 * (m[0].weight.abs() < 0.3).sum(),
    "a norm of a transposed view": lambda m: 1e-5 * m[0].weight.T[1:].norm(),
    "decay of the bias": lambda m: 1e-6 * m[0].bias.square().sum(),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_loss_that_reads_the_first_weights_is_evaluated_directly(read):
    loss = lambda m, batch: entropies(m, batch) + read(m)  # noqa: E731
    surface = check(perceptron(), data(), loss, rel=1e-6, ignore=())
    assert surface.metadata["method"] == "direct"
    assert "is read outside its layer" in surface.metadata["methods_rejected"]["prefix"]


def test_a_loss_that_asks_only_for_the_device_of_the_weights_keeps_the_prefix():
    def loss(model, batch):
        like = next(model.parameters())
        return F.cross_entropy(model(batch[0].to(like)), batch[1], reduction="none").to(like.device)

    assert check(perceptron(), data(), loss).metadata["method"] == "prefix"


@pytest.mark.parametrize("coefficient", [1.0, 1e-6])
def test_the_size_of_the_loss_does_not_matter_to_the_proof(coefficient, monkeypatch):
    """A first layer whose output is off by 2 % far out is wrong whatever the scale, or the constant beside."""
    model, samples = perceptron(), data()
    loss = lambda m, batch: 5 * coefficient + coefficient * entropies(m, batch)  # noqa: E731
    plane = ll.random_plane(model, seed=3)
    prove = ll.objective(model, samples, loss=loss, device="cpu")
    assert ll.evaluate(prove, plane, **GRID).metadata["method"] == "prefix"
    right = FirstOutputs.load

    def load(outputs, forward):
        right(outputs, forward)
        if outputs.terms:
            outputs.terms[1] = outputs.terms[1] + 0.02

    monkeypatch.setattr(FirstOutputs, "load", load)
    wrong = ll.evaluate(prove, plane, **GRID)
    assert wrong.metadata["method"] == "direct"
    assert "differs from a plain forward pass" in wrong.metadata["methods_rejected"]["prefix"]


def residual(model, batch):
    """(u' - cos x)^2 [n]."""
    x = batch[0].clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    return (slope - torch.cos(x)).square()[:, 0]


def guarded(model, batch):
    with torch.enable_grad():
        return residual(model, batch)


def by_functional(model, batch):
    slope = torch.func.vmap(torch.func.grad(lambda x: model(x)[0]))(batch[0])
    return (slope - torch.cos(batch[0])).square()[:, 0]


class Bounded(nn.Module):
    """u = x N(x): a part of its derivative survives where the first layer's output counts as constant."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x * self.inner(x)


def physics():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    x = torch.linspace(0, 1, 23)[:, None]
    return net, (x, torch.zeros(23, 1))


@pytest.mark.parametrize("loss", [residual, guarded, by_functional])
def test_a_loss_that_differentiates_by_the_inputs_in_closed_form(loss):
    net, samples = physics()
    target = ll.objective(net, samples, loss=loss, dtype=torch.float64, device="cpu")
    plane = ll.random_plane(net, seed=1, ignore=())
    surfaces = [ll.evaluate(target, plane, method=method, per_sample=True, **GRID) for method in ("auto", "direct")]
    x = samples[0].double()
    for surface in surfaces:
        assert surface.metadata["method"] == "direct"
        for i, alpha in enumerate(surface.alphas):
            w1, b1, w2, _ = (value.double() for value in plane(alpha, surface.betas[1]).values())
            slope = (w2 * (1 - torch.tanh(x @ w1.T + b1) ** 2)) @ w1
            expected = (slope - torch.cos(x)).square()[:, 0]
            np.testing.assert_allclose(surface.per_sample[i, 1], expected, rtol=1e-6)  # of float32 weights


@pytest.mark.parametrize("loss", [residual, guarded, by_functional])
def test_a_part_of_the_derivative_beside_the_first_layer_does_not_pass_for_all_of_it(loss):
    net, samples = physics()
    assert check(Bounded(net), samples, loss).metadata["method"] == "direct"


@pytest.mark.parametrize("loss", [residual, guarded, by_functional])
def test_every_consumer_takes_a_loss_that_differentiates(loss, tmp_path):
    net, samples = physics()
    other, _ = physics()
    nn.init.normal_(other[0].weight)
    target = ll.objective(net, samples, loss=loss, device="cpu")
    plane = ll.random_plane(net, seed=1)
    whole = ll.evaluate(target, plane, resolution=13, progress=False)
    some = ll.evaluate(target, plane, resolution=13, tolerance=0.02, resume=tmp_path / "r.npz", progress=False)
    again = ll.evaluate(target, plane, resolution=13, tolerance=0.02, resume=tmp_path / "r.npz", progress=False)
    np.testing.assert_allclose(some.loss, whole.loss, rtol=0.03)
    assert again.metadata["resumed_points"] == some.evaluated.sum()
    assert not target(net).requires_grad
    line, steps = ll.interpolation_line(net, other), np.linspace(0, 1, 5)
    losses = np.array([float(target(line(t)).mean()) for t in steps])
    rise = (losses - losses[0] * (1 - steps) - losses[-1] * steps).max()
    assert ll.barrier(target, net, other, resolution=5, progress=False).value == pytest.approx(rise, abs=1e-5)
    found = ll.find_span(target, plane)
    ends = [float(target(plane(*(sign * found["span"] * axis))).mean()) for axis in np.eye(2) for sign in (1, -1)]
    assert np.mean(ends) == pytest.approx(found["origin_loss"] + 1, rel=0.1)
    assert ll.sharpness(target, net, "sam").loss == pytest.approx(float(target(net).mean()), rel=1e-6)
    flat = torch.cat([p.detach().double().flatten() for p in net.parameters()])
    hessian = torch.autograd.functional.hessian(lambda v: dense_residual(v, samples[0].double()), flat)
    found = ll.top_eigenpairs(target, net, k=1, progress=False).values
    largest = max(torch.linalg.eigvalsh(hessian).tolist(), key=abs)
    assert found[0] == pytest.approx(largest, rel=1e-4)


@pytest.mark.parametrize("loss", [residual, guarded, by_functional])
def test_the_gauss_newton_matrix_of_a_loss_that_differentiates_is_refused(loss):
    net, samples = physics()
    with pytest.raises(ll.InputError, match="use the Hessian"):
        ll.top_eigenpairs(ll.objective(net, samples, loss=loss), net, k=1, operator="ggn", progress=False)


def dense_residual(vector, x):
    w1, b1, w2 = vector[:8].view(8, 1), vector[8:16], vector[16:24].view(1, 8)
    slope = (w2 * (1 - torch.tanh(x @ w1.T + b1) ** 2)) @ w1
    return (slope - torch.cos(x)).square().mean()


class Forces(nn.Module):
    """-dE/dx: a network whose forward pass differentiates."""

    def __init__(self):
        super().__init__()
        self.hidden, self.energy = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x):
        x = x.requires_grad_()
        energy = self.energy(torch.tanh(self.hidden(x))).sum()
        return -torch.autograd.grad(energy, x, create_graph=True)[0]


def test_a_network_that_gives_forces_under_a_named_loss():
    torch.manual_seed(0)
    model, positions = Forces(), torch.randn(13, 4)
    plane = ll.random_plane(model, seed=1)
    surface = ll.evaluate(ll.objective(model, (positions, torch.zeros(13, 4)), loss="mse"), plane, **GRID)
    for i, alpha in enumerate(surface.alphas):
        w1, b1, w2, _ = (value.double() for value in plane(alpha, surface.betas[2]).values())
        forces = -(w2 * (1 - torch.tanh(positions.double() @ w1.T + b1) ** 2)) @ w1
        assert surface.loss[i, 2] == pytest.approx(forces.square().mean().item(), rel=1e-5)
    assert not positions.requires_grad


def test_a_penalty_on_the_gradient_by_the_weights():
    def loss(model, batch):
        value = F.cross_entropy(model(batch[0]), batch[1])
        slopes = torch.autograd.grad(value, list(model.parameters()), create_graph=True)
        return value + sum(slope.square().sum() for slope in slopes)

    samples = (torch.randn(1, 4), torch.tensor([1]))  # of one sample the mean is that sample's
    surface = check(perceptron(), samples, loss)
    assert surface.metadata["method"] == "direct"


class Named(nn.Module):
    """Layers that are called with keywords."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.pool, self.out = nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Linear(2, 3)

    def forward(self, x):
        return self.out(input=self.pool(input=torch.tanh(self.convolution(input=x))).flatten(1))


def test_layers_that_are_called_with_keywords():
    samples = (torch.randn(23, 1, 4, 4), data(23)[1])
    assert check(Named(), samples, "cross_entropy").metadata["method"] == "prefix"
    first = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    chain = lambda m, batch: F.cross_entropy(m[2](input=m[1](m[0](input=batch[0]))), batch[1])  # noqa: E731
    assert check(first, data(), lambda m, batch: chain(m, batch)).metadata["method"] == "prefix"


class SharedTwice(nn.Module):
    """One module under two names, run twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Linear(4, 4)
        self.b, self.out = self.a, nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.b(torch.tanh(self.a(x)))))


def test_a_module_under_two_names_survives_every_try():
    model = SharedTwice()
    check(model, data(), "cross_entropy")
    target = ll.objective(model, data(), device="cpu")
    before = target(model)
    ll.evaluate(target, ll.random_plane(model, seed=1), **GRID)
    torch.testing.assert_close(target(model), before)


class Routed(nn.Module):
    """Every sample goes through one of two experts, which its embedding picks; an expert without samples is skipped."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embed = nn.Linear(4, 6)
        self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        hidden = self.embed(x)
        second = hidden[:, 0] > 0
        total = torch.zeros_like(hidden)
        for picked, expert in zip((~second, second), self.experts, strict=True):
            if picked.any():
                total = total.index_add(0, picked.nonzero()[:, 0], expert(hidden[picked]))
        return self.out(torch.tanh(total))


@pytest.mark.parametrize("batch_size", [5, 50])
def test_samples_sorted_by_the_expert_that_they_take(batch_size):
    """The first batches run one expert, later ones the other, none or both."""
    model, (inputs, targets) = Routed(), data()
    order = (model.embed(inputs)[:, 0] > 0).int().argsort(stable=True)
    samples = (inputs[order], targets[order])
    for moved in (("experts.0.*",), ("experts.1.*",), ("experts.*",), ("experts.*", "out.*")):
        fixed = [n for n, _ in model.named_parameters() if not any(n.startswith(m[:-1]) for m in moved)]
        plane = ll.random_plane(model, seed=3, ignore=("bias", *fixed))
        surface = ll.evaluate(ll.objective(model, samples, device="cpu", batch_size=batch_size), plane, **GRID)
        expected = plain(model, plane, (surface.alphas[0], surface.betas[0]), samples, "cross_entropy")
        assert surface.loss[0, 0] == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def small_batches(monkeypatch):
    """Four samples a batch instead of what timing finds."""

    def tune(evaluators, *_, **__):
        for evaluator in evaluators:
            evaluator.arrange(Arrangement(4))
        return 1e-6

    monkeypatch.setattr("landscape.evaluation.workers.tune", tune)


@pytest.mark.usefixtures("small_batches")
def test_a_batch_that_takes_another_way_than_the_trial_ends_the_prefix_not_the_evaluation():
    model, (inputs, targets) = Routed(), data()
    order = (model.embed(inputs)[:, 0] > 0).int().argsort(stable=True)
    fixed = [name for name, _ in model.named_parameters() if not name.startswith("experts.0")]
    plane = ll.random_plane(model, seed=3, ignore=("bias", *fixed))
    target = ll.objective(model, (inputs[order], targets[order]), device="cpu", batch_size=4)
    evaluator = Prefix(target, plane)
    evaluator.prepare(torch.rand(4, 2, dtype=torch.float64))
    *_, (_, last) = target.batches(4)
    with pytest.raises(NotApplicable, match="does not run on every batch"):
        evaluator.load(last)
    with pytest.raises(ll.InputError, match="method 'prefix' does not fit"):
        ll.evaluate(target, plane, method="prefix", **GRID)


class Overwriting(nn.Module):
    """Adds to the output of a layer in place, which all points would share."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.inner, self.out = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        hidden = self.stem(x)
        hidden += self.inner(torch.tanh(hidden))
        return self.out(hidden)


def test_outputs_that_all_points_share_are_not_overwritten():
    surface = check(Overwriting(), data(), "cross_entropy", ignore=("bias", "stem.*"))
    assert surface.metadata["methods_rejected"]["prefix"] == "what all points share is overwritten"


class Fragile(nn.Module):
    """Takes one memory layout only, and no torch.func."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.out = nn.Conv2d(1, 3, 3), nn.Linear(12, 3)

    def forward(self, x):
        hidden = torch.relu(self.conv(x))
        if float(hidden.sum()) < 0:
            raise AssertionError
        return self.out(hidden.view(len(x), -1))


def test_layouts_that_a_network_does_not_take_are_left_out():
    samples = (torch.randn(150, 1, 4, 4), data(150)[1])
    surface = check(Fragile(), samples, "cross_entropy")
    assert surface.metadata["method_settings"]["layout"] == "default"
    assert surface.metadata["method_settings"]["together"] == 1


@pytest.mark.usefixtures("small_batches")
def test_a_faster_way_that_fails_in_the_middle_falls_back_and_says_so(monkeypatch):
    model, samples = perceptron(), data()
    right, calls = Prefix.load, []

    def load(self, batch):
        calls.append(1)
        if len(calls) > 7:
            raise ZeroDivisionError("in the middle")
        return right(self, batch)

    monkeypatch.setattr(Prefix, "load", load)
    surface = check(model, samples, "cross_entropy")
    assert surface.metadata["method"] == "direct"
    assert surface.metadata["methods_rejected"]["prefix"] == "ZeroDivisionError: in the middle"


def test_a_failure_of_the_plain_pass_is_that_failure():
    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            if self.layer.weight[0, 0] > 10:
                raise ZeroDivisionError("by zero")
            return self.layer(torch.sin(x))

    model = Breaks()
    nn.init.ones_(model.layer.weight)
    line = ll.Line(ll.parameters_of(model), ({n: torch.ones_like(p) for n, p in model.named_parameters()},))
    with pytest.raises(ZeroDivisionError, match="by zero"):
        ll.evaluate(
            ll.objective(model, data()), line, alpha_range=(0, 20), resolution=3, method="direct", progress=False
        )


def test_replaced_forwards_are_put_back_whatever_happens():
    layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
    own = lambda x: x  # noqa: E731
    other.forward = own
    with pytest.raises(ValueError), replaced_forwards({layer: len, other: len}):
        with replaced_forwards({layer: abs, other: abs}):
            assert layer.forward is abs and other.forward is abs
        assert layer.forward is len and other.forward is len
        raise ValueError
    assert "forward" not in layer.__dict__ and other.forward is own


def test_a_layer_with_a_forward_of_its_own_is_run_as_it_is():
    model, samples = perceptron(), data()
    plain_forward = model[0].forward
    model[0].forward = lambda x: plain_forward(x).round(decimals=1)
    target = ll.objective(model, samples, device="cpu")
    # torch copies the attribute with the network it is bound to, so the private copy gets one of its own
    target.model[0].forward = lambda x: F.linear(x, target.model[0].weight, target.model[0].bias).round(decimals=1)
    with pytest.raises(NotApplicable, match="a forward method of its own"):
        Prefix(target, ll.random_plane(model, seed=1))
