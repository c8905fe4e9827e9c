"""One product asked many questions: the same numbers as one for each question, graphs made once, finite differences."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import images, make
from torch import nn
from torch.nn import functional as F

import landscape_lib as ll
from landscape.curvature import shares, subject

SAMPLES = 13  # four batches, the last one of a single sample
STORED = Path(__file__).parent / "golden" / "stored"  # made before a product was what the measurements take
QUESTIONS = {
    "eigenpairs": (ll.top_eigenpairs, {"k": 3, "tol": 1e-4}, ("values", "residuals", "converged", "vectors")),
    "trace": (ll.trace, {"max_products": 45, "seed": 3}, ("value", "standard_error", "converged", "samples")),
    "density": (ll.spectral_density, {"probes": 2, "steps": 7}, ("nodes", "weights")),
}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(shares, "BATCHES", (4, 4))


@pytest.fixture
def graphs(monkeypatch):
    """The operators of which a graph was built, one entry a graph."""
    built = []

    def counting(name, original):
        return lambda *arguments: built.append(name) or original(*arguments)

    for name, original in list(shares.BATCH_PRODUCTS.items()):
        monkeypatch.setitem(shares.BATCH_PRODUCTS, name, counting(name, original))
    return built


def target_of(model, dtype=torch.float32, data=None, **options):
    return ll.objective(model, data or images(SAMPLES), device="cpu", dtype=dtype, **options)


def answers(*arguments, **options):
    """What every question gets, by name."""
    return {
        name: ask(*arguments, **settings, **options, progress=False) for name, (ask, settings, _) in QUESTIONS.items()
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("name", "operator", "parameters", "options"),
    [
        ("tied", "hessian", ("*",), {}),
        ("batch_norm_cnn", "hessian", ("*",), {"batch_norm": "batch", "batch_size": 5}),
        ("residual", "ggn", ("conv.*", "head.bias"), {}),
    ],
)
def test_one_product_answers_as_one_for_each_question(name, operator, parameters, options, dtype):
    model = make(name)
    target = target_of(model, dtype, **options)
    maker = {"hessian": ll.hessian_product, "ggn": ll.ggn_product}[operator]
    product = maker(target, model, parameters=parameters)
    product.matvec(np.ones(product.dimension))  # what was asked before does not count
    shared, alone = answers(product), answers(target, model, operator=operator, parameters=parameters)
    for question, (_, _, fields) in QUESTIONS.items():
        one, other = shared[question], alone[question]
        for field in fields:
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field), err_msg=f"{question} {field}")
        assert one.products == other.products
        assert one.metadata | {"seconds": 0} == other.metadata | {"seconds": 0}
    assert product.count == 1 + sum(found.products for found in shared.values())


def test_all_questions_share_the_graphs_of_one_product(graphs):
    model = make("mlp")
    target = target_of(model)
    product = ll.hessian_product(target, model)
    tried = len(graphs)
    answers(product)
    assert len(graphs) == tried + 4  # one for each batch, whatever is asked
    answers(product)
    assert len(graphs) == tried + 4 and [len(share.kept) for share in product._shares] == [4]
    graphs.clear()
    answers(target, model)
    assert len(graphs) == 3 * (tried + 4)


def test_only_graphs_made_for_one_question_are_released(monkeypatch):
    model, made = make("mlp"), []
    target = target_of(model)
    product = ll.hessian_product(target, model)
    monkeypatch.setitem(subject.MAKERS, "hessian", lambda *a, **k: made.append(ll.hessian_product(*a, **k)) or made[-1])
    answers(target, model)
    with pytest.raises(ll.InputError, match="k=9999"):
        ll.top_eigenpairs(target, model, k=9999)
    with pytest.raises(ll.InputError, match="k=9999"):
        ll.top_eigenpairs(product, k=9999)
    answers(product)
    assert len(made) == 4 and not any(share.kept for one in made for share in one._shares)
    assert all(share.kept for share in product._shares)


class Once(torch.autograd.Function):
    """tanh, for which nobody wrote a second derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.tanh())
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient * (1 - ctx.saved_tensors[0].square())


class Net(nn.Module):
    def __init__(self, activation):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.activation = nn.Linear(32, 3), nn.Linear(3, 3), activation

    def forward(self, x):
        return self.last(self.activation(self.first(x.flatten(1))))


def dense_hessian(model, inputs, targets):
    """[D, D] in float64, by automatic differentiation of one batch of all samples."""
    model = copy.deepcopy(model).double()
    shapes = {name: p.shape for name, p in model.named_parameters()}

    def loss(vector):
        pieces = vector.split([shape.numel() for shape in shapes.values()])
        point = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, point, (inputs.double(),)), targets)

    return torch.autograd.functional.hessian(
        loss, torch.cat([p.detach().flatten() for p in model.parameters()])
    ).numpy()


# A central difference with h = cbrt(eps) max(1, |theta|) leaves about eps^(2/3): 4e-11, or 2e-5 in float32.
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-8), (torch.float32, 1e-3)])
def test_finite_differences_answer_every_question(dtype, allowed):
    data = images(SAMPLES)
    matrix = dense_hessian(Net(torch.tanh), *data)
    model = Net(Once.apply)
    target = target_of(model, dtype)
    with pytest.raises(ll.InputError, match="no second derivatives"):
        ll.hessian_product(target, model)
    product = ll.hessian_product(target, model, differences=True)
    size, scale = len(matrix), np.abs(np.linalg.eigvalsh(matrix)).max()

    pairs = ll.top_eigenpairs(product, k=3, progress=False)
    expected = sorted(np.linalg.eigvalsh(matrix), key=abs)[:-4:-1]
    np.testing.assert_allclose(pairs.values, expected, atol=max(allowed, 1e-5) * scale)
    assert pairs.converged.all() and (pairs.residuals <= 1e-3).all()

    found = ll.trace(product, method="hutchinson", max_products=40, seed=5, progress=False)
    generator = np.random.default_rng(5)
    probes = [generator.integers(0, 2, size) * 2.0 - 1.0 for _ in range(len(found.samples))]
    samples = [probe @ matrix @ probe for probe in probes]
    np.testing.assert_allclose(found.samples, samples, atol=allowed * scale * size)
    assert found.value == pytest.approx(np.mean(samples), abs=allowed * scale * size)

    density = ll.spectral_density(product, probes=3, steps=6, seed=2, progress=False)
    starts = np.random.default_rng(2).standard_normal((3, size))
    for power in (1, 2, 3):
        moments = np.einsum("pi,ij,pj->p", starts, np.linalg.matrix_power(matrix, power), starts)
        moments /= (starts**2).sum(1)
        nodes = (density.weights * density.nodes**power).sum(1)
        np.testing.assert_allclose(nodes, moments, atol=10 * allowed * scale**power)
    for result in (pairs, found, density):
        assert result.metadata["operator"] == "hessian by finite differences"


def test_measurements_by_finite_differences_are_stored_and_found(tmp_path, monkeypatch):
    model = make("mlp")
    product = ll.hessian_product(target_of(model), model, differences=True)
    path = tmp_path / "pairs.npz"
    first = ll.cli.load_or_measure(path, ll.top_eigenpairs, product, k=2, progress=False)
    count = product.count
    again = ll.cli.load_or_measure(path, ll.top_eigenpairs, product, k=2, progress=False)
    np.testing.assert_array_equal(again.vectors, first.vectors)
    assert product.count == count
    # The settings that are left out are compared as well.
    assert len(ll.cli.load_or_measure(path, ll.top_eigenpairs, product, progress=False).values) == 10
    exact = ll.cli.load_or_measure(path, ll.top_eigenpairs, ll.hessian_product(target_of(model), model), progress=False)
    assert exact.metadata["operator"] == "hessian"


def test_a_product_tells_what_it_is():
    model = make("mlp")
    product = ll.ggn_product(target_of(model), model, parameters=("*bias",))
    assert repr(product) == f"Product(ggn, dimension {product.dimension}; 3 of 6 parameters, 13 samples)"
    assert repr(ll.hessian_product(target_of(model), model)).startswith("Product(hessian, dimension 691; 6 of 6 para")


@pytest.mark.parametrize("ask", [ll.top_eigenpairs, ll.trace, ll.spectral_density])
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (lambda t, m, p: (m,), {}, "an objective is needed, not Sequential; make one with product = hessian_product"),
        (lambda t, m, p: (m, t), {}, "a product or an objective is needed, not Sequential"),
        (lambda t, m, p: ((1, 2), m), {}, "an objective is needed, not tuple"),
        (lambda t, m, p: (t,), {}, r"an objective needs a point; make product = hessian_product\(objective, model\)"),
        (lambda t, m, p: (t, 3), {}, r"a point is a module or a dict\[str, Tensor\], not int"),
        (lambda t, m, p: (p, m), {}, "point was passed with a product, which already has one; leave it out"),
        (lambda t, m, p: (p,), {"operator": "ggn"}, "operator was passed with a product"),
        (lambda t, m, p: (p,), {"parameters": ("*",)}, "parameters was passed with a product"),
        (lambda t, m, p: (t, m), {"operator": "fisher"}, "unknown operator 'fisher'; use one of hessian, ggn"),
        (lambda t, m, p: (t, m), {"operator": ["ggn"]}, r"unknown operator \['ggn'\]"),
        (lambda t, m, p: (t, m), {"parameters": "*"}, r"not the string '\*'"),
    ],
)
def test_a_wrong_subject_is_told_the_fix_in_one_line(ask, arguments, options, message):
    model = make("mlp")
    target = target_of(model)
    given = arguments(target, model, ll.hessian_product(target, model, parameters=("*bias",)))
    with pytest.raises(ll.InputError, match=message) as refused:
        ask(*given, **options)
    assert "\n" not in str(refused.value)


def test_an_eigenvector_plane_takes_the_point_of_the_product():
    model = make("batch_norm_cnn")
    target = target_of(model, torch.float64)
    product = ll.hessian_product(target, model)
    pairs = ll.top_eigenpairs(product, k=2, progress=False)
    by_product, by_model = ll.eigenvector_plane(product, pairs), ll.eigenvector_plane(model, pairs)
    assert by_product.fingerprint == by_model.fingerprint and by_product.recipe == by_model.recipe
    surfaces = [ll.evaluate(target, plane, resolution=3, progress=False) for plane in (by_product, by_model)]
    np.testing.assert_array_equal(surfaces[0].loss, surfaces[1].loss)
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    elsewhere = ll.hessian_product(target_of(model, torch.float64), model)
    with pytest.raises(ll.InputError, match="belong to another point than the product"):
        ll.eigenvector_plane(elsewhere, pairs)


def stored_problem():
    """The network and the data of the stored results; every number is exact in float32."""
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.weight.copy_(torch.arange(12.0).reshape(3, 4) / 8 - 0.75)
        model.bias.copy_(torch.tensor([0.25, 0, -0.5]))
    inputs = (torch.arange(36.0).reshape(9, 4).sin() * 64).round() / 64
    return model, ll.objective(model, (inputs, torch.arange(9) % 3), device="cpu")


def test_results_of_earlier_versions_are_loaded_and_serve(tmp_path):
    model, target = stored_problem()
    product = ll.hessian_product(target, model)
    kinds = {
        "eigenpairs": ll.results.Eigenpairs,
        "trace": ll.results.TraceEstimate,
        "density": ll.results.SpectralDensity,
    }
    settings = {
        "eigenpairs": (ll.top_eigenpairs, {"k": 2}),
        "trace": (ll.trace, {"max_products": 60}),
        "density": (ll.spectral_density, {"probes": 2, "steps": 5}),
    }
    for name, (measure, options) in settings.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes((STORED / path.name).read_bytes())
        before = kinds[name].load(path)
        served = ll.cli.load_or_measure(path, measure, product, **options)
        assert product.count == 0 and served.metadata == before.metadata
        again = measure(product, **options, progress=False)
        field = {"eigenpairs": "values", "trace": "value", "density": "nodes"}[name]
        np.testing.assert_allclose(getattr(again, field), getattr(before, field), rtol=1e-3, atol=1e-5)
        product.count = 0
    path = tmp_path / "sharpness.json"
    path.write_bytes((STORED / path.name).read_bytes())
    content = path.read_bytes()
    found = ll.cli.load_or_measure_sharpness(path, target, model, ("sam", "gaussian"))
    assert [one.measure for one in found] == ["sam", "gaussian"] and path.read_bytes() == content
