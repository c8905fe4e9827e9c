"""Second derivatives: products, eigenpairs, traces and densities beside closed forms, dense autograd, curvlinops."""

import copy
import math
import warnings

import curvlinops
import numpy as np
import pytest
import torch
from networks import NETWORKS, images, make
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations

import landscape_lib as ll
from landscape.curvature import shares
from landscape.curvature.density import lanczos

SAMPLES = 13  # no multiple of the batches below


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Batches of four samples, so that the last one is short."""
    monkeypatch.setattr(shares, "BATCHES", (4, 4))


def float64(model, data=None, **options):
    return ll.objective(model, data or images(SAMPLES), dtype=torch.float64, device="cpu", **options)


def outputs_at(model, inputs):
    """(theta [D] -> outputs, theta) of the network in float64, by functional_call."""
    model = copy.deepcopy(model).double().eval()
    shapes = {name: p.shape for name, p in model.named_parameters()}
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])

    def outputs(vector):
        pieces = vector.split([shape.numel() for shape in shapes.values()])
        point = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
        return torch.func.functional_call(model, point, (inputs.double(),))

    return outputs, theta


def dense_hessian(model, inputs, targets):
    """[D, D] by automatic differentiation of the mean loss of one batch of all samples."""
    outputs, theta = outputs_at(model, inputs)
    with sdpa_kernel(SDPBackend.MATH):
        return torch.autograd.functional.hessian(lambda v: F.cross_entropy(outputs(v), targets), theta).numpy()


def dense_ggn(model, inputs):
    """1/N sum_n J_n^T (diag p - p p^T) J_n, the curvature of softmax cross-entropy written out."""
    outputs, theta = outputs_at(model, inputs)
    with sdpa_kernel(SDPBackend.MATH):
        jacobian = torch.autograd.functional.jacobian(outputs, theta)
    p = outputs(theta).softmax(1)
    curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    return (jacobian.mT @ curvature @ jacobian).mean(0).numpy()


def matrix_of(product):
    return np.stack([product.matvec(unit) for unit in np.eye(product.dimension)])


def softmax_regression(samples=40, features=5, classes=4):
    """A linear network with zero weights and its data: H = S (x) (I - 11^T/K) / K, S the second moments of inputs."""
    inputs = torch.randn(samples, features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = nn.Linear(features, classes, bias=False)
    nn.init.zeros_(model.weight)
    moments = np.linalg.eigvalsh((inputs.T @ inputs / samples).numpy())[::-1]
    return model, (inputs, torch.arange(samples) % classes), moments


class Quadratic(nn.Module):
    """1/2 theta^T A theta, as a network whose output is its loss."""

    def __init__(self, matrix):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(len(matrix), dtype=torch.float64))
        self.register_buffer("matrix", torch.as_tensor(matrix))

    def forward(self, inputs):
        return (self.theta @ self.matrix @ self.theta / 2).expand(len(inputs))


def quadratic(spectrum, seed=0):
    """An objective whose Hessian has the eigenvalues ``spectrum``."""
    turned = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(spectrum), len(spectrum))))[0]
    model = Quadratic(turned @ np.diag(spectrum) @ turned.T)
    data = (torch.zeros(5, 1), torch.zeros(5))
    return model, float64(model, data, loss=lambda network, batch: network(batch[0])), turned


@pytest.mark.parametrize("name", NETWORKS)
def test_products_equal_the_dense_matrices(name):
    model, (inputs, targets) = make(name), images(SAMPLES)
    vector = np.random.default_rng(0).standard_normal(sum(p.numel() for p in model.parameters()))
    for make_product, dense in (
        (ll.hessian_product, dense_hessian(model, inputs, targets)),
        (ll.ggn_product, dense_ggn(model, inputs)),
    ):
        product = make_product(float64(model), model)
        expected = dense @ vector
        for _ in range(2):  # the second one from kept graphs
            # Sums over D terms of the rounding 1e-16, far below any missing or doubled sample (1 / 13).
            np.testing.assert_allclose(product.matvec(vector), expected, atol=1e-12 * np.abs(expected).max())
        assert product.count == 2 and product.dimension == len(vector)


class WeightNormalized(nn.Module):
    """weight_norm of two layers, written out."""

    def __init__(self, model):
        super().__init__()
        self.parts = nn.ParameterList(parameter.detach().clone() for parameter in model.parameters())

    def forward(self, inputs):
        bias, g, v, weight, outer = self.parts
        hidden = torch.relu(inputs.flatten(1) @ (v * g / v.pow(2).sum(1, keepdim=True).sqrt()).T + bias)
        return hidden @ weight.T + outer


def weight_normalized(weight_norm):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(32, 4)), nn.ReLU(), nn.Linear(4, 3))


WEIGHT_NORMS = {"parametrization": parametrizations.weight_norm, "hook": torch.nn.utils.weight_norm}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("kind", WEIGHT_NORMS)
def test_weight_norm_is_differentiated_twice(kind):
    model, (inputs, targets) = weight_normalized(WEIGHT_NORMS[kind]), images(SAMPLES)
    product = ll.hessian_product(float64(model), model)
    dense = dense_hessian(WeightNormalized(model), inputs, targets)
    np.testing.assert_allclose(matrix_of(product), dense, atol=1e-12 * np.abs(dense).max())


class OwnWeightNorm(nn.Linear):
    """torch takes the norm for a constant when it differentiates this kernel for the second time."""

    def forward(self, inputs):
        return torch.nn.functional.linear(inputs, torch._weight_norm(self.weight, self.bias[:, None], 0))


def test_wrong_second_derivatives_are_noticed():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), OwnWeightNorm(32, 4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.warns(UserWarning, match="NOT SYMMETRIC"):
        ll.hessian_product(float64(model), model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ll.hessian_product(float64(model), model, differences=True)
        ll.ggn_product(float64(model), model)


def test_products_agree_with_curvlinops():
    model, data = make("mlp"), images(SAMPLES)
    vector = np.random.default_rng(1).standard_normal(sum(p.numel() for p in model.parameters()))
    network = copy.deepcopy(model).double()
    batches = [(data[0][:7].double(), data[1][:7]), (data[0][7:].double(), data[1][7:])]
    for make_product, operator in (
        (ll.hessian_product, curvlinops.HessianLinearOperator),
        (ll.ggn_product, curvlinops.GGNLinearOperator),
    ):
        peer = operator(network, nn.CrossEntropyLoss(), list(network.parameters()), batches, progressbar=False)
        expected = (peer @ torch.from_numpy(vector)).detach().numpy()
        found = make_product(float64(model), model).matvec(vector)
        np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("policy", ["batch", "running", "recalibrate"])
def test_products_follow_the_batch_norm_policy(policy):
    """Under "batch" the statistics are functions of the weights of batches of five, otherwise constants."""
    model, (inputs, targets) = make("batch_norm_cnn"), images(SAMPLES)
    settled = copy.deepcopy(model).double()
    layers = [layer for layer in settled if isinstance(layer, nn.BatchNorm2d)]
    if policy == "recalibrate":  # one layer after the other, as the input of the second depends on the first
        for layer in layers:
            handle = layer.register_forward_pre_hook(set_statistics)
            with torch.no_grad():
                settled(inputs.double())
            handle.remove()
    parts = [slice(0, 5), slice(5, 10), slice(10, 13)] if policy == "batch" else [slice(None)]
    if policy == "batch":
        for layer in layers:
            layer.running_mean = layer.running_var = None
    dense = sum(
        dense_hessian(settled, inputs[part], targets[part]) * len(targets[part]) for part in parts
    ) / SAMPLES  # fmt: skip
    product = ll.hessian_product(float64(model, batch_norm=policy, batch_size=5), model)
    np.testing.assert_allclose(matrix_of(product), dense, atol=1e-11 * np.abs(dense).max())


def set_statistics(layer, arguments):
    (inputs,) = arguments
    layer.running_mean = inputs.mean((0, 2, 3))
    layer.running_var = inputs.var((0, 2, 3), unbiased=False)


def test_convolutions_of_every_kind_have_the_second_derivatives_of_torch():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False),
        nn.Tanh(),
        nn.Conv2d(4, 4, 2, padding=1, dilation=2, groups=2),
        nn.Tanh(),
        nn.Conv2d(4, 2, 2, padding="same", padding_mode="reflect"),
        nn.Flatten(2),
        nn.Conv1d(2, 3, 2),
        nn.Flatten(),
        nn.LazyLinear(3),
    )
    inputs, targets = images(5)
    model(inputs)
    for make_product, dense in (
        (ll.hessian_product, dense_hessian(model, inputs, targets)),
        (ll.ggn_product, dense_ggn(model, inputs)),
    ):
        found = matrix_of(make_product(float64(model, (inputs, targets)), model))
        np.testing.assert_allclose(found, dense, atol=1e-12 * np.abs(dense).max())


def test_parameters_pick_a_diagonal_block():
    model, (inputs, targets) = make("residual"), images(SAMPLES)
    dense, names = dense_hessian(model, inputs, targets), [name for name, _ in model.named_parameters()]
    sizes = [p.numel() for p in model.parameters()]
    ends = dict(zip(names, np.cumsum(sizes), strict=True))
    own = [name for name in names if name.startswith("conv.") or name == "head.bias"]
    rows = np.concatenate([np.arange(ends[n] - sizes[names.index(n)], ends[n]) for n in own])
    product = ll.hessian_product(float64(model), model, parameters=("head.bias", "conv.*"))
    assert product.names == own
    block = dense[np.ix_(rows, rows)]
    np.testing.assert_allclose(matrix_of(product), block, atol=1e-12)
    pairs = ll.top_eigenpairs(float64(model), model, k=3, tol=1e-8, parameters=("head.bias", "conv.*"))
    expected = np.linalg.eigvalsh(block)
    np.testing.assert_allclose(pairs.values, sorted(expected, key=abs)[:-4:-1], rtol=1e-7)


def test_products_of_points_keep_names_dtype_and_the_callers_state():
    model, data = make("cnn"), images(SAMPLES)
    model.train()
    before, state = ll.parameters_of(model), torch.get_rng_state()
    objective = ll.objective(model, data, device="cpu")
    product = ll.hessian_product(objective, model)
    direction = ll.random_directions(model, 1, seed=0)[0]
    with torch.no_grad():
        found = product(direction)
    assert {name: value.dtype for name, value in found.items()} == {name: torch.float32 for name in before}
    flat = np.concatenate([value.numpy().ravel() for value in direction.values()])
    expected = np.concatenate([value.numpy().ravel() for value in found.values()])
    np.testing.assert_allclose(product.matvec(flat), expected, rtol=1e-5, atol=1e-7)
    with pytest.raises(ll.InputError, match="not finite"):
        product.matvec(np.full(product.dimension, np.nan))
    assert all(torch.equal(p, before[name]) and p.requires_grad for name, p in model.named_parameters())
    assert model.training and torch.equal(state, torch.get_rng_state())
    assert not any(p.requires_grad for p in objective.model.parameters())


def test_the_point_is_where_it_was_when_the_product_was_made():
    model, _, moments = softmax_regression()
    objective = float64(model, softmax_regression()[1])
    point = ll.parameters_of(model.double())
    product = ll.hessian_product(objective, point)
    point["weight"].fill_(3.0)
    objective.move_to({"weight": torch.ones_like(point["weight"])})
    assert np.linalg.eigvalsh(matrix_of(product))[-1] == pytest.approx(moments[0] / 4)


def test_two_threads_and_graphs_made_anew_give_the_same(monkeypatch):
    monkeypatch.setattr(shares, "MOST_GRAPHS", 0)
    model, (inputs, targets) = make("attention"), images(SAMPLES)
    dense, vector = dense_hessian(model, inputs, targets), np.random.default_rng(0).standard_normal(355)
    torch.set_num_threads(2)
    try:
        found = [ll.hessian_product(float64(model), model, differences=d).matvec(vector) for d in (False, True)]
    finally:
        torch.set_num_threads(1)
    np.testing.assert_allclose(found[0], dense @ vector, atol=1e-12)
    # Central differences: h^2 of about 4e-11 relative to the third derivatives.
    np.testing.assert_allclose(found[1], dense @ vector, atol=1e-8)


def test_finite_differences_are_labelled_and_leave_the_network_where_it_was():
    model = make("tied")
    product = ll.hessian_product(float64(model), model, differences=True)
    assert product.kind == "hessian by finite differences"
    first, again = (product.matvec(np.ones(product.dimension)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not product.matvec(np.zeros(product.dimension)).any()


def test_a_callable_loss_of_the_outputs_has_a_gauss_newton_matrix():
    model, data = make("mlp"), images(SAMPLES)
    named = ll.ggn_product(float64(model, loss="mse"), model)
    of_outputs = ll.ggn_product(
        float64(model, loss=lambda network, batch: F.mse_loss(network(batch[0]), F.one_hot(batch[1], 3).double())),
        model,
    )
    vector = np.random.default_rng(0).standard_normal(named.dimension)
    np.testing.assert_allclose(of_outputs.matvec(vector), named.matvec(vector), atol=1e-13)
    outputs, theta = outputs_at(model, data[0])
    jacobian = torch.autograd.functional.jacobian(outputs, theta).numpy()
    expected = 2 / 3 * np.einsum("ncd,nce,e->d", jacobian, jacobian, vector) / SAMPLES
    np.testing.assert_allclose(named.matvec(vector), expected, atol=1e-13)


def regularised(network, batch):
    penalty = sum(p.square().sum() for p in network.parameters())
    return F.cross_entropy(network(batch[0]), batch[1]) + penalty


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (regularised, "depends on the weights not only through"),
        (lambda network, batch: (network(batch[0]) * network(batch[0])).mean(), "calls it 2 times"),
    ],
)
def test_opaque_losses_have_no_gauss_newton_matrix(loss, message):
    model = make("mlp")
    with pytest.raises(ll.InputError, match=message):
        ll.ggn_product(float64(model, loss=loss), model)
    assert ll.hessian_product(float64(model, loss=loss), model).matvec(np.ones(691)).any()


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * gradient * ctx.saved_tensors[0]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda network, batch: Once.apply(network(batch[0])).mean(1),
            r"no second derivatives here .*differences=True",
        ),
        (lambda network, batch: (network(batch[0]).argmax(1) != batch[1]).double(), "no gradient with respect to"),
    ],
)
def test_losses_without_second_derivatives_are_refused(loss, message):
    model = make("mlp")
    with pytest.raises(ll.InputError, match=message):
        ll.hessian_product(float64(model, loss=loss), model)


def test_a_loss_that_can_be_differentiated_once_has_differences():
    model = make("tied")
    once = float64(model, loss=lambda network, batch: Once.apply(network(batch[0])).mean(1))
    twice = float64(model, loss=lambda network, batch: network(batch[0]).square().mean(1))
    found = ll.hessian_product(once, model, differences=True).matvec(np.ones(107))
    np.testing.assert_allclose(found, ll.hessian_product(twice, model).matvec(np.ones(107)), atol=1e-8)


def test_what_cannot_be_multiplied_is_told():
    model = make("mlp")
    objective = float64(model)
    with pytest.raises(ll.InputError, match=r"'layer3\.\*' matches no parameter; the network has 1\.weight"):
        ll.hessian_product(objective, model, parameters=("layer3.*",))
    with pytest.raises(ll.InputError, match=r"write \('1\.\*',\)"):
        ll.hessian_product(objective, model, parameters="1.*")
    with pytest.raises(ll.InputError, match="parameters is empty"):
        ll.hessian_product(objective, model, parameters=())
    with pytest.raises(ll.InputError, match="3 entries, but the dimension is 691"):
        ll.hessian_product(objective, model).matvec(np.ones(3))
    with pytest.raises(ll.InputError, match="unknown operator 'fisher'"):
        ll.trace(objective, model, operator="fisher")
    broken = ll.parameters_of(model)
    broken["1.weight"][0, 0] = torch.nan
    with pytest.raises(ll.InputError, match="the hessian product is not finite: the loss"):
        ll.top_eigenpairs(objective, broken, k=1)


def test_softmax_regression_at_zero_has_the_known_spectrum():
    model, data, moments = softmax_regression()
    objective, classes = float64(model, data), 4
    expected = np.repeat(moments / classes, classes - 1)
    for operator in ("hessian", "ggn"):
        pairs = ll.top_eigenpairs(objective, model, k=7, tol=1e-10, operator=operator)
        np.testing.assert_allclose(pairs.values, expected[:7], rtol=1e-9)
        assert pairs.converged.all() and pairs.vectors.dtype == np.float32
    found = ll.trace(objective, model, relative_error=0.02, max_products=100)
    exact = (classes - 1) / classes * moments.sum()
    assert found.converged and found.value == pytest.approx(exact, rel=1e-6)
    density = ll.spectral_density(objective, model, probes=3, steps=60)
    # No more than 6 different eigenvalues (five and zero): Lanczos ends there, and its nodes are exact.
    assert density.nodes.shape == (3, 20)
    values = np.append(moments / classes, 0.0)
    assert np.abs(density.nodes[:, :6, None] - values).min(2).max() < 1e-10
    np.testing.assert_allclose(density.weights.sum(1), 1, rtol=1e-12)


def test_linear_regression_has_the_moments_of_its_inputs():
    inputs = torch.randn(SAMPLES, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = nn.Linear(5, 2, bias=False)
    moments = (inputs.T @ inputs / SAMPLES).numpy()
    product = ll.hessian_product(float64(model, (inputs, torch.zeros(SAMPLES, 2)), loss="mse"), model)
    # The mean over two outputs of squares: 2 / 2 for each of them.
    np.testing.assert_allclose(matrix_of(product), np.kron(np.eye(2), moments), atol=1e-13)


@pytest.mark.parametrize("which", ["magnitude", "largest", "smallest"])
def test_every_end_of_a_prescribed_spectrum_is_found(which):
    spectrum = np.concatenate([[-9.0, -4.0, 10.0, 7.0, 5.0], np.linspace(-0.5, 0.5, 75)])
    model, objective, turned = quadratic(spectrum)
    pairs = ll.top_eigenpairs(objective, model, k=4, tol=1e-6, which=which)
    expected = {"magnitude": [10, -9, 7, 5], "largest": [10, 7, 5, 0.5], "smallest": [-9, -4, -0.5, -0.486486]}
    np.testing.assert_allclose(pairs.values, expected[which], rtol=1e-5)
    assert pairs.converged.all() and (pairs.residuals <= 1e-6).all()
    columns = [int(np.abs(spectrum - value).argmin()) for value in pairs.values]
    overlap = np.abs((pairs.vectors * turned[:, columns].T).sum(1))
    np.testing.assert_allclose(overlap, 1, atol=1e-6)


def test_a_matrix_of_zeros_has_eigenvalues_of_zero():
    model, objective, _ = quadratic(np.zeros(300))
    pairs = ll.top_eigenpairs(objective, model, k=3)
    assert pairs.values.tolist() == [0, 0, 0] and pairs.converged.all()
    np.testing.assert_allclose(pairs.vectors @ pairs.vectors.T, np.eye(3), atol=1e-6)  # orthonormal in float32


def test_pairs_that_do_not_converge_are_kept_and_flagged(monkeypatch, tmp_path):
    monkeypatch.setattr("landscape.curvature.eigenpairs.RESTARTS", 2)
    spectrum = np.concatenate([[100.0], np.linspace(1, 1.01, 299)])
    model, objective, _ = quadratic(spectrum)
    pairs = ll.top_eigenpairs(objective, model, k=5, tol=1e-12)
    assert pairs.values[0] == pytest.approx(100) and not pairs.converged.all()
    assert (pairs.values[1:] > 1 - 1e-9).all() and (pairs.values[1:] < 1.01 + 1e-9).all()
    assert (np.abs(spectrum[:, None] - pairs.values).min(0) <= pairs.residuals * np.abs(pairs.values) + 1e-12).all()
    again = ll.results.Eigenpairs.load(pairs.save(tmp_path / "pairs.npz"))
    assert again.converged.tolist() == pairs.converged.tolist() and again.metadata == pairs.metadata
    assert again.products == pairs.products > 100
    with pytest.raises(ll.InputError, match="no trace file"):
        ll.results.TraceEstimate.load(tmp_path / "pairs.npz")


def test_the_whole_spectrum_of_a_small_block_and_no_more():
    model, data, moments = softmax_regression(features=2, classes=3)
    pairs = ll.top_eigenpairs(float64(model, data), model, k=6)
    np.testing.assert_allclose(pairs.values[:4], np.repeat(moments / 3, 2), rtol=1e-9)
    with pytest.raises(ll.InputError, match="k=7 eigenpairs of a matrix of dimension 6: use 1 to 6"):
        ll.top_eigenpairs(float64(model, data), model, k=7)
    with pytest.raises(ll.InputError, match="unknown end 'biggest'"):
        ll.top_eigenpairs(float64(model, data), model, which="biggest")
    with pytest.raises(ll.InputError, match="tol is 0; it must be a finite number above 0"):
        ll.top_eigenpairs(float64(model, data), model, tol=0)


def test_float32_eigenvalues_are_those_of_float64():
    model, data = make("residual"), images(60)
    found = ll.top_eigenpairs(ll.objective(model, data, device="cpu"), model, k=5)
    expected = np.linalg.eigvalsh(dense_hessian(model, *data))
    np.testing.assert_allclose(found.values, sorted(expected, key=abs)[:-6:-1], rtol=1e-4)
    assert found.converged.all()


def test_the_loss_along_an_eigenvector_plane_curves_by_the_eigenvalues():
    model, data = make("tied"), images(SAMPLES)
    objective = float64(model, data)
    pairs = ll.top_eigenpairs(objective, model, k=3, tol=1e-9, parameters=("a.*", "out.*"))
    plane = ll.eigenvector_plane(model.double(), pairs, first=2, second=0)
    assert plane.recipe["eigenvalues"] == [pairs.values[2], pairs.values[0]]
    assert not any(direction["b.bias"].any() for direction in plane.directions)
    assert [ll.norm(direction) for direction in plane.directions] == pytest.approx([1, 1], abs=1e-6)
    h, loss = 1e-3, lambda a, b: objective(plane(a, b)).mean().item()
    second = [(loss(*(h * e)) - 2 * loss(0, 0) + loss(*(-h * e))) / h**2 for e in np.eye(2)]
    assert second == pytest.approx(plane.recipe["eigenvalues"], rel=1e-4)
    with pytest.raises(ll.InputError, match="different ones from 0 to 2"):
        ll.eigenvector_plane(model, pairs, first=1, second=1)
    with pytest.raises(ll.InputError, match="do not belong to this network"):
        ll.eigenvector_plane(make("mlp"), pairs)


@pytest.mark.parametrize(("method", "most"), [("hutch++", 60), ("hutchinson", 400)])
def test_traces_are_reached_within_the_products_stated(method, most):
    spectrum = np.concatenate([np.linspace(20, 60, 8), np.linspace(-0.1, 0.3, 192)])
    model, objective, _ = quadratic(spectrum)
    found = ll.trace(objective, model, method=method, relative_error=0.03, max_products=most)
    assert found.converged and found.products <= most and len(found.samples) >= 10
    assert found.standard_error <= 0.03 * abs(found.value)
    # Four standard errors: once in 16,000 seeds by chance.
    assert abs(found.value - spectrum.sum()) < 4 * found.standard_error
    assert found.value == found.samples.mean()
    assert found.standard_error == pytest.approx(found.samples.std(ddof=1) / math.sqrt(len(found.samples)))


def test_a_trace_that_is_not_reached_says_so(tmp_path):
    model, objective, _ = quadratic(np.linspace(-1, 1, 50))
    found = ll.trace(objective, model, method="hutchinson", max_products=40)
    assert not found.converged and found.products == 40 == len(found.samples)
    again = ll.results.TraceEstimate.load(found.save(tmp_path / "trace.npz"))
    assert (again.value, again.products, again.converged) == (found.value, 40, False)
    for wrong, message in (
        ({"method": "xtrace"}, "unknown method"),
        ({"relative_error": 0}, "must be a finite number above 0"),
        ({"max_products": 5}, "from 30 to"),
    ):
        with pytest.raises(ll.InputError, match=message):
            ll.trace(objective, model, **wrong)


def test_lanczos_keeps_its_basis_orthogonal_where_ritz_values_have_converged():
    spectrum = np.concatenate([[1e4, 5e3, 1e3], np.linspace(0, 1, 197)])
    diagonal, beside = lanczos(lambda v: spectrum * v, np.random.default_rng(0).standard_normal(200), 200)
    ritz = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    # Without reorthogonalisation copies of the large ones would appear.
    np.testing.assert_allclose(np.sort(ritz), np.sort(spectrum), atol=1e-7)


def test_the_density_has_the_moments_of_the_matrix_and_integrates_to_one(tmp_path):
    spectrum = np.concatenate([np.full(270, 0.01), np.linspace(5, 8, 25), [-2.0, 30, 31, 32, 40]])
    model, objective, _ = quadratic(spectrum)
    density = ll.spectral_density(objective, model, probes=40, steps=20)
    assert density.products == 40 * 20 and (np.diff(density.nodes) >= 0).all()
    np.testing.assert_allclose(density.weights.sum(1), 1, rtol=1e-12)
    for power in (1, 2):
        moments = (density.weights * density.nodes**power).sum(1)
        error = moments.std(ddof=1) / math.sqrt(40)
        assert abs(moments.mean() - (spectrum**power).mean()) < 4 * error
    # Nine tenths of the eigenvalues are 0.01, one of 300 is negative.
    assert density.weights[density.nodes < 1].sum() / 40 == pytest.approx(271 / 300, abs=0.02)
    grid, mean, low, high = density.curve()
    assert np.sum((mean[1:] + mean[:-1]) / 2 * np.diff(grid)) == pytest.approx(1, abs=1e-9)
    assert (low <= mean).all() and (mean <= high).all()
    again = ll.results.SpectralDensity.load(density.save(tmp_path / "density.npz"))
    np.testing.assert_array_equal(again.curve(grid=[0.0, 1.0], width=0.5)[1], density.curve([0.0, 1.0], 0.5)[1])
    with pytest.raises(ll.InputError, match="width"):
        density.curve(width=0.0)
    with pytest.raises(ll.InputError, match="probes is 0"):
        ll.spectral_density(objective, model, probes=0)


def test_estimates_depend_on_the_seed_alone():
    model, objective, _ = quadratic(np.linspace(1, 3, 50))
    for function in (
        lambda seed: ll.trace(objective, model, seed=seed).samples,
        lambda seed: ll.spectral_density(objective, model, steps=5, seed=seed).nodes,
        lambda seed: ll.top_eigenpairs(objective, model, k=2, seed=seed).vectors,
    ):
        np.testing.assert_array_equal(function(1), function(1))
        assert not np.array_equal(function(1), function(2))
