"""The network of an objective is its own: it follows every move, and nothing of the caller's is written."""

import collections
import copy
import functools
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import images, make
from torch import nn
from torch.optim.swa_utils import AveragedModel

import landscape_lib as ll
from landscape.objective.forward_watch import find_out
from landscape.points import inner

X, Y = images()
IDS = torch.randint(0, 9, (13, 5), generator=torch.Generator().manual_seed(0))


class Limited(nn.Module):
    """Weights that the forward pass limits, in one of the ways in which people do it."""

    def __init__(self, limit):
        super().__init__()
        self.layer, self.out, self.limit = nn.Linear(32, 6), nn.Linear(6, 3), limit

    def forward(self, x):
        with torch.no_grad():
            self.limit(self.layer)
        return self.out(torch.tanh(self.layer(x.flatten(1))))


def through_numpy(layer):
    np.clip(layer.weight.detach().numpy(), -0.1, 0.1, out=layer.weight.detach().numpy())


def norm_limit(layer):
    if (length := layer.weight.norm()) > 2.5:  # not exceeded at the network itself
        layer.weight.mul_(2.5 / length)


def other_memory(layer):
    layer.weight.data = layer.weight.data.clamp(-0.1, 0.1)


def other_parameter(layer):
    layer.weight = nn.Parameter(layer.weight.clamp(-0.1, 0.1))


LIMITS = {
    "clamp": lambda layer: layer.weight.clamp_(-0.1, 0.1),
    "data": lambda layer: layer.weight.data.clamp_(-0.1, 0.1),
    "copy": lambda layer: layer.weight.copy_(layer.weight.clamp(-0.1, 0.1)),
    "view": lambda layer: layer.weight[0].zero_(),
    "decay": lambda layer: layer.weight.mul_(0.9),
    "norm": norm_limit,
    "other memory": other_memory,
    "other parameter": other_parameter,
    "numpy": through_numpy,
}


def limited(name):
    torch.manual_seed(0)
    return Limited(LIMITS[name])


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.out = nn.Embedding(9, 4, max_norm=1.0), nn.Linear(4, 3)
        self.embedding.weight.data.mul_(3)

    def forward(self, ids):
        return self.out(self.embedding(ids).mean(1))


WRITERS = {name: (functools.partial(limited, name), X) for name in LIMITS} | {"max_norm": (Embedded, IDS)}


def plain(model, point, inputs):
    """Losses of a fresh copy with the values of ``point``."""
    fresh = copy.deepcopy(model).eval()
    for name, parameter in fresh.named_parameters():
        parameter.data = point[name].clone()
    with torch.no_grad():
        return F.cross_entropy(fresh(inputs), Y, reduction="none")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_forward_pass_that_writes_into_its_weights_starts_anew_everywhere(writer):
    make_model, inputs = WRITERS[writer]
    model = make_model()
    plane = ll.random_plane(model, ignore=())
    point = plane(1.5, -0.5)
    kept = {name: value.clone() for name, value in point.items()}
    given = [{name: value.clone() for name, value in part.items()} for part in (plane.origin, *plane.directions)]
    weights = copy.deepcopy(model.state_dict())
    target = ll.objective(model, (inputs, Y), device="cpu", batch_size=5)
    torch.testing.assert_close(target(point), plain(model, point, inputs))
    for method in ("auto", "direct"):
        surface = ll.evaluate(
            target, plane, alpha_range=(-2, 2), beta_range=(-1, 3), resolution=(3, 2), method=method, progress=False
        )
        for i, a in enumerate(surface.alphas):
            for j, b in enumerate(surface.betas):
                expected = plain(model, plane(float(a), float(b)), inputs).double().mean().item()
                assert surface.loss[i, j] == pytest.approx(expected, rel=1e-5)
    ll.sharpness(target, point, "gaussian", samples=2)
    for part, before in zip((plane.origin, *plane.directions), given, strict=True):
        assert all(torch.equal(part[name], before[name]) for name in part)
    assert all(torch.equal(point[name], kept[name]) for name in point)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_derivatives_where_the_pass_overwrites_weights_are_refused_and_elsewhere_right():
    model = limited("clamp")
    target, point = ll.objective(model, (X, Y), device="cpu", dtype=torch.float64), ll.parameters_of(model)
    for call in (lambda: ll.hessian_product(target, point), lambda: ll.sharpness(target, point, "sam")):
        with pytest.raises(ll.InputError, match=r"overwrites parameter 'layer.weight' at this point"):
            call()
    with pytest.raises(ll.InputError, match="no curve can be trained"):
        ll.fit_curve(target, point, point, progress=False)
    inside = {**point, "layer.weight": point["layer.weight"].clamp(-0.09, 0.09)}
    free = nn.Sequential(nn.Flatten(), model.layer, nn.Tanh(), model.out)
    names = dict(zip(("1.weight", "1.bias", "3.weight", "3.bias"), inside, strict=True))
    vector = np.random.default_rng(0).normal(size=sum(value.numel() for value in inside.values()))
    expected = ll.hessian_product(
        ll.objective(free, (X, Y), device="cpu", dtype=torch.float64),
        {name: inside[other] for name, other in names.items()},
    ).matvec(vector)
    np.testing.assert_allclose(ll.hessian_product(target, inside).matvec(vector), expected, rtol=1e-9, atol=1e-12)


def patched(model):
    """A forward method that a closure binds to the model that is passed in."""
    model.forward = lambda x: model[3](torch.relu(model[1](model[0](x))))
    return model


class Cached(nn.Module):
    """Weights that are computed in the first pass and kept."""

    def __init__(self):
        super().__init__()
        self.v, self.out, self.cache = nn.Parameter(torch.randn(6, 32)), nn.Linear(6, 3), None

    def forward(self, x):
        if self.cache is None:
            self.cache = (self.v / self.v.norm(dim=1, keepdim=True)).detach()
        return self.out(F.linear(x.flatten(1), self.cache))


class Viewed(nn.Module):
    """A plain tensor that shows a part of a parameter."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 3)
        self.shown = self.layer.weight.data[:, :16]

    def forward(self, x):
        return F.linear(x.flatten(1)[:, :16], self.shown) + self.layer(x.flatten(1))


def computed_before():
    model = Cached()
    model.cache = model.v / model.v.norm(dim=1, keepdim=True)
    return model


def hooked():
    model = make("mlp")
    model[1].register_forward_hook(lambda module, inputs, output: F.linear(inputs[0], model[1].weight))
    return model


def frozen_patch():
    return patched(make("mlp")).requires_grad_(False)


NOT_FOLLOWING = {
    "closure": (lambda: patched(make("mlp")), r"'1\.weight'"),
    "frozen": (frozen_patch, r"'1\.weight'"),
    "hook": (hooked, r"'1\.weight'"),
    "cache of the first pass": (Cached, "'v'"),
    "cache from before": (computed_before, "'v'"),
    "view": (Viewed, r"'layer\.weight'"),
}


@pytest.mark.parametrize("case", NOT_FOLLOWING)
def test_what_does_not_follow_a_move_is_named(case):
    make_model, name = NOT_FOLLOWING[case]
    model = make_model()
    target = ll.objective(model, (X, Y), device="cpu")
    assert target(model).shape == (13,)  # at the network itself nothing is wrong
    message = f"does not follow parameter {name}"
    with pytest.raises(ll.InputError, match=message):
        ll.evaluate(target, ll.random_plane(model), resolution=3, progress=False)
    with pytest.raises(ll.InputError, match=message):
        ll.hessian_product(target, model)
    with pytest.raises(ll.InputError, match=message):
        ll.sharpness(target, model, "sam")
    with pytest.raises(ll.InputError, match=message):
        target({key: 2 * value for key, value in ll.parameters_of(model).items()})


def test_a_loss_that_reads_the_callers_network_is_named():
    model, other = make("mlp"), make("mlp", 1)
    copied = copy.deepcopy(model)
    whole = lambda net, b: F.cross_entropy(model(b[0]), b[1], reduction="none")  # noqa: E731
    decay = lambda net, b: F.cross_entropy(net(b[0]), b[1], reduction="none") + model[1].weight.square().sum()  # noqa: E731
    frozen = lambda net, b: F.cross_entropy(copied(b[0]), b[1], reduction="none")  # noqa: E731
    teacher = lambda net, b: (net(b[0]) - other(b[0])).square().mean(1)  # noqa: E731
    plane = ll.random_plane(model)
    for loss, message in (
        (whole, r"does not follow parameter '1\.weight'"),
        (decay, r"does not follow parameter '1\.weight'"),
        (frozen, "reads none of the parameters that are moved"),
    ):
        with pytest.raises(ll.InputError, match=message):
            ll.evaluate(ll.objective(model, (X, Y), loss=loss, device="cpu"), plane, resolution=3, progress=False)
    ll.evaluate(ll.objective(model, (X, Y), loss=teacher, device="cpu"), plane, resolution=3, progress=False)
    last = ll.random_plane(model, ignore=("1.*", "bias"))  # moves nothing that the loss reads elsewhere
    ll.evaluate(ll.objective(model, (X, Y), loss=decay, device="cpu"), last, resolution=3, progress=False)


def test_bound_methods_and_partials_follow_the_copy():
    def forward(self, x):
        return self[3](torch.relu(self[1](self[0](x))))

    expected, plane = None, ll.random_plane(make("mlp"))
    for bind in (types.MethodType, functools.partial):
        model = make("mlp")
        model.forward = bind(forward, model)
        model[5] = nn.Identity()
        model[3] = nn.Linear(16, 3)
        torch.manual_seed(0)
        nn.init.normal_(model[3].weight)
        nn.init.zeros_(model[3].bias)
        plane = ll.random_plane(model)
        loss = ll.evaluate(ll.objective(model, (X, Y), device="cpu"), plane, resolution=3, progress=False).loss
        expected = loss if expected is None else expected
        assert np.ptp(loss) > 0.1
        np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_a_copy_that_shares_parameters_is_refused():
    class Same(nn.Linear):
        def __deepcopy__(self, memo):
            return self

    with pytest.raises(ll.InputError, match=r"shares '1\.weight' with the model itself"):
        ll.objective(nn.Sequential(nn.Flatten(), Same(32, 3)), (X, Y))


def test_unused_parameters_and_experts_that_few_samples_reach_are_no_fault():
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts, self.unused = nn.ModuleList(nn.Linear(4, 3) for _ in range(2)), nn.Linear(2, 2)

        def forward(self, x):
            chosen = (x[:, 0] > 0).long()
            out = x.new_zeros(len(x), 3)
            for number, expert in enumerate(self.experts):
                if (rows := (chosen == number).nonzero().flatten()).numel():
                    out = out.index_copy(0, rows, expert(x[rows]))
            return out

    model, inputs = Routed(), torch.randn(200, 4)
    inputs = inputs[inputs[:, 0].argsort()]  # the second expert comes last
    data = (inputs, torch.randint(0, 3, (200,)))
    target = ll.objective(model, data, device="cpu")
    surface = ll.evaluate(target, ll.random_plane(model, ignore=("bias", "experts.0.*", "unused.*")), resolution=3,
                          progress=False)  # fmt: skip
    assert np.ptp(surface.loss) > 0.01
    with pytest.raises(ll.InputError, match=r"reads none of the parameters that are moved \(unused.weight\)"):
        ll.evaluate(target, ll.random_plane(model, ignore=("bias", "experts.*")), resolution=3, progress=False)


class Constants(nn.Module):
    """Tensors made in forward, and one that is neither parameter nor buffer."""

    def __init__(self):
        super().__init__()
        self.layer, self.out, self.mixed = nn.Linear(32, 4), nn.Linear(4, 3), torch.eye(4) * 1.5

    def forward(self, x):
        state = torch.zeros(len(x), 4) + torch.linspace(0, 1, 4)
        return self.out((torch.tanh(self.layer(x.flatten(1))) + state) @ self.mixed @ torch.full((4, 4), 0.5))


def test_constants_of_a_network_are_in_the_dtype_of_the_objective():
    torch.manual_seed(0)
    model = Constants()
    before, dtype = ll.objective(model, (X, Y), device="cpu")(model), torch.get_default_dtype()
    losses = ll.objective(model, (X, Y), device="cpu", dtype=torch.float64)(model)
    assert losses.dtype == torch.float64 and torch.get_default_dtype() == dtype
    torch.testing.assert_close(losses.float(), before)
    torch.set_default_dtype(torch.float64)
    try:
        again = ll.objective(model, (X, Y), device="cpu", dtype=torch.float64)(model)
        assert torch.equal(ll.objective(model, (X, Y), device="cpu")(model), before)
    finally:
        torch.set_default_dtype(dtype)
    assert torch.equal(again, losses)


def test_lower_precision_inside_a_float64_objective_is_refused_by_place():
    class Lower(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(32, 3)

        def forward(self, x):
            return self.layer(x.flatten(1)).float().double()

    with pytest.raises(ll.InputError, match=r"lower precision inside \(Lower, test_private_network.py line \d+\)"):
        ll.objective(Lower(), (X, Y), device="cpu", dtype=torch.float64)
    ll.objective(Lower(), (X, Y), device="cpu")


WRAPPERS = {
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "data parallel": nn.DataParallel,
    "averaged": AveragedModel,
    "both": lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
    "compiled part": lambda model: nn.Sequential(model[0], torch.compile(model[1:], backend="eager")),
    "scripted": lambda model: torch.jit.script(model),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_networks_give_what_is_inside_gives(wrapper):
    model, other = make("mlp"), make("mlp", 1)
    if wrapper == "compiled part":
        model, other = (nn.Sequential(net[0], net[1:]) for net in (model, other))
        wrapped = nn.Sequential(model[0], torch.compile(model[1], backend="eager"))
    else:
        wrapped = WRAPPERS[wrapper](model)
    wrapped.eval()
    names = [name for name, _ in model.named_parameters()]
    assert list(ll.parameters_of(wrapped)) == names
    for _ in range(2):
        target, plane = ll.objective(wrapped, (X, Y), device="cpu"), ll.random_plane(wrapped)
        expected = ll.random_plane(model)
        for own, direction in zip(plane.directions, expected.directions, strict=True):
            assert list(own) == names and all(torch.equal(own[name], direction[name]) for name in names)
        options = {"resolution": 3, "progress": False}
        surface = ll.evaluate(ll.objective(model, (X, Y), device="cpu"), expected, **options)
        np.testing.assert_allclose(ll.evaluate(target, plane, **options).loss, surface.loss, rtol=1e-5)
        np.testing.assert_allclose(
            ll.top_eigenpairs(target, wrapped, k=1, progress=False).values,
            ll.top_eigenpairs(ll.objective(model, (X, Y), device="cpu"), model, k=1, progress=False).values,
            rtol=1e-4,
        )
        line = ll.interpolation_line(other, wrapped)
        found = ll.evaluate(target, line, alpha_range=(0, 1), **options).loss
        expected = ll.interpolation_line(other, model)
        plain_target = ll.objective(model, (X, Y), device="cpu")
        np.testing.assert_allclose(found, ll.evaluate(plain_target, expected, alpha_range=(0, 1), **options).loss, 1e-5)
        wrapped(X)  # which compiles it, so that the second round is that of a network in use


def test_points_of_a_wrapped_network_are_found_under_both_names():
    plane = ll.random_plane(nn.DataParallel(make("mlp")))
    assert plane.directions[0]["module.1.weight"] is plane.directions[0]["1.weight"]
    with pytest.raises(KeyError):
        plane.directions[0]["module.9.weight"]


def quantised():
    return torch.ao.quantization.quantize_dynamic(make("mlp"), {nn.Linear}, dtype=torch.qint8)


def sparse():
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
    model[1].weight = nn.Parameter(model[1].weight.detach().to_sparse())
    return model


def complex_weights():
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
    model[1].phase = nn.Parameter(torch.zeros(2, dtype=torch.cfloat))
    return model


ODD = {
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "has no shape yet"),
    "meta": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(32, 3, device="meta")),
        "has no values; load the model's weights",
    ),
    "quantised": (quantised, "no parameters that could be moved"),
    "frozen script": (lambda: torch.jit.freeze(torch.jit.script(make("mlp"))), "no parameters that could be moved"),
    "sparse": (sparse, "sparse or nested"),
    "complex": (complex_weights, "is complex"),
}


@pytest.mark.parametrize("kind", ODD)
def test_networks_without_dense_values_are_refused_in_one_line(kind):
    make_model, message = ODD[kind]
    with pytest.raises(ll.InputError, match=message) as caught:
        ll.objective(make_model(), (X, Y))
    assert "\n" not in str(caught.value)


def test_whole_numbers_and_empty_parameters_stay_what_they_are():
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
    model.order = nn.Parameter(torch.arange(4), requires_grad=False)
    model.empty = nn.Parameter(torch.zeros(0, 3))
    target, point = ll.objective(model, (X, Y), device="cpu"), ll.parameters_of(model)
    expected = F.cross_entropy(model(X), Y, reduction="none").detach()
    torch.testing.assert_close(target(point), expected)
    torch.testing.assert_close(target({**point, "order": point["order"].double()}), expected)
    assert ll.sharpness(target, model, "sam").value > 0
    with pytest.raises(ll.InputError, match="'order' holds whole numbers"):
        target({**point, "order": point["order"] + 0.5})


def test_complex_points_have_the_length_of_both_parts():
    point = {"w": torch.tensor([3 + 4j, 1j]), "b": torch.tensor([2.0])}
    assert ll.norm(point) == pytest.approx(30**0.5) and inner(point, point) == pytest.approx(30)


def test_watching_leaves_the_network_as_it_was():
    model, given = make("mlp"), make("mlp")
    before = {name: (parameter, parameter.data_ptr()) for name, parameter in model.named_parameters()}
    found = find_out(model, given, lambda: model(X), torch.float32)
    assert found.touched == set(before) and not found.elsewhere and not found.written
    assert not found.draws and not found.constants and found.lowered is None
    for name, parameter in model.named_parameters():
        assert before[name] == (parameter, parameter.data_ptr())
    assert find_out(model, given, lambda: torch.rand(1) + model(X).sum(), torch.float32).draws
    assert find_out(model, given, lambda: 1 / 0, torch.float32).touched is None


def test_an_objective_does_not_load_the_compiler_of_torch():
    code = (
        "import sys, torch, landscape_lib as ll; "
        "ll.objective(torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])), device='cpu'); "
        "assert 'torch._dynamo.convert_frame' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Keeping(nn.Module):
    """Keeps what it computed, history and all, where users do."""

    def __init__(self, keep):
        super().__init__()
        self.layer, self.out, self.keep = nn.Linear(32, 6), nn.Linear(6, 3), keep
        self.kept, self.others = [], types.SimpleNamespace()
        self.register_buffer("last", torch.zeros(()), persistent=False)

    def forward(self, x):
        hidden = torch.tanh(self.layer(x.flatten(1)))
        self.keep(self, hidden)
        return self.out(hidden)


KEEPS = {
    "list": lambda self, hidden: self.kept.append(hidden),
    "deque": lambda self, hidden: setattr(self, "kept", collections.deque([hidden])),
    "mapping": lambda self, hidden: setattr(self, "kept", {"maps": (hidden, [hidden])}),
    "object": lambda self, hidden: setattr(self.others, "hidden", hidden),
    "buffer": lambda self, hidden: setattr(self, "last", hidden.sum()),
}


@pytest.mark.parametrize("where", KEEPS)
def test_networks_that_keep_what_they_computed(where):
    torch.manual_seed(0)
    model = Keeping(KEEPS[where])
    model(X)
    plane = ll.random_plane(model, seed=1)
    surface = ll.evaluate(ll.objective(model, (X, Y)), plane, resolution=2, progress=False)
    expected = [[loss_of(plane(a, b)) for b in surface.betas] for a in surface.alphas]
    np.testing.assert_allclose(surface.loss, expected, rtol=1e-6)


def loss_of(point):
    """Of `Keeping` in float64, written out."""
    values = {name: value.double() for name, value in point.items()}
    hidden = torch.tanh(F.linear(X.flatten(1).double(), values["layer.weight"], values["layer.bias"]))
    return F.cross_entropy(F.linear(hidden, values["out.weight"], values["out.bias"]), Y).item()


class Pairs(nn.Module):
    """Weights that are viewed as complex numbers, behind an odd number of others and whole ones in front."""

    def __init__(self):
        super().__init__()
        self.steps = nn.Parameter(torch.randint(-90, 90, (6, 32), dtype=torch.int8), requires_grad=False)
        self.scale, self.bias = nn.Parameter(torch.rand(6, 1) / 90), nn.Parameter(torch.randn(3))
        self.pairs = nn.Parameter(torch.randn(6, 3, 2))
        self.last = nn.Parameter(torch.randn(3))

    def forward(self, x):
        hidden = torch.tanh(F.linear(x.flatten(1), self.steps * self.scale))
        turned = torch.complex(hidden, hidden.square()) @ torch.view_as_complex(self.pairs)
        return turned.abs() * self.last + self.bias


def pairs_loss(model, values):
    """The loss of `Pairs` in float64, complex numbers written out."""
    steps, scale, bias, pairs, last = (value.double() for value in values)
    hidden = torch.tanh(X.flatten(1).double() @ (steps * scale).T)
    real = hidden @ pairs[..., 0] - hidden.square() @ pairs[..., 1]
    imaginary = hidden @ pairs[..., 1] + hidden.square() @ pairs[..., 0]
    return F.cross_entropy((real.square() + imaginary.square()).sqrt() * last + bias, Y)


def test_weights_viewed_as_complex_and_whole_ones_in_front():
    torch.manual_seed(0)
    model = Pairs()
    objective = ll.objective(model, (X, Y), dtype=torch.float64)
    plane = ll.random_plane(model, seed=1, ignore=())
    surface = ll.evaluate(objective, plane, resolution=3, alpha_range=(-0.1, 0.1), beta_range=(-0.1, 0.1))
    expected = [[pairs_loss(model, plane(a, b).values()).item() for b in surface.betas] for a in surface.alphas]
    np.testing.assert_allclose(surface.loss, expected, rtol=1e-6)  # points are in float32
    product = ll.hessian_product(objective, model)
    steps, *others = (parameter.detach().double() for parameter in model.parameters())
    dense = torch.autograd.functional.hessian(lambda *values: pairs_loss(model, (steps, *values)), tuple(others))
    sizes = [value.numel() for value in others]
    rows = [
        torch.cat([part.reshape(m, n) for part, n in zip(row, sizes, strict=True)], 1)
        for row, m in zip(dense, sizes, strict=True)
    ]
    vector = np.random.default_rng(0).standard_normal(product.dimension)
    np.testing.assert_allclose(product.matvec(vector), torch.cat(rows).numpy() @ vector, rtol=1e-9, atol=1e-12)


class Adapted(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 3)

    def forward(self, x):
        return self.layer(x.flatten(1))


def adapted_loss(model, batch):
    """After one step of gradient descent on the sample itself."""
    weight, bias = model.layer.weight, model.layer.bias
    losses = []
    for inputs, target in zip(*batch, strict=True):
        first = F.cross_entropy(F.linear(inputs.flatten(), weight, bias), target)
        slopes = torch.autograd.grad(first, (weight, bias), create_graph=True)
        stepped = (value - 0.1 * slope for value, slope in zip((weight, bias), slopes, strict=True))
        losses.append(F.cross_entropy(F.linear(inputs.flatten(), *stepped), target))
    return torch.stack(losses)


def test_a_line_between_networks_whose_loss_differentiates_by_their_parameters():
    torch.manual_seed(0)
    first, second = Adapted(), Adapted()
    line = ll.interpolation_line(first, second)
    surface = ll.evaluate(ll.objective(first, (X, Y), loss=adapted_loss), line, alpha_range=(0, 1), resolution=3)
    expected = []
    for t in surface.alphas:
        model = copy.deepcopy(first).double()
        for parameter, value in zip(model.parameters(), line(t).values(), strict=True):
            parameter.data = value.double()
        expected.append(adapted_loss(model, (X.double(), Y)).mean().item())
    np.testing.assert_allclose(surface.loss, expected, rtol=1e-6)


def test_a_state_that_is_kept_is_not_taken_for_dropout():
    class Counting(Adapted):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) * self.calls

    with pytest.raises(ll.InputError, match="kept from one pass to the next"):
        ll.objective(Counting(), (X, Y))
    with pytest.raises(ll.InputError, match="turn off dropout"):
        ll.objective(nn.Sequential(nn.Flatten(), AlwaysDropping(), nn.Linear(32, 3)), (X, Y))


class AlwaysDropping(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, training=True)


WRAPPED = {
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "part compiled": lambda model: nn.Sequential(model[0], torch.compile(model[1], backend="eager")),
    "parallel": nn.DataParallel,
    "averaged": AveragedModel,
    "both": lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_points_under_the_names_that_wrappers_give(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
    expected = F.cross_entropy(model(X), Y, reduction="none").detach().numpy()
    wrapped = WRAPPED[kind](model)
    objective, given = ll.objective(wrapped, (X, Y)), dict(wrapped.named_parameters())
    np.testing.assert_allclose(objective(given).numpy(), expected, rtol=1e-5)
    ones = np.ones(99)
    found = ll.hessian_product(objective, given).matvec(ones)
    np.testing.assert_allclose(found, ll.hessian_product(objective, model).matvec(ones), rtol=1e-6, atol=1e-9)
    found, direction = ll.parameters_of(wrapped), ll.random_plane(wrapped).directions[0]
    assert all(
        torch.equal(found[name], value) and direction[name].shape == value.shape for name, value in given.items()
    )


@pytest.mark.parametrize("where", ["list", "mapping"])
def test_a_weight_that_was_computed_before_does_not_follow(where):
    class Cached(Adapted):
        def __init__(self):
            super().__init__()
            self.list, self.mapping = [], {}

        def forward(self, x):
            if not self.list:
                self.list.append(self.layer.weight * 2 if where == "list" else None)
                self.mapping["weight"] = (self.layer.weight * 2,) if where == "mapping" else None
            weight = self.list[0] if where == "list" else self.mapping["weight"][0]
            return F.linear(x.flatten(1), weight, self.layer.bias)

    torch.manual_seed(0)
    model = Cached()
    model(X)
    with pytest.raises(ll.InputError, match=r"does not follow parameter 'layer\.weight'"):
        ll.evaluate(ll.objective(model, (X, Y)), ll.random_plane(model), resolution=3, progress=False)


def test_constants_in_lower_precision_do_not_lower_a_float64_objective():
    class Made(Adapted):
        def forward(self, x):
            zeros = torch.zeros_like(x[:, :1, 0, 0], dtype=torch.float32)
            return super().forward(x) + zeros + x.new_full((1,), 0.5, dtype=torch.float32)

    torch.manual_seed(0)
    model = Made()
    losses = ll.objective(model, (X, Y), dtype=torch.float64)(ll.parameters_of(model))
    expected = F.cross_entropy(copy.deepcopy(model).double()(X.double()), Y, reduction="none")
    np.testing.assert_allclose(losses.numpy(), expected.detach().numpy(), rtol=1e-12)
