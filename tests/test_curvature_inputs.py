"""Curvature and sharpness of unusual networks and losses beside dense autograd, and wrong input in one line."""

import copy
import math

import numpy as np
import pytest
import torch
from networks import images, make
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import landscape_lib as ll


def float64(model, data, **options):
    return ll.objective(model, data, dtype=torch.float64, device="cpu", **options)


def dense(model, loss):
    """Hessian [D, D] of ``loss(network)``, a scalar, by automatic differentiation in float64."""
    model = copy.deepcopy(model).double().eval()
    shapes = {name: p.shape for name, p in model.named_parameters()}
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])

    def value(vector):
        pieces = vector.split([shape.numel() for shape in shapes.values()])
        point = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
        return loss(lambda *inputs: torch.func.functional_call(model, point, inputs))

    with sdpa_kernel(SDPBackend.MATH):
        return torch.autograd.functional.hessian(value, theta).numpy()


def assert_same(product, matrix):
    vector = np.random.default_rng(0).standard_normal(product.dimension)
    expected = matrix @ vector
    np.testing.assert_allclose(product.matvec(vector), expected, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["jvp", "hessian"])
def test_losses_that_differentiate_by_torch_func(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    rows, along = torch.randn(7, 2), torch.randn(7, 2)

    def loss(network, batch):
        if kind == "jvp":
            return torch.func.jvp(network, (batch[0],), (batch[1],))[1][:, 0].square()
        second = torch.func.hessian(lambda row: network(row)[0])
        return torch.func.vmap(second)(batch[0]).diagonal(dim1=1, dim2=2).sum(1).square()

    product = ll.hessian_product(float64(model, (rows, along), loss=loss), model)
    assert_same(product, dense(model, lambda network: loss(network, (rows.double(), along.double())).mean()))


class Bag(nn.Module):
    def __init__(self, sparse):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.Embedding(9, 4, sparse=sparse), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.embed(x)).mean(1))


def test_sparse_gradients_of_embeddings_are_those_of_dense_ones():
    words, targets = torch.randint(0, 9, (13, 5), generator=torch.Generator().manual_seed(0)), images()[1]
    sparse, plain = (Bag(kind) for kind in (True, False))
    values = [
        ll.sharpness(float64(model, (words, targets)), model, measure, samples=2, steps=3).value
        for model in (sparse, plain)
        for measure in ("sam", "ascent", "adaptive-sam")
    ]
    assert values[:3] == pytest.approx(values[3:], rel=1e-12)
    matrix = dense(plain, lambda net: F.cross_entropy(net(words), targets))
    assert_same(ll.hessian_product(float64(plain, (words, targets)), plain), matrix)
    differences = ll.hessian_product(float64(sparse, (words, targets)), sparse, differences=True)
    vector = np.random.default_rng(0).standard_normal(len(matrix))
    np.testing.assert_allclose(differences.matvec(vector), matrix @ vector, atol=1e-7)
    product = ll.hessian_product(float64(sparse, (words, targets)), sparse)
    assert_same(product, matrix)


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x):
        q, k, v = self.qkv(x.flatten(1).unflatten(1, (8, 4))).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v).mean(1))


class Shared(nn.Module):
    """One convolution and one pooling, each used twice, and called with keywords."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.out = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(32, 3)
        self.again = self.conv

    def forward(self, x):
        return self.out(input=self.again(input=torch.tanh(self.conv(input=x))).flatten(1))


@pytest.mark.parametrize("network", [Attends, Shared])
def test_hessian_and_gauss_newton_products_of_attention_and_of_shared_keyword_calls(network):
    model, (inputs, targets) = network(), images()
    target = float64(model, (inputs, targets))
    matrix = dense(model, lambda net: F.cross_entropy(net(inputs.double()), targets))
    assert_same(ll.hessian_product(target, model), matrix)
    pairs = ll.top_eigenpairs(target, model, k=1, operator="ggn", progress=False)
    assert pairs.values[0] > 0 and pairs.converged.all()


def physics(net, batch):
    """(u' + u)^2 and u(0) = 1, with a derivative by the input inside."""
    x = batch[0].requires_grad_(True)
    u = net(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return (slope + u).square()[:, 0] + (net(torch.zeros_like(x)) - 1).square()[:, 0]


def test_losses_that_differentiate_inside_have_a_hessian_and_no_gauss_newton_matrix():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)), torch.linspace(0, 1, 13)[:, None]
    target = float64(model, (x, x), loss=physics)
    matrix = dense(model, lambda net: physics(net, [x.double().clone()]).mean())
    assert_same(ll.hessian_product(target, model), matrix)
    spectrum = np.linalg.eigvalsh(matrix)
    pairs = ll.top_eigenpairs(target, model, k=2, progress=False)
    np.testing.assert_allclose(pairs.values, sorted(spectrum, key=abs)[:-3:-1], rtol=1e-6)
    found = ll.trace(target, model, method="hutchinson", progress=False)
    assert abs(found.value - spectrum.sum()) < 4 * found.standard_error
    assert ll.sharpness(target, model, "ascent", samples=1, steps=3).value > 0
    with pytest.raises(ll.InputError, match="use the Hessian"):
        ll.ggn_product(target, model)


@pytest.mark.parametrize("wrap", [lambda z: (z, z + 1), lambda z: (z, z, 3), lambda z: {"logits": z}])
def test_networks_of_several_outputs_have_a_hessian_and_gauss_newton_takes_one_tensor(wrap):
    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make("mlp")

        def forward(self, x):
            return wrap(self.net(x))

    def loss(net, batch):
        outputs = net(batch[0])
        return F.cross_entropy(outputs[0] if isinstance(outputs, tuple) else outputs["logits"], batch[1])

    model, (inputs, targets) = Several(), images()
    target = float64(model, (inputs, targets), loss=loss)
    plain = ll.hessian_product(float64(model.net, (inputs, targets)), model.net)
    vector = np.random.default_rng(0).standard_normal(plain.dimension)
    np.testing.assert_allclose(ll.hessian_product(target, model).matvec(vector), plain.matvec(vector), atol=1e-12)
    if wrap(1) == (1, 2):
        with pytest.raises(ll.InputError, match="the GGN needs a network that returns one tensor, not a tuple of 2"):
            ll.ggn_product(target, model)
        return
    plain = ll.ggn_product(float64(model.net, (inputs, targets)), model.net)
    np.testing.assert_allclose(ll.ggn_product(target, model).matvec(vector), plain.matvec(vector), atol=1e-12)


def test_weighted_and_coupled_losses_keep_their_partition():
    """A class-weighted mean over data sorted by class, and a contrastive loss of the whole batch."""
    model, (inputs, targets) = make("mlp"), images(31)
    order = targets.argsort()
    inputs, targets, weights = inputs[order], targets[order], torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)

    def weighted(net, batch):
        losses = F.cross_entropy(net(batch[0]), batch[1], reduction="none")
        return ll.Weighted(losses, weights.to(losses)[batch[1]])

    def contrastive(net, batch):
        z = F.normalize(net(batch[0]), dim=1)
        similar = (z @ z.T / 0.5) - 1e3 * torch.eye(len(z), dtype=z.dtype)
        same = (batch[1][:, None] == batch[1]) & ~torch.eye(len(z), dtype=torch.bool)
        return -(similar.log_softmax(1) * same).sum(1) / same.sum(1)

    double = inputs.double()
    cases = (
        (weighted, {}, lambda net: F.cross_entropy(net(double), targets, weights)),
        (contrastive, {"whole_batch": True}, lambda net: contrastive(net, (double, targets)).mean()),
    )
    for loss, options, value in cases:
        target, matrix = float64(model, (inputs, targets), loss=loss, batch_size=4, **options), dense(model, value)
        assert_same(ll.hessian_product(target, model), matrix)
        pairs = ll.top_eigenpairs(target, model, k=1, tol=1e-6, progress=False)
        assert pairs.values[0] == pytest.approx(max(np.linalg.eigvalsh(matrix), key=abs), rel=1e-8)
        reference = copy.deepcopy(model).double()
        loss_value = value(reference)
        gradient = torch.autograd.grad(loss_value, list(reference.parameters()))
        length = torch.cat([g.flatten() for g in gradient]).norm()
        with torch.no_grad():
            for parameter, slope in zip(reference.parameters(), gradient, strict=True):
                parameter += 0.05 * slope / length
        found = ll.sharpness(target, model, "sam", radius=0.05)
        assert found.loss == pytest.approx(loss_value.item(), rel=1e-10)
        assert found.value == pytest.approx(value(reference).item() - loss_value.item(), rel=1e-7)


def test_the_callers_autocast_changes_no_number():
    model, data = make("cnn"), images()
    target = ll.objective(model, data, device="cpu")

    def measure():
        return [
            *(ll.sharpness(target, model, name, samples=2, steps=2).value for name in ("sam", "gaussian", "keskar")),
            ll.top_eigenpairs(target, model, k=1, progress=False).values[0],
            ll.layer_sharpness(target, model, samples=2)[0].value,
        ]

    expected = measure()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = measure()
    assert found == pytest.approx(expected, rel=1e-6) and expected[0] > 1e-3


def test_complex_parameters_are_refused_and_integer_ones_stay():
    class Special(nn.Module):
        def __init__(self, values):
            super().__init__()
            self.net, self.special = make("mlp"), nn.Parameter(values, requires_grad=False)

        def forward(self, x):
            return self.net(x) * self.special.real.sum()

    data = images()
    with pytest.raises(ll.InputError, match=r"parameter 'special' is complex; make it a real one"):
        ll.objective(Special(torch.ones(2, dtype=torch.cfloat)), data)
    model, same = Special(torch.tensor([1, 0])), Special(torch.tensor([1.0]))
    target = float64(model, data)
    product = ll.hessian_product(target, model)
    assert "special" not in product.names
    plain = ll.hessian_product(float64(same.net, data), same.net)
    vector = np.random.default_rng(0).standard_normal(plain.dimension)
    np.testing.assert_allclose(product.matvec(vector), plain.matvec(vector), atol=1e-12)
    for measure in ("sam", "adaptive-ascent", "gaussian"):
        found = ll.sharpness(target, model, measure, samples=2, steps=2)
        assert math.isfinite(found.value) and found.value != 0
    assert len(ll.layer_sharpness(target, model, samples=2)) == 4
    with pytest.raises(ll.InputError, match="'special' matches no parameter"):
        ll.hessian_product(target, model, parameters=("special",))


def test_empty_parameters_and_names_with_brackets():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make("mlp")
            self.register_parameter("empty", nn.Parameter(torch.zeros(0, 2)))
            self.net.register_parameter("head[0]", nn.Parameter(torch.ones(1)))

        def forward(self, x):
            return self.net(x) * self.net.get_parameter("head[0]")

    model, data = Named(), images()
    target = float64(model, data)
    assert ll.hessian_product(target, model, parameters=("net.head[0]",)).dimension == 1
    assert [result.layer for result in ll.layer_sharpness(target, model, samples=2)] == [
        "net",
        "net.1",
        "net.3",
        "net.5",
    ]
    assert math.isfinite(ll.sharpness(target, model, "keskar", samples=1, steps=2).value)
    with pytest.raises(ll.InputError, match="matches only parameters without entries"):
        ll.hessian_product(target, model, parameters=("empty",))


def test_keskar_needs_a_loss_above_minus_one():
    model, (inputs, targets) = make("mlp"), images()
    for shift, works in ((-0.5, True), (-5.0, False)):
        loss = lambda net, batch, shift=shift: (  # noqa: E731
            F.cross_entropy(net(batch[0]), batch[1], reduction="none") + shift
        )
        target = float64(model, (inputs, targets), loss=loss)
        if works:
            found = ll.sharpness(target, model, "keskar", samples=1, steps=3)
            assert found.value == pytest.approx(100 * (max(found.losses) - found.loss) / (1 + found.loss))
        else:
            with pytest.raises(ll.InputError, match=r"keskar divides by 1 \+ L, but the loss L is -3"):
                ll.sharpness(target, model, "keskar")
        assert ll.sharpness(target, model, "sam").value > 0


def test_the_constant_of_adaptive_measures_is_added_and_named():
    model, (inputs, targets) = make("mlp").double(), images()
    target = float64(model, (inputs, targets))
    model.requires_grad_(True)
    loss = F.cross_entropy(model(inputs.double()), targets)
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    for eta in (0.0, 0.3):
        moved = copy.deepcopy(model)
        scaled = [(p.detach().abs() + eta) * g for p, g in zip(model.parameters(), gradient, strict=True)]
        length = torch.cat([s.flatten() for s in scaled]).norm()
        with torch.no_grad():
            for parameter, piece in zip(moved.parameters(), scaled, strict=True):
                parameter += 0.5 * (parameter.abs() + eta) * piece / length
        expected = F.cross_entropy(moved(inputs.double()), targets).item() - loss.item()
        found = ll.sharpness(target, model, "adaptive-sam", eta=eta)
        assert found.value == pytest.approx(expected, rel=1e-9) and found.definition.endswith(f"eta = {eta:g}")
    with pytest.raises(
        ll.InputError, match="sam has no eta; only adaptive-sam, adaptive-ascent, adaptive-gaussian have one"
    ):
        ll.sharpness(target, model, "sam", eta=0.01)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda t, m: ll.hessian_product(m, m), "takes an objective, made by .*, not Sequential"),
        (lambda t, m: ll.trace((1, 2), m), "an objective is needed, not tuple"),
        (lambda t, m: ll.sharpness(m, m, "sam"), "takes an objective, made by .*, not Sequential"),
        (lambda t, m: ll.layer_sharpness(m, m), "takes an objective, made by .*, not Sequential"),
        (lambda t, m: ll.top_eigenpairs(t, m, k=0), "k is 0; it must be a whole number from 1"),
        (lambda t, m: ll.top_eigenpairs(t, m, k=1.5), "k is 1.5"),
        (lambda t, m: ll.top_eigenpairs(t, m, k=9999), "k=9999 eigenpairs of a matrix of dimension 691"),
        (lambda t, m: ll.top_eigenpairs(t, m, tol=math.nan), "tol is nan"),
        (lambda t, m: ll.top_eigenpairs(t, m, seed=-1), "seed is -1"),
        (lambda t, m: ll.trace(t, m, seed=2**70), "seed is 1180591620717411303424"),
        (lambda t, m: ll.trace(t, m, relative_error=math.nan), "relative_error is nan"),
        (lambda t, m: ll.spectral_density(t, m, steps=0), "steps is 0"),
        (lambda t, m: ll.spectral_density(t, m, probes="5"), "probes is 5"),
        (lambda t, m: ll.sharpness(t, m, "sam", radius=math.nan), "radius is nan"),
        (lambda t, m: ll.sharpness(t, m, "gaussian", samples=2.5), "samples is 2.5"),
        (lambda t, m: ll.sharpness(t, m, "gaussian", seed=2**64), "seed is 18446744073709551616"),
        (lambda t, m: ll.layer_sharpness(t, m, radius=-1), "radius is -1"),
        (lambda t, m: ll.sharpness(t, m, "adaptive-sam", eta=-1), "eta is -1"),
        (lambda t, m: ll.hessian_product(t, m).matvec(np.full(691, np.nan)), "the vector is not"),
        (lambda t, m: ll.hessian_product(t, m).matvec(np.ones((691, 2))), "the shape"),
        (lambda t, m: ll.hessian_product(t, m).matvec(np.ones(691, complex)), "holds complex128"),
        (lambda t, m: ll.hessian_product(t, m).matvec(np.full(691, "a")), "must hold real numbers"),
        (lambda t, m: ll.hessian_product(t, make("cnn")), "does not belong to this network"),
        (lambda t, m: ll.hessian_product(t, m, parameters=("1.weight[",)), r"'1.weight\[' matches no parameter"),
        (lambda t, m: ll.hessian_product(t, m, parameters=(1,)), "patterns of names, not int"),
    ],
)
def test_wrong_input_ends_in_one_line(work, message):
    model = make("mlp")
    target = ll.objective(model, images(), device="cpu")
    with pytest.raises(ll.InputError, match=message) as refused:
        work(target, model)
    assert "\n" not in str(refused.value)
