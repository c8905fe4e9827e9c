"""No eigenvalue farther out is passed over where pairs are said to have converged: dense spectra beside eigvalsh."""

import numpy as np
import pytest
import torch
from torch import nn

import landscape_lib as ll
from landscape.curvature import eigenpairs
from landscape.curvature.guard import are_outermost


def regression(seed, samples=800, features=400):
    """(objective, model, H in float64) of linear regression: H = 2 X^T X / N, a Wishart matrix."""
    torch.manual_seed(seed)
    model, inputs = nn.Linear(features, 1, bias=False), torch.randn(samples, features)
    target = ll.objective(model, (inputs, torch.zeros(samples, 1)), loss="mse", device="cpu")
    return target, model, (2 * inputs.double().T @ inputs.double() / samples).numpy()


def missed(pairs, matrix, which):
    """Whether a converged value differs from the one of its rank by more than was asked for."""
    order = {"magnitude": lambda v: -np.abs(v), "largest": lambda v: -v, "smallest": lambda v: v}[which]
    values = np.linalg.eigvalsh(matrix)
    values = values[np.argsort(order(values))][: len(pairs.values)]
    wrong = np.abs(pairs.values - values) > 1.05 * pairs.metadata["tol"] * np.abs(values)
    return bool((wrong & pairs.converged).any())


@pytest.mark.parametrize(("which", "tol", "seeds"), [("magnitude", 1e-2, 16), ("smallest", 1e-2, 3)])
def test_no_eigenvalue_of_a_dense_edge_is_passed_over(which, tol, seeds):
    converged = 0
    for seed in range(seeds):
        target, model, matrix = regression(seed)
        pairs = ll.top_eigenpairs(target, model, k=1, tol=tol, which=which, progress=False)
        assert not missed(pairs, matrix, which), seed
        converged += pairs.converged.all()
    assert converged >= 0.9 * seeds  # doubt is the exception


@pytest.mark.parametrize("samples", [300, 402])
def test_the_smallest_eigenvalue_of_a_singular_edge_is_never_claimed_wrongly(samples):
    target, model, matrix = regression(0, samples=samples // 2, features=200)
    pairs = ll.top_eigenpairs(target, model, k=2, which="smallest", progress=False)
    assert not missed(pairs, matrix, "smallest")


def test_copies_of_an_eigenvalue_are_all_found():
    """A single Krylov space holds one vector of an eigenspace; the others come from rounding, or from a second run."""
    spectrum = np.concatenate([[7.0] * 4, [5.0] * 3, np.linspace(-1, 1, 143)])
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((150, 150)))[0]
    inputs = torch.from_numpy(turned * np.sqrt(np.abs(spectrum) * 150)[:, None])
    weights = torch.from_numpy(np.sign(spectrum))
    model = nn.Linear(150, 1, bias=False).double()
    target = ll.objective(
        model, (inputs, weights), loss=lambda net, batch: batch[1] * net(batch[0])[:, 0].square() / 2,
        dtype=torch.float64, device="cpu",
    )  # fmt: skip
    pairs = ll.top_eigenpairs(target, model, k=7, tol=1e-6, which="largest", progress=False)
    np.testing.assert_allclose(pairs.values, [7] * 4 + [5] * 3, rtol=1e-9)
    assert pairs.converged.all()


def test_a_vector_that_is_not_the_outermost_is_noticed(monkeypatch):
    """The second run finds what is beyond, and the pairs are computed again."""
    matrix = np.diag(np.linspace(1, 2, 100))
    count, limit = 0, np.array([matrix[-2, -2] * 1.001])

    def matvec(vector):
        nonlocal count
        count += 1
        return matrix @ vector

    vectors = np.eye(100)[[98]]
    decided, exceeded = are_outermost(
        matvec, vectors, limit, np.ones(1), 100, np.random.default_rng(0), np.dtype("float64")
    )
    assert exceeded.tolist() == [True] and decided.tolist() == [False] and count <= 100
    decided, exceeded = are_outermost(
        matvec, np.eye(100)[[0]], -matrix[0, 0] + np.array([1e-3]), -np.ones(1), 100, np.random.default_rng(0),
        np.dtype("float64"),
    )  # fmt: skip
    assert decided.tolist() == [True] and exceeded.tolist() == [False]

    original, attempts = eigenpairs._ritz_vectors, []

    def second_best_first(multiply, k, which, tol, seed):
        attempts.append(seed)
        found = original(multiply, k + 1, which, tol, seed)
        return found[1:] if seed[1] else found[:1]

    monkeypatch.setattr(eigenpairs, "_ritz_vectors", second_best_first)
    target, model, dense = regression(0, samples=4000, features=50)
    pairs = ll.top_eigenpairs(target, model, k=1, which="largest", progress=False)
    assert pairs.values[0] == pytest.approx(np.linalg.eigvalsh(dense)[-1], rel=1e-5)
    assert attempts == [(0, 0), (0, 1)] and pairs.converged.all()


def test_what_cannot_be_excluded_is_flagged(monkeypatch):
    monkeypatch.setattr("landscape.curvature.guard.FEWEST", 2)
    monkeypatch.setattr(eigenpairs, "are_outermost", lambda *a: are_outermost(*a[:4], 2, *a[5:]))
    target, model, _ = regression(0)
    pairs = ll.top_eigenpairs(target, model, k=1, progress=False)
    assert pairs.residuals[0] <= 1e-3 and not pairs.converged[0]
