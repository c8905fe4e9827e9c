"""Gradients that are missing or wrong are refused by name; those that are right, or not needed, are not."""

import copy
import warnings

import numpy as np
import pytest
import torch
from networks import NETWORKS, images, make
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import landscape_lib as ll
from landscape.objective.gradients import MeanLoss


class Two(nn.Module):
    """Two layers, the first of which runs through ``wrap``."""

    def __init__(self, wrap):
        super().__init__()
        torch.manual_seed(0)
        self.wrap = [wrap]
        self.flat, self.a, self.b = nn.Flatten(), nn.Linear(32, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(self.wrap[0](lambda t: torch.tanh(self.a(t)), self.flat(x)))


class Halved(torch.autograd.Function):
    """x, with half of its gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient / 2


class Lost(Halved):
    @staticmethod
    def backward(ctx, gradient):
        return None


class Rounded(Halved):
    """A straight-through estimator."""

    @staticmethod
    def forward(ctx, x):
        return (x > 0).to(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.clone()


def without_gradient(f, x):
    with torch.no_grad():
        return f(x)


WRAPS = {
    "reentrant checkpointing": (lambda f, x: checkpoint(f, x, use_reentrant=True), "use_reentrant=False"),
    "detached": (lambda f, x: f(x).detach(), "'a.weight', 'a.bias', for which autograd gives"),
    "data": (lambda f, x: f(x).data, "for which autograd gives"),
    "no_grad": (without_gradient, "for which autograd gives"),
    "custom backward of None": (lambda f, x: Lost.apply(f(x)), "for which autograd gives"),
    "custom backward by a half": (lambda f, x: Halved.apply(f(x)), "is not that of the loss"),
    "partly detached": (lambda f, x: f(x) + f(x).detach(), "is not that of the loss"),
}


@pytest.mark.filterwarnings("ignore:.*requires_grad=True. Gradients will be None")
@pytest.mark.parametrize("kind", WRAPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_that_are_not_those_of_the_loss_are_refused(kind, dtype):
    wrap, message = WRAPS[kind]
    model = Two(wrap)
    target = ll.objective(model, images(), dtype=dtype, device="cpu")
    for work in (
        lambda: ll.hessian_product(target, model),
        lambda: ll.hessian_product(target, model, differences=True),
        lambda: ll.ggn_product(target, model),
        lambda: ll.sharpness(target, model, "sam"),
    ):
        with pytest.raises(ll.InputError, match=message):
            work()
    # What is not asked for need not have a gradient.
    product = ll.hessian_product(target, model, parameters=("b.*",))
    assert np.isfinite(product.matvec(np.ones(product.dimension))).all()


def test_checkpointing_of_inner_parts_is_refused_and_the_other_kind_is_exact():
    class Inner(nn.Module):
        def __init__(self, reentrant):
            super().__init__()
            torch.manual_seed(0)
            self.reentrant = reentrant
            self.i, self.a, self.b = nn.Linear(32, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            hidden = self.i(x.flatten(1))
            inner = lambda t: torch.tanh(self.a(t))  # noqa: E731
            if self.reentrant is None:
                return self.b(inner(hidden))
            return self.b(checkpoint(inner, hidden, use_reentrant=self.reentrant))

    data = images()
    with pytest.raises(ll.InputError, match="use_reentrant=False"):
        ll.hessian_product(ll.objective(Inner(True), data, device="cpu"), Inner(True))
    found, plain = (
        ll.hessian_product(ll.objective(Inner(kind), data, dtype=torch.float64, device="cpu"), Inner(kind))
        for kind in (False, None)
    )
    vector = np.random.default_rng(0).standard_normal(plain.dimension)
    np.testing.assert_allclose(found.matvec(vector), plain.matvec(vector), atol=1e-12)


def test_straight_through_estimators_are_told():
    model = Two(lambda f, x: Rounded.apply(f(x) - 0.5))
    target = ll.objective(model, images(), device="cpu")
    with pytest.warns(UserWarning, match=r"THE LOSS DOES NOT CHANGE WITH 'a.weight'"):
        MeanLoss(target).with_gradient(ll.parameters_of(model))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("zeroed", [False, True])
def test_right_gradients_pass_without_a_word(name, zeroed):
    """Also where biases of zero stand on the kinks of ReLUs."""
    model, (inputs, targets) = make(name), images()
    if zeroed:
        inputs = inputs * (inputs > 0)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if key.endswith("bias"):
                    parameter.zero_()
    before = copy.deepcopy(model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        target = ll.objective(model, (inputs, targets), device="cpu")
        _, gradient = MeanLoss(target).with_gradient(ll.parameters_of(model))
    expected = torch.autograd.grad(F.cross_entropy(model(inputs), targets), list(model.parameters()))
    for found, right in zip(gradient.values(), expected, strict=True):
        torch.testing.assert_close(found.float(), right, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_unused_and_frozen_parameters_pass_and_count_as_zero():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.head = make("mlp"), nn.Linear(5, 5)
            self.empty = nn.Parameter(torch.zeros(0, 3))
            self.net[1].requires_grad_(False)

        def forward(self, x):
            return self.net(x)

    model, data = Unused(), images()
    found = ll.hessian_product(ll.objective(model, data, dtype=torch.float64, device="cpu"), model)
    plain = ll.hessian_product(ll.objective(model.net, data, dtype=torch.float64, device="cpu"), model.net)
    vector = np.zeros(found.dimension)
    inner = sum(p.numel() for p in model.net.parameters())
    vector[:inner] = np.random.default_rng(0).standard_normal(inner)
    product = found.matvec(vector)
    np.testing.assert_allclose(product[:inner], plain.matvec(vector[:inner]), atol=1e-12)
    assert not product[inner:].any()
