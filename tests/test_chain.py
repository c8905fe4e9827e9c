"""Chains run at many points at once what the network runs at one, and nothing else is taken for a chain."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

import landscape_lib as ll
from landscape.evaluation.methods.chain import ELEMENTWISE, Chain
from landscape.evaluation.methods.prefix import Prefix
from landscape.evaluation.methods.protocol import Arrangement


def network(*middle):
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), *middle, nn.Linear(5, 3)).eval()


def found(model):
    layer = next(module for module in model.modules() if type(module) is nn.Linear)
    return Chain.find(model, layer, lambda: model(torch.randn(2, 6)))


def samples(count=11):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(count, 6, generator=generator, dtype=torch.float64),
        torch.randint(3, (count,), generator=generator),
    )


@pytest.mark.parametrize("activation", sorted(ELEMENTWISE, key=lambda kind: kind.__name__))
@pytest.mark.parametrize("bias", [True, False])
def test_a_chain_gives_what_plain_passes_give(activation, bias):
    model = network(activation(), nn.Linear(5, 5, bias=bias), activation()).double()
    inputs, targets = samples()
    plane = ll.random_plane(model, seed=1, ignore=())
    evaluator = Prefix(ll.objective(model, (inputs, targets), device="cpu", dtype=torch.float64), plane)
    evaluator.arrange(Arrangement(4, "features_first", 3))
    assert isinstance(evaluator.chain, Chain)
    points = torch.randn(7, 2, dtype=torch.float64)
    evaluator.prepare(points)
    losses, hits = [], 0
    for _, batch in evaluator.objective.batches(4):
        evaluator.load(batch)
        for values, right, _ in evaluator.run():
            losses.append(values.clone())
            hits = hits + right
    for k, point in enumerate(points.tolist()):
        logits = functional_call(model, plane(*point), (inputs,))
        torch.testing.assert_close(
            torch.cat(losses, 1)[k], nn.functional.cross_entropy(logits, targets, reduction="none")
        )
        assert hits[k] == (logits.argmax(1) == targets).sum()


def test_a_chain_of_which_only_some_parameters_move():
    model = network(nn.ReLU()).double()
    plane = ll.random_plane(model, seed=1)
    kept = {name: torch.zeros_like(value) for name, value in plane.origin.items()}
    plane = ll.Plane(
        plane.origin, [{**kept, "1.weight": d["1.weight"], "1.bias": kept["1.bias"] + 1} for d in plane.directions]
    )
    target = ll.objective(model, samples(), device="cpu", dtype=torch.float64)
    evaluator = Prefix(target, plane)
    evaluator.arrange(Arrangement(11, "features_first", 2))
    assert isinstance(evaluator.chain, Chain)
    evaluator.prepare(torch.tensor([[0.3, -0.7], [0.0, 1.0]], dtype=torch.float64))
    evaluator.load(next(target.batches(11))[1])
    losses = next(evaluator.run()).losses
    logits = functional_call(model, plane(0.3, -0.7), (samples()[0],))
    torch.testing.assert_close(losses[0], nn.functional.cross_entropy(logits, samples()[1], reduction="none"))


class Own(nn.Module):
    """A network whose forward pass is ``path(first, last, inputs)``."""

    def __init__(self, path):
        super().__init__()
        self.first, self.activation, self.last, self.path = nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), path

    def forward(self, inputs):
        return self.path(self, inputs)


class Twice(nn.ReLU):
    def forward(self, inputs):
        return 2 * super().forward(inputs)


@pytest.mark.parametrize(
    "path",
    {
        "function between": lambda m, x: m.last(m.first(x).relu()),
        "in place between": lambda m, x: m.last(m.first(x).mul_(2)),
        "changed before": lambda m, x: m.last(m.activation(m.first(x).neg_())),
        "function after": lambda m, x: m.last(m.activation(m.first(x))) * 2,
        "in place after": lambda m, x: m.last(m.activation(m.first(x))).add_(1),
        "shortcut": lambda m, x: m.last(m.first(x) + m.activation(m.first(x))),
        "unused": lambda m, x: (m.last(m.first(x)), m.first(x) @ x.new_ones(5, 3))[1],
    }.values(),
)
def test_what_does_more_than_its_modules_is_no_chain(path):
    assert found(Own(path)) is None


def test_a_network_of_its_own_that_calls_its_modules_in_a_row_is_a_chain():
    assert [type(link) for link in found(Own(lambda m, x: m.last(m.activation(m.first(x))))).links] == [
        nn.ReLU,
        nn.Linear,
    ]


@pytest.mark.parametrize("link", [nn.Softmax(1), nn.LayerNorm(5), nn.PReLU(), Twice()])
def test_other_modules_are_no_links(link):
    assert found(network(nn.ReLU())) is not None
    assert found(network(link)) is None


def test_a_module_with_a_hook_or_a_forward_of_its_own_is_no_link():
    hooked, replaced = network(nn.ReLU()), network(nn.ReLU())
    hooked[2].register_forward_hook(lambda *_: None)
    replaced[2].forward = lambda inputs: 3 * inputs
    assert found(hooked) is None and found(replaced) is None


def test_a_module_that_runs_twice_is_no_link():
    activation = nn.ReLU()
    assert found(network(activation, activation)) is None
