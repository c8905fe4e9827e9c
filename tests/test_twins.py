"""Two networks in two threads: copies that share what a forward pass changes are found, and work in one thread."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from networks import images, make
from torch import nn

import landscape_lib as ll
from landscape.objective.twins import are_independent
from landscape.objective.workers import Team

X, Y = images(64)
GLOBAL = {}


def hooked():
    """A hook that leaves a value in a dictionary, and a hook that takes it from there."""
    model, kept = make("mlp"), {}
    model[1].register_forward_hook(lambda module, inputs, output: kept.update(sum=output.sum(1, keepdim=True)))
    model[3].register_forward_hook(lambda module, inputs, output: output + kept["sum"])
    return model


class Reads(nn.Module):
    """State outside of the module: in a global variable, in the class, or in an object that copies share."""

    shared: ClassVar = {}

    def __init__(self, state):
        super().__init__()
        self.layer, self.out = nn.Linear(32, 6), nn.Linear(6, 3)
        self.state = lambda: state

    def forward(self, x):
        state = self.state()
        state["rows"] = torch.tanh(self.layer(x.flatten(1))).sum(1, keepdim=True)
        h = torch.relu(self.layer(x.flatten(1)))
        return self.out(h) * state["rows"]


class Scratch(nn.Module):
    """Keeps its hidden units in one piece of memory for every shape of them, which copies share."""

    memory: ClassVar = {}

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(32, 6), nn.Linear(6, 3)

    def forward(self, x):
        hidden = self.layer(x.flatten(1))
        kept = self.memory.setdefault((hidden.shape, hidden.dtype), torch.empty(hidden.shape, dtype=hidden.dtype))
        kept.copy_(hidden.detach())
        return self.out(torch.tanh(hidden + (kept - hidden.detach())))


DEPENDENT = {
    "memory by shape": Scratch,
    "hooks": hooked,
    "global": lambda: Reads(GLOBAL),
    "class": lambda: Reads(Reads.shared),
    "closure": lambda: Reads({}),
}


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", DEPENDENT)
def test_networks_that_share_state_work_in_one_thread_and_are_right(name, four_threads):
    torch.manual_seed(0)
    model = DEPENDENT[name]()
    target, plane = ll.objective(model, (X, Y), device="cpu"), ll.random_plane(model)
    assert Team(target).size == 1
    surface = ll.evaluate(target, plane, resolution=5, method="direct", progress=False)
    expected = [[target(plane(float(a), float(b))).double().mean() for b in surface.betas] for a in surface.alphas]
    np.testing.assert_allclose(surface.loss, expected, rtol=1e-5)
    product = ll.hessian_product(target, model)
    vector = np.random.default_rng(0).normal(size=product.dimension)
    np.testing.assert_array_equal(product.matvec(vector), product.matvec(vector))


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn", "residual", "tied", "twice", "attention"])
def test_networks_without_shared_state_work_in_several_threads(name, four_threads):
    target = ll.objective(make(name), (X, Y), device="cpu")
    assert Team(target).size == 4
    before = {key: value.clone() for key, value in target.model.state_dict().items()}
    assert are_independent(target.model, lambda network, batch: network(batch), (X[:3], X[3:5]))
    assert all(torch.equal(value, before[key]) for key, value in target.model.state_dict().items())


def test_a_pass_that_fails_beside_another_one_counts_as_dependent():
    class Once(nn.Linear):
        runs: ClassVar = []

        def forward(self, x):
            Once.runs.append(1)
            if len(Once.runs) > 3:
                raise RuntimeError("too often")
            return super().forward(x)

    assert not are_independent(Once(4, 3), lambda network, batch: network(batch), (torch.ones(2, 4), torch.ones(1, 4)))
