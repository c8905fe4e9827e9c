"""Loss and metrics of one batch share a forward pass where they call the network alike, and only there."""

import contextlib
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import landscape_lib as ll
from landscape.objective.shared_forward import shared_forward

CALLS = []  # number of samples of every forward pass
INPUTS, TARGETS = torch.randn(23, 4, generator=torch.Generator().manual_seed(1)).double(), torch.arange(23) % 3


class Counted(nn.Sequential):
    def forward(self, inputs, scale=1.0):
        CALLS.append(len(inputs))
        return super().forward(inputs) * scale


def network(*layers):
    torch.manual_seed(0)
    return Counted(nn.Linear(4, 5), *layers, nn.Tanh(), nn.Linear(5, 3)).double().eval()


def own_loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def clobbering_loss(model, batch):
    outputs = model(batch[0])
    losses = F.cross_entropy(outputs, batch[1], reduction="none")
    outputs.zero_()
    return losses


def confidence(model, batch):
    return model(batch[0]).softmax(1).amax(1)


def margin(model, batch):
    best = model(batch[0]).topk(2).values
    return best[:, 0] - best[:, 1]


def scaled(model, batch):
    return model(batch[0], scale=2.0).square().mean(1)


def shifted(model, batch):
    return model(batch[0] + 1).mean(1)


def moved(model, batch):
    """At other weights, which are put back."""
    weight = model[0].weight
    kept = weight.data.clone()
    try:
        weight.data.mul_(2)
        return model(batch[0]).mean(1)
    finally:
        weight.data.copy_(kept)


def hooked(model, batch):
    seen = []
    with contextlib.closing(_Handle(model[0].register_forward_hook(lambda *a: seen.append(a[2])))):
        model(batch[0])
    return seen[-1].mean(1) if seen else torch.zeros(len(batch[0])).double()


@dataclass
class _Handle:
    handle: object

    def close(self):
        self.handle.remove()


def evaluated(loss, metrics, model=None):
    """Quantities of one batch, and the number of forward passes that they took."""
    target = ll.objective(
        model or network(), (INPUTS, TARGETS), loss=loss, metrics=metrics, dtype=torch.float64, device="cpu"
    )  # fmt: skip
    with target.arithmetic(), torch.no_grad():
        [(_, batch)] = target.batches(23)
        CALLS.clear()
        measured = target.evaluate(batch)
    return measured, len(CALLS)


@pytest.mark.parametrize("loss", ["cross_entropy", own_loss])
@pytest.mark.parametrize(
    ("metrics", "passes"),
    [
        ((confidence,), 1),
        ((confidence, margin), 1),
        ((confidence, scaled, scaled), 2),
        ((shifted, confidence), 3),  # the last call alone is kept
        ((moved,), 2),
        ((hooked,), 2),
        ((hooked, confidence), 3),
    ],
)
def test_as_many_passes_as_different_calls(loss, metrics, passes):
    named = {f"{metric.__name__} {k}": metric for k, metric in enumerate(metrics)}
    measured, count = evaluated(loss, named)
    assert count == passes
    model = network()
    with torch.no_grad():
        torch.testing.assert_close(measured.losses, own_loss(model, (INPUTS, TARGETS)))
        for name, metric in named.items():
            torch.testing.assert_close(measured.quantities[name], metric(model, (INPUTS, TARGETS)))


def test_outputs_that_were_written_into_are_not_shared():
    measured, count = evaluated(clobbering_loss, {"confidence": confidence})
    assert count == 2
    torch.testing.assert_close(measured.quantities["confidence"], confidence(network(), (INPUTS, TARGETS)))


def test_a_network_that_keeps_its_outputs_is_run_for_every_metric():
    class Keeping(Counted):
        def forward(self, inputs):
            self.kept = super().forward(inputs)
            return self.kept

    torch.manual_seed(0)
    model = Keeping(nn.Linear(4, 3)).double().eval()
    assert evaluated(own_loss, {"confidence": confidence}, model)[1] == 2


def test_a_surface_with_metrics_takes_the_passes_of_one_without():
    model = network()
    plane, counts = ll.random_plane(model, seed=0), []
    for metrics in (None, {"confidence": confidence, "margin": margin}):
        target = ll.objective(
            model, (INPUTS, TARGETS), loss=own_loss, metrics=metrics, dtype=torch.float64, device="cpu"
        )  # fmt: skip
        CALLS.clear()
        surface = ll.evaluate(target, plane, resolution=5, method="direct", progress=False)
        counts.append(sum(CALLS))
    assert counts[1] <= counts[0] + 4 * 23  # a few for what is learned of the metrics
    moved_model = ll.model_at(
        model, {n: v for n, v in plane(float(surface.alphas[1]), float(surface.betas[3])).items()}
    )
    with torch.no_grad():
        expected = margin(moved_model, (INPUTS, TARGETS)).mean().item()
    assert surface.quantities["margin"][1, 3] == pytest.approx(expected, abs=1e-12)


def test_containers_of_outputs_are_not_shared():
    class Pair(nn.Module):
        def forward(self, x):
            CALLS.append(len(x))
            return {"logits": x * 2, "x": x}

    model, x = Pair(), torch.ones(2, 3)
    with torch.no_grad(), shared_forward(model):
        CALLS.clear()
        one, other = model(x), model(x)
        one.pop("logits")
        assert len(CALLS) == 1 and one is not other and set(model(x)) == {"logits", "x"}
        x.add_(1)
        assert model(x)["logits"][0, 0] == 4 and len(CALLS) == 2
        assert model(x.clone())["logits"][0, 0] == 4 and len(CALLS) == 3
        with torch.enable_grad():
            model(x), model(x)
        assert len(CALLS) == 5
    model(x)
    assert len(CALLS) == 6 and "forward" not in vars(model)
