"""Second derivatives: products, eigenpairs, traces and densities beside closed forms, dense autograd, curvlinops."""

import copy

import numpy as np
import pytest
import torch
from networks import NETWORKS, images, make
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import landscape_lib as ll
from landscape.curvature import shares

SAMPLES = 13  # no multiple of the batches below
SMOOTH = ("linear", "tied", "functional", "attention")


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


def softmax_regression(samples=40, features=6, classes=4):
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
