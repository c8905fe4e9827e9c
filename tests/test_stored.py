"""A stored result is served only for what it is of, and only where it is as good as is asked."""

import functools
import importlib
import threading
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import landscape_lib as ll
from landscape.evaluation.refinement.tolerance import shortfall
from landscape.objective.code import digest_of
from landscape.objective.identity import objective_identity
from landscape.storage.recipe import difference

module = importlib.import_module("landscape.evaluation.ledger")
SCALE = 1.0


def scaled(factor):
    return lambda model, batch: factor * F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def uses_global(model, batch):
    return SCALE * F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def by_default(model, batch, factor=1.0):
    return factor * F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def calls(inner):
    def loss(model, batch):
        return inner(model, batch)

    return loss


class Criterion:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, model, batch):
        return scaled(self.factor)(model, batch)

    def method(self, model, batch):
        return self(model, batch)


class Smooth(nn.Module):
    def __init__(self, amount):
        super().__init__()
        self.inner = nn.CrossEntropyLoss(label_smoothing=amount)

    def forward(self, model, batch):
        return self.inner(model(batch[0]), batch[1])


def with_teacher(value):
    teacher = nn.Linear(4, 3)
    nn.init.constant_(teacher.weight, value)
    nn.init.zeros_(teacher.bias)
    return functools.partial(distilled, teacher=teacher, weights=torch.ones(3))


def distilled(model, batch, teacher, weights):
    return ((model(batch[0]) - teacher(batch[0])).square() * weights).sum(1)


PAIRS = {
    "closure": (lambda: scaled(1), lambda: scaled(5)),
    "closure of a closure": (lambda: calls(scaled(1)), lambda: calls(scaled(5))),
    "kind of number": (lambda: scaled(1), lambda: scaled(1.0)),
    "partial argument": (
        lambda: functools.partial(by_default, factor=1),
        lambda: functools.partial(by_default, factor=5),
    ),
    "object": (lambda: Criterion(1), lambda: Criterion(5)),
    "bound method": (lambda: Criterion(1).method, lambda: Criterion(5).method),
    "criterion": (lambda: Smooth(0.0), lambda: Smooth(0.1)),
    "weights of a network": (lambda: with_teacher(1.0), lambda: with_teacher(1.001)),
    "constant": (lambda: lambda m, b: 1 * m(b[0]).sum(1), lambda: lambda m, b: 5 * m(b[0]).sum(1)),
    "operation": (lambda: lambda m, b: m(b[0]).sum(1), lambda: lambda m, b: m(b[0]).mean(1)),
    "tensor": (
        lambda: calls(functools.partial(distilled, weights=torch.ones(3))),
        lambda: calls(functools.partial(distilled, weights=torch.tensor([1.0, 1, 2]))),
    ),
    "default": (lambda: with_default(1), lambda: with_default(5)),
}


def with_default(value):
    def loss(model, batch, *, factor=value):
        return factor * model(batch[0]).sum(1)

    return loss


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS)
def test_the_digest_of_a_loss_tells_what_it_computes(one, other):
    assert digest_of(one()) == digest_of(one()) is not None
    assert digest_of(one()) != digest_of(other()) is not None


def test_the_digest_of_a_function_made_by_a_library_follows_its_closure(monkeypatch):
    def scaled(factor):
        return lambda model, batch: factor * model(batch)

    losses = [scaled(1), scaled(1), scaled(5)]
    for loss in losses:
        loss.__module__ = "torch.nn.functional"
    one, same, other = map(digest_of, losses)
    assert one == same != other


def test_the_digest_follows_global_values(monkeypatch):
    before = digest_of(calls(uses_global))
    monkeypatch.setitem(globals(), "SCALE", 5.0)
    assert digest_of(calls(uses_global)) != before


def test_the_digest_follows_values_of_modules_inside_modules(monkeypatch):
    outer, inner = (types.ModuleType(name) for name in ("settings_of_tests", "settings_of_tests.inner"))
    outer.inner, inner.factor, inner.outer = inner, 1.0, outer
    monkeypatch.setitem(globals(), "settings", outer)
    loss = lambda model, batch: settings.inner.factor * model(batch[0]).sum(1)  # noqa: F821, E731
    before = digest_of(loss)
    assert digest_of(loss) == before is not None
    inner.factor = 5.0
    assert digest_of(loss) != before is not None


@pytest.mark.parametrize(
    "make", [lambda: Criterion(1), lambda: functools.partial(by_default, factor=1), lambda: Smooth(0.1)]
)
def test_a_loss_is_called_the_same_in_every_process_and_goes_on(make, tmp_path, small):
    model, data = small
    plane, path = ll.random_plane(model, seed=1), tmp_path / "points.npz"
    found = [
        ll.evaluate(ll.objective(model, data, loss=make()), plane, resolution=3, resume=path, progress=False)
        for _ in range(2)
    ]
    assert " at 0x" not in str(found[0].metadata["identity"])
    np.testing.assert_array_equal(found[0].loss, found[1].loss)
    assert found[1].metadata["resumed_points"] == 9


@pytest.mark.parametrize("make", [threading.Lock, lambda: (n for n in "ab"), lambda: open(__file__, "rb")])  # noqa: SIM115
def test_what_cannot_be_told_has_no_digest(make):
    held = make()
    assert digest_of(lambda model, batch: held) is None


@pytest.fixture
def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), (torch.randn(21, 4), torch.arange(21) % 3)


def stored(path, small, loss="cross_entropy", **options):
    model, data = small
    target = ll.objective(model, data, loss=loss, device="cpu")
    return ll.load_or_evaluate(
        path, target, ll.random_plane(model, seed=1), progress=False, **{"resolution": 3, **options}
    )


def test_a_loss_with_another_coefficient_is_computed_again(tmp_path, small):
    one, again, five = (stored(tmp_path / "s.npz", small, scaled(factor)) for factor in (1, 1, 5))
    assert again.metadata["seconds"] == one.metadata["seconds"]
    np.testing.assert_allclose(five.loss, 5 * one.loss, rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_other_code_is_told_by_its_first_losses_however_small(tmp_path, small, scale):
    """The network's own code is no part of the identity; what it computes on the first samples is."""
    model, data = small

    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.inner, self.factor = model, factor

        def forward(self, x):
            return self.factor * self.inner(x)

    found = []
    for factor in (1.0, 1.1):
        target = ll.objective(Scaled(factor), data, loss=lambda m, b: scale * m(b[0]).square().sum(1), device="cpu")
        plane = ll.random_plane(Scaled(factor), seed=1)
        found.append(ll.load_or_evaluate(tmp_path / "s.npz", target, plane, resolution=3, progress=False))
    np.testing.assert_allclose(found[1].loss, 1.21 * found[0].loss, rtol=1e-5)


def test_a_loss_that_cannot_be_identified_is_computed_every_time_and_not_resumed(tmp_path, small):
    lock = threading.Lock()

    def loss(model, batch):
        with lock:
            return F.cross_entropy(model(batch[0]), batch[1], reduction="none")

    one, again = (stored(tmp_path / "s.npz", small, loss) for _ in range(2))
    np.testing.assert_allclose(again.loss, one.loss, rtol=1e-6)
    assert again.metadata["seconds"] != one.metadata["seconds"]
    model, data = small
    with pytest.raises(ll.InputError, match="resume cannot be used with this loss"):
        ll.evaluate(ll.objective(model, data, loss=loss), ll.random_plane(model), resume=tmp_path / "r.npz")


def said(tolerance, *, reached=True, bound=0.01, budget=None, method="cubic"):
    return {"tolerance": tolerance, "reached": reached, "error_bound": bound, "budget": budget, "method": method}


@pytest.mark.parametrize(
    ("found", "tolerance", "budget", "expected"),
    [
        (None, None, None, True),
        (None, 0.01, None, True),
        (said(0.01, method=None), None, None, True),
        (said(0.01), None, None, False),
        (said(0.01), 0, None, False),
        (said(0.01), 0.01, None, True),
        (said(0.01), 0.02, None, True),
        (said(0.02, bound=0.02), 0.01, None, False),
        (said("noise"), "noise", None, True),
        (said("noise"), 0.01, None, False),
        (said(0.01), "noise", None, False),
        (said(0.01, reached=False, bound=0.3, budget=5), 0.01, None, False),
        (said(0.01, reached=False, bound=0.3, budget=5), 0.01, 60, False),
        (said(0.01, reached=False, bound=0.3, budget=60), 0.01, 60, True),
        (said(0.05, reached=False, bound=0.3, budget=60), 0.01, 60, False),
        (said(0.01, reached=False, bound=0.03, budget=5), 0.05, None, True),
        (said("noise", reached=False, bound=0.3, budget=5), "noise", None, False),
    ],
)
def test_a_stored_surface_serves_calls_that_ask_for_no_more(found, tolerance, budget, expected):
    assert (shortfall(found, tolerance, budget) is None) is expected


@pytest.mark.usefixtures("patient_planner")
def test_a_surface_cut_short_by_a_budget_is_not_served_to_a_call_without_one(tmp_path, small):
    path, asked = tmp_path / "s.npz", {"resolution": (31, 27), "tolerance": 1e-6}
    short = stored(path, small, budget=1e-6, **asked)
    assert not short.metadata["interpolation"]["reached"]
    assert stored(path, small, budget=1e-6, **asked).metadata["seconds"] == short.metadata["seconds"]
    whole = stored(path, small, **asked)
    assert whole.metadata["interpolation"]["reached"] and whole.evaluated.sum() > short.evaluated.sum()


@pytest.mark.usefixtures("patient_planner")
def test_a_killed_run_under_a_budget_goes_on_with_its_plan(tmp_path, monkeypatch):

    arguments = {"input_shape": (1, 8, 8), "classes": 10}
    ll.save_checkpoint(
        tmp_path / "c.pth", ll.build_model("tiny-cnn", **arguments), model_name="tiny-cnn", model_arguments=arguments,
        data={"name": "digits", "split": "train", "limit": 400, "source": "scikit-learn"},
        epoch=1, metrics={}, settings={},
    )  # fmt: skip
    checkpoint, path = ll.load_checkpoint(tmp_path / "c.pth"), tmp_path / "out" / "surface.npz"
    data = ll.cli.load_checkpoint_data(checkpoint, "train", tmp_path)
    conditions = ll.cli.Conditions(ll.cli.PlaneChoice(resolution=25), ll.cli.Evaluation(device="cpu"))
    plain_plan, plans = ll.cli.plan_budget, []
    monkeypatch.setattr("landscape.cli.budget.plan_budget", lambda *a, **k: plans.append(1) or plain_plan(*a, **k))
    plain_save, saves = module.save_progress, []

    def killed(*arguments):
        plain_save(*arguments)
        saves.append(1)
        if len(saves) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_progress", killed)

    def run():
        [samples], settled = ll.cli.settle_budget("60s", [path], [checkpoint], [data], conditions)
        return ll.cli.checkpoint_surface(path, checkpoint, samples, settled, progress=False)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert len(list(path.parent.iterdir())) == 2  # the plan and the finished points
    surface = run()
    assert len(plans) == 1 and surface.metadata["resumed_points"] > 0
    assert [file.name for file in path.parent.iterdir()] == ["surface.npz"]
    assert run().metadata["seconds"] == surface.metadata["seconds"] and len(plans) == 1


def test_a_coefficient_that_the_network_holds_belongs_to_the_loss():
    def decayed(model, batch):
        return model(batch[0]).square().mean(1) + model.decay * model[0].weight.square().sum()

    model = nn.Sequential(nn.Linear(4, 3))
    data = (torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(9))
    identities = []
    for decay in (1e-6, 1e-6, 2e-6):
        model.decay = decay
        identities.append(objective_identity(ll.objective(model, data, loss=decayed, device="cpu")))
    first, again, other = identities
    assert difference(first, again) is None
    assert "decay" in difference(first, other)
