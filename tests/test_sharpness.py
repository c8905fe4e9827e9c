"""Sharpness: quadratics with known answers, invariance, ragged batches, what stays unchanged, refusals."""

import copy
import json
import math
import warnings

import numpy as np
import pytest
import torch
from networks import images, make
from torch import nn
from torch.nn import functional as F

import landscape_lib as ll
from landscape.objective.gradients import MeanLoss
from landscape.sharpness import MEASURES

COUNT, SIZE = 13, 6  # samples, parameters; batches of 4 leave one sample over


class Parameters(nn.Module):
    """Six parameters in two tensors."""

    def __init__(self, values):
        super().__init__()
        self.first = nn.Parameter(values[:4].reshape(2, 2).clone())
        self.second = nn.Parameter(values[4:].clone())


def quadratic(hessians, centre, at):
    """(objective, model) of the losses l_n = 1/2 (w - centre)^T H_n (w - centre), in float64."""

    def losses(model, batch):
        moved = torch.cat([model.first.flatten(), model.second]) - centre
        return torch.einsum("i,nij,j->n", moved, batch[0], moved) / 2

    model = Parameters(at)
    data = (hessians, torch.zeros(len(hessians)))
    return ll.objective(model, data, loss=losses, dtype=torch.float64, batch_size=4, device="cpu"), model


@pytest.fixture
def hessians():
    """Positive definite and unequal, so that an average over batches instead of samples would show."""
    factors = torch.randn(COUNT, SIZE, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return factors @ factors.mT * torch.arange(1, COUNT + 1)[:, None, None]


CENTRE = torch.tensor([0.5, -2.0, 1.0, 3.0, -0.25, 1.5], dtype=torch.float64)


def test_the_worst_case_of_a_ball_at_a_minimum_is_half_the_top_eigenvalue(hessians):
    target, model = quadratic(hessians, CENTRE, CENTRE)
    top = torch.linalg.eigvalsh(hessians.mean(0))[-1].item()
    found = ll.sharpness(target, model, "ascent", radius=0.3, steps=60)
    assert found.value == pytest.approx(0.3**2 * top / 2, rel=1e-6) and found.converged
    assert found.loss == 0 and found.standard_error is None
    few = ll.sharpness(target, model, "ascent", radius=0.3, steps=1)
    assert few.value < 0.9 * found.value and not few.converged


def test_the_ascent_finds_the_worst_case_away_from_a_minimum_and_with_negative_curvature():
    """max over |e| <= r of g e + e A e / 2: secular equation (mu - A) e = g, |e| = r, mu above all eigenvalues."""
    values = torch.tensor([3.0, -5.0, 1.0, 0.5, -1.0, 2.0], dtype=torch.float64)
    hessians = torch.diag(values).expand(COUNT, SIZE, SIZE)
    start = CENTRE + torch.tensor([0.1, 0.2, -0.3, 0.1, 0.2, -0.1], dtype=torch.float64)
    target, model = quadratic(hessians, CENTRE, start)
    gradient = (values * (start - CENTRE)).numpy()
    low, high = 3.0 + 1e-9, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(gradient / (middle - values.numpy())) > 0.4 else (low, middle)
    e = gradient / (low - values.numpy())
    expected = gradient @ e + e @ (values.numpy() * e) / 2
    assert ll.sharpness(target, model, "ascent", radius=0.4, steps=100).value == pytest.approx(expected, rel=1e-6)
    step = 0.4 * gradient / np.linalg.norm(gradient)
    one = ll.sharpness(target, model, "sam", radius=0.4).value
    assert one == pytest.approx(gradient @ step + step @ (values.numpy() * step) / 2, rel=1e-9)
    assert one < expected
    assert ll.sharpness(target, model, "sam", radius=0.4, samples=9, steps=9).samples is None


def test_adaptive_steps_and_ascents_are_those_of_the_scaled_quadratic(hessians):
    at = CENTRE + 0.1
    target, model = quadratic(hessians, CENTRE, at)
    mean, scale = hessians.mean(0), at.abs()
    gradient = mean @ (at - CENTRE)
    e = 0.2 * scale**2 * gradient / (scale * gradient).norm()
    expected = gradient @ e + e @ mean @ e / 2
    assert ll.sharpness(target, model, "adaptive-sam", radius=0.2).value == pytest.approx(expected.item(), rel=1e-9)
    target, model = quadratic(hessians, CENTRE, CENTRE)
    scaled = CENTRE.abs()[:, None] * mean * CENTRE.abs()
    expected = 0.2**2 * torch.linalg.eigvalsh(scaled)[-1].item() / 2
    found = ll.sharpness(target, model, "adaptive-ascent", radius=0.2, steps=80)
    assert found.value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("measure", "scaled"), [("gaussian", False), ("adaptive-gaussian", True)])
def test_the_average_over_noise_is_half_the_trace_within_its_standard_error(hessians, measure, scaled):
    at = CENTRE + 0.5
    target, model = quadratic(hessians, CENTRE, at)
    scale = at.abs() if scaled else torch.ones(SIZE, dtype=torch.float64)
    curvature = scale[:, None] * hessians.mean(0) * scale
    found = ll.sharpness(target, model, measure, radius=0.2, samples=400, seed=3)
    # e^T A e / 2 of Gaussian e has mean r^2 tr A / 2 and variance r^4 tr A^2 / 2; its odd part cancels in a pair.
    spread = 0.2**2 * math.sqrt(curvature.square().sum().item() / 2 / 400)
    assert found.standard_error == pytest.approx(spread, rel=0.25)
    assert abs(found.value - 0.2**2 * curvature.trace().item() / 2) < 4 * spread
    assert len(found.losses) == 400 and found.converged is None


def test_the_box_of_keskar_is_exact_for_a_diagonal_quadratic():
    values = torch.tensor([3.0, 1.0, 0.5, 2.0, 4.0, 0.25], dtype=torch.float64)
    target, model = quadratic(torch.diag(values).expand(COUNT, SIZE, SIZE), CENTRE, CENTRE)
    found = ll.sharpness(target, model, "keskar", radius=0.01)
    widths = 0.01 * (CENTRE.abs() + 1)
    assert found.value == pytest.approx(100 * (values * widths.square()).sum().item() / 2, rel=1e-6)
    away = CENTRE + 0.5  # all gradients point outwards, so the corner is the maximum
    target, model = quadratic(torch.diag(values).expand(COUNT, SIZE, SIZE), CENTRE, away)
    found = ll.sharpness(target, model, "keskar")
    loss = (values * 0.25).sum().item() / 2
    highest = (values * (0.5 + 1e-3 * (away.abs() + 1)).square()).sum().item() / 2
    assert found.value == pytest.approx(100 * (highest - loss) / (1 + loss), rel=1e-6)


def test_a_search_that_ends_early_says_so(hessians):
    target, model = quadratic(hessians, CENTRE, CENTRE + 0.3)
    found = ll.sharpness(target, model, "keskar", radius=0.5, steps=1)
    assert found.converged is False and found.record["converged"] is False


class Rescalable(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(64, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).flatten(1))


def rescaled(model, factors):
    """The same function: channel c of the convolution times factors[c], what it feeds divided by it."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.conv.weight *= factors[:, None, None, None]
        model.conv.bias *= factors
        model.fc.weight /= factors.repeat_interleave(16)
    return model


@pytest.mark.parametrize("measure", MEASURES)
def test_adaptive_measures_do_not_change_where_relus_are_rescaled_and_others_do(measure):
    torch.manual_seed(0)
    model = Rescalable().double()
    other = rescaled(model, torch.tensor([0.1, 3.0, 8.0, 0.5], dtype=torch.float64))
    options = {"steps": 5, "samples": 3}
    found = [
        ll.sharpness(ll.objective(m, images(), dtype=torch.float64, device="cpu"), m, measure, **options).value
        for m in (model, other)
    ]
    same = abs(found[0] - found[1]) < 1e-9 * abs(found[0])
    assert same == measure.startswith("adaptive"), found


@pytest.mark.parametrize("network", ["mlp", "batch_norm_cnn", "tied", "functional", "residual"])
@pytest.mark.parametrize("batch_size", [4, 13])
def test_the_gradient_is_that_of_one_large_batch(network, batch_size):
    model = make(network).double()
    inputs, targets = images(COUNT)
    mean_loss = MeanLoss(
        ll.objective(model, (inputs, targets), dtype=torch.float64, batch_size=batch_size, device="cpu")
    )
    loss, gradient = mean_loss.with_gradient(ll.parameters_of(model))
    expected = F.cross_entropy(model(inputs.double()), targets)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    assert mean_loss(ll.parameters_of(model)) == pytest.approx(expected.item(), rel=1e-12)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-9, atol=1e-12)


def test_the_gradient_under_statistics_of_the_batch_goes_through_them():
    model = make("batch_norm_cnn").double()
    inputs, targets = images(12)
    target = ll.objective(model, (inputs, targets), dtype=torch.float64, batch_norm="batch", batch_size=6, device="cpu")
    _, gradient = MeanLoss(target).with_gradient(ll.parameters_of(model))
    model.train()
    (sum(F.cross_entropy(model(inputs[k : k + 6].double()), targets[k : k + 6]) for k in (0, 6)) / 2).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-9, atol=1e-12)
    with pytest.raises(ll.InputError, match="'recalibrate' makes the statistics depend on the weights"):
        MeanLoss(ll.objective(model, (inputs, targets), batch_norm="recalibrate"))


@pytest.mark.parametrize("measure", MEASURES)
def test_objective_model_and_random_state_stay_and_the_seed_decides(measure):
    model = make("batch_norm_cnn")
    target = ll.objective(model, images(), device="cpu", batch_size=5)
    point = {name: value + 0.01 for name, value in ll.parameters_of(model).items()}
    before = copy.deepcopy((model.state_dict(), target.model.state_dict(), point, torch.get_rng_state()))
    options = {"samples": 2, "steps": 2}
    found = ll.sharpness(target, point, measure, **options)
    for old, new in zip(before, (model.state_dict(), target.model.state_dict(), point), strict=False):
        assert all(torch.equal(old[name], new[name]) for name in old)
    assert torch.equal(before[3], torch.get_rng_state())
    assert not any(parameter.requires_grad for parameter in target.model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert ll.sharpness(target, point, measure, **options) == found
    assert found.loss == pytest.approx(target(point).double().mean().item(), rel=1e-6)
    stored = json.loads(json.dumps(found.record))
    assert ll.results.Sharpness(**stored) == found and found.source and found.definition
    assert found.metadata["data"]["size"] == COUNT and found.metadata["objective"]["loss"] == "cross_entropy"


def test_each_layer_is_measured_alone(hessians):
    target, model = quadratic(hessians, CENTRE, CENTRE)
    blocks = (slice(0, 4), slice(4, 6))
    names = ("first", "second")
    found = ll.layer_sharpness(target, model, radius=0.2, samples=300, seed=1)
    assert [result.layer for result in found] == [""]  # both belong to the module itself

    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            for name, block in zip(names, blocks, strict=True):
                setattr(self, name, Vector(CENTRE[block]))

    class Vector(nn.Module):
        def __init__(self, values):
            super().__init__()
            self.values = nn.Parameter(values.clone())

    def losses(model, batch):
        moved = torch.cat([model.first.values, model.second.values]) - CENTRE
        return torch.einsum("i,nij,j->n", moved, batch[0], moved) / 2

    model = Layers()
    target = ll.objective(
        model, (hessians, torch.zeros(COUNT)), loss=losses, dtype=torch.float64, batch_size=4, device="cpu"
    )
    found = ll.layer_sharpness(target, model, radius=0.2, samples=300, seed=1)
    assert [result.layer for result in found] == list(names)
    for result, block in zip(found, blocks, strict=True):
        rms = CENTRE[block].square().mean()
        expected = 0.2**2 * rms * hessians.mean(0)[block, block].trace() / 2
        assert abs(result.value - expected.item()) < 4 * result.standard_error
        assert result.standard_error < 0.1 * expected


def test_losses_that_are_not_finite_are_told():
    model = make("mlp")
    target = ll.objective(model, images(), device="cpu")
    point = ll.parameters_of(model)
    for measure in MEASURES:
        with pytest.warns(UserWarning, match="IS NOT FINITE"):
            found = ll.sharpness(target, point, measure, radius=1e30)
        assert not math.isfinite(found.value) and found.converged is not True
        json.dumps(found.record)
    point["1.weight"] = point["1.weight"] * math.nan
    with pytest.raises(ll.InputError, match="the loss at the point is nan"):
        ll.sharpness(target, point, "sam")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "flatness"}, "unknown measure 'flatness'; use one of keskar, sam"),
        ({"radius": 0.0}, "radius is 0.0"),
        ({"radius": math.inf}, "it must be a finite number above 0"),
        ({"measure": "gaussian", "samples": 1}, "samples is 1; it must be a whole number from 2"),
        ({"measure": "ascent", "samples": 0}, "samples is 0; it must be a whole number from 1"),
        ({"measure": "ascent", "steps": 0}, "steps is 0; it must be a whole number from 1"),
    ],
)
def test_wrong_input_is_refused(options, message):
    model = make("linear")
    with pytest.raises(ll.InputError, match=message):
        ll.sharpness(ll.objective(model, images(), device="cpu"), model, **{"measure": "sam", **options})
    with pytest.raises(ll.InputError, match="does not belong to this network"):
        ll.sharpness(ll.objective(model, images(), device="cpu"), make("mlp"), "sam")


def test_results_are_drawn_with_their_error_bars(clean_figures, hessians):
    target, model = quadratic(hessians, CENTRE, CENTRE + 0.2)
    found = [ll.sharpness(target, model, measure) for measure in ("gaussian", "ascent")]
    ax = ll.plot_sharpness([*found, found[0]], labels=["a", "b", "a"])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert [container.lines[0].get_xdata()[0] for container in ax.containers] == [
        found[0].value, found[1].value, found[0].value
    ]  # fmt: skip
    (bar,) = ax.containers[0].lines[2]
    low, high = bar.get_segments()[0][:, 0]
    assert (high - low) / 2 == pytest.approx(found[0].standard_error)
    labels = [label.get_text() for label in ll.plot_sharpness(found).get_yticklabels()]
    assert labels == ["gaussian, r = 0.01", "ascent, r = 0.05"]
    broken = ll.results.Sharpness(**{**found[0].record, "value": math.inf, "standard_error": math.nan})
    ax = ll.plot_sharpness([broken])
    assert "inf" in ax.texts[0].get_text() and ax.get_title().splitlines()[-1] == "gaussian, r = 0.01"
    with pytest.raises(ll.InputError, match="got 0 results"):
        ll.plot_sharpness([])
    with pytest.raises(ll.InputError, match="2 results, 1 labels"):
        ll.plot_sharpness(found, labels=["a"])


def test_nothing_is_warned_of_in_a_plain_measurement():
    model = make("cnn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for measure in MEASURES:
            ll.sharpness(ll.objective(model, images(), device="cpu"), model, measure, samples=2, steps=2)


def test_the_ranks_of_torchrun_share_the_layers(monkeypatch):
    """The second of two ranks measures every second layer, and takes what the first has measured of the others."""
    from landscape.runtime import ranks

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3), nn.Linear(3, 3))
    objective = ll.objective(model, (torch.randn(12, 4), torch.arange(12) % 3), device="cpu")
    alone = ll.layer_sharpness(objective, model, samples=2)
    shares = []

    def gathered(mine):
        shares.append(mine)
        return [{result.layer: result for result in alone if result.layer not in mine}, mine]

    monkeypatch.setattr(ranks, "rank", lambda: 1)
    monkeypatch.setattr(ranks, "count", lambda: 2)
    monkeypatch.setattr(ranks, "gathered", gathered)
    together = ll.layer_sharpness(objective, model, samples=2)
    assert [list(share) for share in shares] == [["2"]]
    assert [(result.layer, result.losses) for result in together] == [(result.layer, result.losses) for result in alone]
